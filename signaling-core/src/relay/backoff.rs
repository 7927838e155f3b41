//! Pauses between attempts.

use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;

const FIRST: Duration = Duration::from_millis(100);
/// Shorter than a lease lasts, so that a node which can renew its lease again does so in time.
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double up to a longest one; from 100 ms to 2 s by default. An attempt that succeeds resets
/// them.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::between(FIRST, LONGEST)
    }
}

impl Backoff {
    pub(super) const fn between(first: Duration, longest: Duration) -> Self {
        Self { first, longest, pause: first }
    }

    pub(super) fn reset(&mut self) {
        self.pause = self.first;
    }

    /// How long to wait before the next attempt.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// The same, for a wait that begins now: the next pause is longer.
    pub(super) fn next_pause(&mut self) -> Duration {
        let next = self.longest.min(self.pause * 2);
        std::mem::replace(&mut self.pause, next)
    }

    /// Waits before the next attempt. Returns false if `stopped` was cancelled: do not try again.
    #[must_use]
    pub(super) async fn wait(&mut self, stopped: &CancellationToken) -> bool {
        stopped.run_until_cancelled(time::sleep(self.next_pause())).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_two_seconds_and_begin_again_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..7).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.next_pause(), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait() {
        let (mut backoff, stopped) = (Backoff::default(), CancellationToken::new());
        assert!(backoff.wait(&stopped).await);
        stopped.cancel();
        assert!(!backoff.wait(&stopped).await);
    }
}
