//! Pairs that are there before the storm, and go on talking.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use futures::future::try_join_all;
use tokio::{
    runtime,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    client::Payload,
    contender::Contender,
    deployment::Entry,
    figures::Tally,
    scenario::{
        Done, micros, now,
        pairs::{self, Pair},
    },
};

/// How many pairs.
const PAIRS: usize = 16;
/// Between one candidate of a pair and the next.
const GAP: Duration = Duration::from_millis(20);
/// A candidate that takes longer ends the run.
const LIMIT: Duration = Duration::from_secs(30);

/// They have a thread of their own, so that their latency is the server's and not that of the
/// storm's clients.
pub(super) struct Bystanders {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Exchange>, String>>,
}

/// When a candidate was meant to go, and when it came.
type Exchange = (Instant, Instant);

impl Bystanders {
    /// In rooms from `first_room` on; returns when they are connected.
    pub(super) fn start(contender: Contender, at: Entry, first_room: usize) -> Done<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let rooms = first_room..first_room + PAIRS;
        let seen = over.clone();
        let thread = thread::spawn(move || {
            let talk = async {
                let pairs = pairs::talking(contender, at, rooms).await?;
                let began = now();
                let talking = pairs.into_iter().map(|pair| talk(pair, began, &seen));
                Done::Ok(try_join_all(talking).await?.concat())
            };
            runtime.block_on(talk).map_err(|error| format!("who was there already: {error}"))
        });
        Ok(Self { over, thread })
    }

    /// The latencies of what was meant to go in that time.
    pub(super) fn stop(self, from: Instant, until: Instant) -> Done<Tally> {
        self.over.store(true, Ordering::Relaxed);
        let exchanges = self.thread.join().map_err(|_| "the thread panicked")??;
        let within = exchanges.iter().filter(|(meant, _)| (from..until).contains(meant));
        let latencies_us = within.map(|(meant, came)| micros(*meant, *came)).collect();
        Ok(Tally { latencies_us, ..Tally::default() })
    }
}

async fn talk(mut pair: Pair, began: Instant, over: &AtomicBool) -> Done<Vec<Exchange>> {
    let mut exchanges = Vec::new();
    for n in 1.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let meant = began + GAP * n;
        sleep_until(meant).await;
        let [from, to] = &mut pair;
        from.send(&from.prepare(Payload::Candidate)?, n).await?;
        timeout(LIMIT, to.receive()).await??;
        exchanges.push((meant, now()));
        pair.reverse();
    }
    Ok(exchanges)
}
