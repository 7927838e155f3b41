//! Signals at a fixed rate: latency as a user has it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use tokio::task::{self, LocalSet};

use super::{
    Done, Run, micros, now,
    pace::Pace,
    pairs::{self, Pair},
    window::Window,
};
use crate::{
    client::Payload,
    figures::{Figures, Tally},
};

/// The last ones may take this long.
const LATEST: Duration = Duration::from_secs(5);

pub(super) async fn paced(run: Run<'_>, rate: u32) -> Done<Figures> {
    let pairs = pairs::talking(run.contender, run.servers.entry(), 0..run.pairs).await?;
    LocalSet::new().run_until(send(run, pairs, rate)).await
}

async fn send(run: Run<'_>, pairs: Vec<Pair>, rate: u32) -> Done<Figures> {
    let (mut senders, receivers): (Vec<_>, Vec<_>) = pairs.into_iter().map(|[a, b]| (a, b)).unzip();
    let signals = senders.iter().map(|sender| sender.prepare(Payload::Candidate));
    let signals = signals.collect::<Done<Vec<_>>>()?;
    // In turn over all pairs, so a signal's number says when it was meant to go.
    let (window, pace) = (Window::of(run.length), Pace::per_second(rate));
    let tally = Rc::new(RefCell::new(Tally::default()));
    let received = Rc::new(Cell::new(0_u32));
    for mut receiver in receivers {
        let (tally, received) = (tally.clone(), received.clone());
        task::spawn_local(async move {
            while let Ok(n) = receiver.receive().await {
                received.set(received.get() + 1);
                if window.has(pace.meant(n)) {
                    tally.borrow_mut().latencies_us.push(micros(pace.meant(n), now()));
                }
            }
        });
    }
    let sending = pace.in_turn(window.until, async |n, _| {
        let room = n as usize % senders.len();
        senders[room].send(&signals[room], n).await
    });
    let (used, sent) = futures::future::try_join(window.watch(run.servers), sending).await?;
    let late = now() + LATEST;
    while received.get() < sent {
        if now() >= late {
            return Err(format!("{} of {sent} came", received.get()).into());
        }
        task::yield_now().await;
    }
    used.each_of(tally.take())
}
