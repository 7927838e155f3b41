//! What one user may send and how often it may connect: the generic cell rate algorithm (ITU-T
//! I.371, annex A), which needs one instant for each limit.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::config::Config;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Refused,
    /// As many messages again as are accepted were refused.
    Exhausted,
}

/// The limits of one user. All its connections share them, so that a new one does not lift them.
#[derive(Debug)]
pub(crate) struct UserLimits(Mutex<Limits>);

#[derive(Debug)]
struct Limits {
    connects: Bucket,
    signals: Messages,
    signal_bytes: Bucket,
    others: Messages,
}

impl UserLimits {
    /// Nothing is used at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Limits {
            connects: Bucket::new(now),
            signals: Messages::new(now),
            signal_bytes: Bucket::new(now),
            others: Messages::new(now),
        }))
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one connection; false when it is one too many.
    #[must_use]
    pub(crate) fn take_connect(&self, now: Instant, config: &Config) -> bool {
        let rate = Rate::per_minute(config.max_connects_per_minute, config.connect_burst);
        rate.is_none_or(|rate| self.limits().connects.take(now, 1, rate))
    }

    /// Counts one signal of so many bytes.
    pub(super) fn take_signal(&self, bytes: usize, now: Instant, config: &Config) -> Verdict {
        let Limits { signals, signal_bytes, .. } = &mut *self.limits();
        let (bytes, rate) = (bytes as u64, Rate::bytes(config));
        if rate.is_some_and(|rate| !signal_bytes.has_room(now, bytes, rate)) {
            return signals.refuse(now, config);
        }
        let verdict = signals.take(now, config);
        if let (Verdict::Accepted, Some(rate)) = (verdict, rate) {
            signal_bytes.add(now, bytes, rate);
        }
        verdict
    }

    /// Counts one message that is not a signal.
    pub(super) fn take_other(&self, now: Instant, config: &Config) -> Verdict {
        self.limits().others.take(now, config)
    }

    /// How long it takes at most until nothing that was used counts any more.
    pub(crate) fn recovery(config: &Config) -> Duration {
        let connects = Rate::per_minute(config.max_connects_per_minute, config.connect_burst);
        let rates = [connects, Rate::messages(config), Rate::bytes(config)];
        rates.into_iter().flatten().map(Rate::recovery).max().unwrap_or_default()
    }
}

/// A limit on messages, and one of the same size on those that it refuses.
#[derive(Debug)]
struct Messages {
    accepted: Bucket,
    refused: Bucket,
}

impl Messages {
    fn new(now: Instant) -> Self {
        Self { accepted: Bucket::new(now), refused: Bucket::new(now) }
    }

    fn take(&mut self, now: Instant, config: &Config) -> Verdict {
        match Rate::messages(config) {
            Some(rate) if !self.accepted.take(now, 1, rate) => self.refuse(now, config),
            _ => Verdict::Accepted,
        }
    }

    fn refuse(&mut self, now: Instant, config: &Config) -> Verdict {
        match Rate::messages(config) {
            Some(rate) if !self.refused.take(now, 1, rate) => Verdict::Exhausted,
            _ => Verdict::Refused,
        }
    }
}

/// So many units in `period`, and `burst` of them at once.
#[derive(Debug, Clone, Copy)]
struct Rate {
    units: u64,
    period: Duration,
    burst: u64,
}

impl Rate {
    /// None where the rate is 0, which lifts the limit.
    fn new(units: u64, period: Duration, burst: u64) -> Option<Self> {
        (units > 0).then_some(Self { units, period, burst })
    }

    fn messages(config: &Config) -> Option<Self> {
        let Config { max_signals_per_second, signal_burst, .. } = *config;
        Self::new(max_signals_per_second.into(), Duration::from_secs(1), signal_burst.into())
    }

    fn bytes(config: &Config) -> Option<Self> {
        let Config { max_signal_bytes_per_second, signal_byte_burst, .. } = *config;
        Self::new(
            max_signal_bytes_per_second.into(),
            Duration::from_secs(1),
            signal_byte_burst.into(),
        )
    }

    fn per_minute(connects: u32, burst: u32) -> Option<Self> {
        Self::new(connects.into(), Duration::from_secs(60), burst.into())
    }

    /// In what time the rate allows `units`.
    fn time_for(self, units: u64) -> Duration {
        let nanos = self.period.as_nanos() * u128::from(units) / u128::from(self.units);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn recovery(self) -> Duration {
        self.time_for(self.burst)
    }
}

/// When the rate has made up for all that was taken.
#[derive(Debug)]
struct Bucket(Instant);

impl Bucket {
    fn new(now: Instant) -> Self {
        Self(now)
    }

