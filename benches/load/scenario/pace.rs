//! Beginning things at a fixed rate, whatever became of those before.

use std::time::Duration;

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{task, time::Instant};

use super::{Done, now};

/// The moments at which something is meant to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    first: Instant,
    gap: Duration,
}

impl Pace {
    /// From now on, so many a second.
    pub(super) fn per_second(rate: u32) -> Self {
        Self { first: now(), gap: Duration::from_secs(1) / rate }
    }

    pub(super) fn meant(self, n: u32) -> Instant {
        self.first + self.gap * n
    }

    /// Does one after the other until then, given its number and when it was meant to begin; says how many.
    pub(super) async fn in_turn(
        self,
        until: Instant,
        mut act: impl AsyncFnMut(u32, Instant) -> Done<()>,
    ) -> Done<u32> {
        let mut next = 0;
        while self.meant(next) < until {
            let meant = self.meant(next);
            // No timer is fine enough: this core is ours, and what was spawned here goes on in between.
            while now() < meant {
                task::yield_now().await;
            }
            act(next, meant).await?;
            next += 1;
        }
        Ok(next)
    }

    /// Begins one after the other until then, given its number and when it was meant to begin, and
    /// waits for all.
    pub(super) async fn run<F>(self, until: Instant, begin: impl Fn(u32, Instant) -> F) -> Done<()>
    where
        F: Future<Output = Done<()>>,
    {
        let mut running = FuturesUnordered::new();
        for n in 0.. {
            let meant = self.meant(n);
            if meant >= until {
                break;
            }
            while now() < meant {
                if let Some(Some(done)) = running.next().now_or_never() {
                    done?;
                }
                task::yield_now().await;
            }
            running.push(begin(n, meant));
        }
        while let Some(done) = running.next().await {
            done?;
        }
        Ok(())
    }
}
