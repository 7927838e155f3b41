//! Through the engine, between two clients in memory.

use divan::{Bencher, counter::ItemsCount};
use signaling_core::frame::Text;
use tokio::runtime::{Builder, Runtime};

use crate::{
    stage::{Stage, User},
    texts,
};

/// Candidates in one go, so that entering the runtime does not count.
const CANDIDATES: usize = 480;

/// Pairs that call in turn: what is left to be written of a call is, before its users come again.
const PAIRS: usize = 100;

/// A candidate of 300 bytes from one to the other, so many at once. An item is a candidate.
#[divan::bench(args = [1, 16])]
fn relay(bencher: Bencher<'_, '_>, at_once: usize) {
    let runtime = runtime();
    let session = texts::session(0);
    let text = Text::from(texts::candidate(&session));
    let (_stage, [ann, bob]) = runtime.block_on(async {
        let stage = Stage::start().await;
        let callers = stage.connect(&session, [&User::new(0), &User::new(1)]).await;
        (stage, callers)
    });
    bencher.counter(ItemsCount::new(CANDIDATES)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..CANDIDATES / (2 * at_once) {
                ann.send(&bob, &text, at_once).await;
                bob.send(&ann, &text, at_once).await;
            }
        });
    });
}

/// A session opened; both users verified, connected and told of their match; one leaves, the other
/// is told, both close.
#[divan::bench]
fn call(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let stage = runtime.block_on(Stage::start());
    let users = User::pairs(PAIRS);
    let mut turns = users.iter().cycle().enumerate();
    bencher.bench_local(|| {
        if let Some((number, [ann, bob])) = turns.next() {
            runtime.block_on(stage.call(&texts::session(number), [ann, bob]));
        }
    });
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}