    fn has_room(&self, now: Instant, units: u64, rate: Rate) -> bool {
        self.0.saturating_duration_since(now) + rate.time_for(units) <= rate.recovery()
    }

    fn add(&mut self, now: Instant, units: u64, rate: Rate) {
        self.0 = self.0.max(now) + rate.time_for(units);
    }

    fn take(&mut self, now: Instant, units: u64, rate: Rate) -> bool {
        let ok = self.has_room(now, units, rate);
        if ok {
            self.add(now, units, rate);
        }
        ok
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the first")]
mod tests {
    use super::*;

    fn taken(limits: &UserLimits, now: Instant, n: usize) -> [usize; 3] {
        signals(limits, now, n, 100)
    }

    fn signals(limits: &UserLimits, now: Instant, n: usize, bytes: usize) -> [usize; 3] {
        let config = Config::default();
        let mut counts = [0; 3];
        for _ in 0..n {
            counts[limits.take_signal(bytes, now, &config) as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_burst_is_accepted_and_as_much_again_refused() {
        let now = Instant::now();
        assert_eq!(taken(&UserLimits::new(now), now, 500), [200, 200, 100]);
    }

    #[test]
    fn a_second_brings_fifty() {
        let now = Instant::now();
        let limits = UserLimits::new(now);
        assert_eq!(taken(&limits, now, 200), [200, 0, 0]);
        assert_eq!(taken(&limits, now + Duration::from_secs(1), 60), [50, 10, 0]);
        assert_eq!(taken(&limits, now + Duration::from_secs(600), 210), [200, 10, 0]);
    }

    #[test]
    fn a_burst_of_bytes_is_accepted_and_what_is_beyond_it_refused() {
        let now = Instant::now();
        let limits = UserLimits::new(now);
        // 512 KiB at once, of which 64 KiB are back after a second.
        assert_eq!(signals(&limits, now, 40, 60_000), [8, 32, 0]);
        assert_eq!(taken(&limits, now, 100), [100, 0, 0]);
        let later = now + Duration::from_secs(1);
        assert_eq!(signals(&limits, later, 3, 60_000), [1, 2, 0]);
        let recovered = later + UserLimits::recovery(&Config::default());
        assert_eq!(signals(&limits, recovered, 1, 512 * 1024), [1, 0, 0]);
    }

    #[test]
    fn what_is_refused_for_its_bytes_does_not_count_as_a_message() {
        let now = Instant::now();
        let limits = UserLimits::new(now);
        assert_eq!(signals(&limits, now, 1, 512 * 1024), [1, 0, 0]);
        assert_eq!(signals(&limits, now, 50, 1000), [0, 50, 0]);
        let later = now + Duration::from_secs(8);
        assert_eq!(signals(&limits, later, 200, 1000), [200, 0, 0]);
    }

    #[test]
    fn connects_have_a_burst_and_a_rate() {
        let (now, config) = (Instant::now(), Config::default());
        let limits = UserLimits::new(now);
        let connects = |now, n| (0..n).filter(|_| limits.take_connect(now, &config)).count();
        assert_eq!(connects(now, 100), 20);
        assert_eq!(connects(now + Duration::from_secs(5), 100), 5);
        assert_eq!(connects(now + Duration::from_secs(60), 100), 20);
    }

    #[test]
    fn all_is_recovered_in_time() {
        let (now, config) = (Instant::now(), Config::default());
        let limits = UserLimits::new(now);
        while limits.take_connect(now, &config) {}
        let _ = signals(&limits, now, 500, 10_000);
        let recovered = now + UserLimits::recovery(&config);
        assert_eq!(taken(&limits, recovered, 500), [200, 200, 100]);
        assert_eq!((0..100).filter(|_| limits.take_connect(recovered, &config)).count(), 20);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let (now, mut config) = (Instant::now(), Config::default());
        config.max_signals_per_second = 0;
        config.max_signal_bytes_per_second = 0;
        config.max_connects_per_minute = 0;
        let limits = UserLimits::new(now);
        let accepted = |_| limits.take_signal(60_000, now, &config) == Verdict::Accepted;
        assert!((0..100_000).all(accepted));
        assert!((0..100_000).all(|_| limits.take_connect(now, &config)));
    }
}
