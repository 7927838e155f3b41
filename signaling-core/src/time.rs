//! Wall time, for what nodes, stores and hosts must agree on. Deadlines of one connection use the
//! monotonic clock instead and never see a [`Timestamp`].

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Milliseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `duration` later, or the last one that can be told.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The moment `duration` earlier, or the Unix epoch.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(0).after(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// Where wall time comes from. Tests bring a clock of their own; everyone else takes
/// [`SystemClock`].
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The time now. It may step back when the system's clock is set.
    fn now(&self) -> Timestamp;
}

/// A time that was read once and goes on by the monotonic clock: it does not jump when the system's
/// clock is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SteadyClock {
    read: Timestamp,
    at: Instant,
}

impl SteadyClock {
    /// A clock that showed `read` at `at`.
    pub(crate) fn new(read: Timestamp, at: Instant) -> Self {
        Self { read, at }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// What it showed, or will show, at `moment`.
    pub(crate) fn at(&self, moment: Instant) -> Timestamp {
        match moment.checked_duration_since(self.at) {
            Some(later) => self.read.after(later),
            None => self.read.before(self.at.duration_since(moment)),
        }
    }
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads wall time")]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}
