//! Log lines that may come in floods: how many of them are written.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How often the engine logs a warning of the same kind.
pub(crate) const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Lets a few log lines of a kind through, then one in an interval, and counts the others.
///
/// ```
/// use std::time::Duration;
///
/// use signaling_core::log::Throttle;
///
/// static REFUSED: Throttle = Throttle::new(1, Duration::from_secs(10));
///
/// if let Some(suppressed) = REFUSED.pass("expired") {
///     tracing::warn!(suppressed, "token refused");
/// }
/// # assert_eq!(REFUSED.pass("expired"), None);
/// ```
#[derive(Debug)]
pub struct Throttle {
    burst: u32,
    interval: Duration,
    kinds: Mutex<BTreeMap<&'static str, Kind>>,
}

#[derive(Debug)]
struct Kind {
    /// How many lines may be written now.
    left: u32,
    /// When one more may be written.
    next: Instant,
    suppressed: u64,
}

impl Throttle {
    /// Of each kind, `burst` lines at once, at least one, and one more each `interval`.
    #[must_use]
    pub const fn new(burst: u32, interval: Duration) -> Self {
        let burst = if burst == 0 { 1 } else { burst };
        Self { burst, interval, kinds: Mutex::new(BTreeMap::new()) }
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<&'static str, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line of this kind may be written, and how many before it were not. Kinds are fixed
    /// texts, so there are few.
    #[must_use]
    pub fn pass(&self, kind: &'static str) -> Option<u64> {
        let mut kinds = self.kinds();
        let now = Instant::now();
        let (burst, next) = (self.burst, now + self.interval);
        let kind = kinds.entry(kind).or_insert(Kind { left: burst, next, suppressed: 0 });
        while kind.next <= now && kind.left < burst {
            kind.left += 1;
            kind.next += self.interval;
        }
        if kind.left == 0 {
            kind.suppressed = kind.suppressed.saturating_add(1);
            return None;
        }
        if kind.left == burst {
            kind.next = next;
        }
        kind.left -= 1;
        Some(std::mem::take(&mut kind.suppressed))
    }

    /// The kinds of which lines were suppressed and another one may be written, with the number
    /// suppressed. Asked from time to time, no number stays untold when the flood is over.
    #[must_use]
    pub fn overdue(&self) -> Vec<(&'static str, u64)> {
        let now = Instant::now();
        let mut kinds = self.kinds();
        let due = kinds.iter_mut().filter(|(_, kind)| kind.suppressed > 0 && kind.next <= now);
        let due = due.map(|(name, kind)| {
            kind.next = now + self.interval;
            (*name, std::mem::take(&mut kind.suppressed))
        });
        due.collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_few_pass_at_once_and_then_one_in_an_interval_with_the_number_suppressed() {
        let throttle = Throttle::new(2, INTERVAL);
        assert_eq!([(); 5].map(|()| throttle.pass("a")), [Some(0), Some(0), None, None, None]);
        assert_eq!(throttle.pass("b"), Some(0), "kinds do not suppress each other");
        time::advance(INTERVAL).await;
        assert_eq!([(); 2].map(|()| throttle.pass("a")), [Some(3), None]);
        time::advance(INTERVAL * 10).await;
        assert_eq!([(); 3].map(|()| throttle.pass("a")), [Some(1), Some(0), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_suppressed_last_is_told_as_well_and_once() {
        let throttle = Throttle::new(1, INTERVAL);
        for _ in 0..4 {
            let _ = throttle.pass("a");
        }
        assert_eq!(throttle.overdue(), []);
        time::advance(INTERVAL).await;
        assert_eq!(throttle.overdue(), [("a", 3)]);
        assert_eq!(throttle.overdue(), []);
        assert_eq!(throttle.pass("a"), None, "that line counts as one");
        time::advance(INTERVAL).await;
        assert_eq!(throttle.pass("a"), Some(1));
    }
}
