//! How many messages a client may send: the generic cell rate algorithm (ITU-T I.371, annex A),
//! which needs one instant for each limit.

use std::time::{Duration, Instant};

use crate::config::Config;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Refused,
    /// As much again as is accepted was refused.
    Exhausted,
}

#[derive(Debug)]
pub(super) struct RateLimit {
    accepted: Cell,
    refused: Cell,
}

impl RateLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self { accepted: Cell(now), refused: Cell(now) }
    }

    /// Counts one message.
    pub(super) fn take(&mut self, now: Instant, config: &Config) -> Verdict {
        if config.max_signals_per_second == 0 {
            return Verdict::Accepted;
        }
        let interval = Duration::from_secs(1) / config.max_signals_per_second;
        if self.accepted.take(now, interval, config.signal_burst) {
            Verdict::Accepted
        } else if self.refused.take(now, interval, config.signal_burst) {
            Verdict::Refused
        } else {
            Verdict::Exhausted
        }
    }
}

/// When all that was taken is paid off.
#[derive(Debug)]
struct Cell(Instant);

impl Cell {
    fn take(&mut self, now: Instant, interval: Duration, burst: u32) -> bool {
        let due = self.0.max(now);
        let ok = due - now <= interval * (burst - 1);
        if ok {
            self.0 = due + interval;
        }
        ok
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the first")]
mod tests {
    use super::*;

    fn taken(limit: &mut RateLimit, now: Instant, n: usize) -> [usize; 3] {
        let config = Config::default();
        let mut counts = [0; 3];
        for _ in 0..n {
            counts[limit.take(now, &config) as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_burst_is_accepted_and_as_much_again_refused() {
        let now = Instant::now();
        assert_eq!(taken(&mut RateLimit::new(now), now, 500), [200, 200, 100]);
    }

    #[test]
    fn a_second_brings_fifty() {
        let now = Instant::now();
        let mut limit = RateLimit::new(now);
        assert_eq!(taken(&mut limit, now, 200), [200, 0, 0]);
        assert_eq!(taken(&mut limit, now + Duration::from_secs(1), 60), [50, 10, 0]);
        assert_eq!(taken(&mut limit, now + Duration::from_secs(600), 210), [200, 10, 0]);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let (now, mut config) = (Instant::now(), Config::default());
        config.max_signals_per_second = 0;
        let mut limit = RateLimit::new(now);
        assert!((0..100_000).all(|_| limit.take(now, &config) == Verdict::Accepted));
    }
}
