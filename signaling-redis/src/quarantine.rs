//! Reports what Redis holds under our keys and no version of this library writes. It is skipped or
//! rebuilt where it is found; here it is counted, and logged once.

use std::{
    collections::HashSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use signaling_core::log::Throttle;

/// Items that are remembered as logged. When there are more, all are forgotten.
const REMEMBERED: usize = 4096;
/// The most characters of an item's name in a log line.
const SHOWN: usize = 128;
/// Log lines at once; further items are counted only.
const LINES: u32 = 20;
/// For each further line.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// The unreadable items that one client of Redis found.
#[derive(Debug)]
pub(crate) struct Quarantine {
    found: AtomicU64,
    logged: Mutex<HashSet<u64>>,
    lines: Throttle,
}

impl Quarantine {
    pub(crate) fn new() -> Self {
        Self {
            found: AtomicU64::new(0),
            logged: Mutex::default(),
            lines: Throttle::new(LINES, LINE_INTERVAL),
        }
    }

    /// An item under `key` cannot be read: the whole key, or the member, field or entry `item` of it.
    pub(crate) fn report(&self, key: &str, item: Option<&[u8]>, cause: &dyn fmt::Display) {
        let item = item.map(|item| String::from_utf8_lossy(&item[..item.len().min(SHOWN)]));
        if let Some(suppressed) = self.note(key, item.as_deref()) {
            let (item, error, found) = (item.as_deref(), cause.to_string(), self.found());
            tracing::error!(
                key,
                item,
                error,
                found,
                suppressed,
                "unreadable data in Redis; skipped"
            );
        }
    }

    /// How often an unreadable item was found.
    pub(crate) fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// How many items were not logged before, if this one is to be logged.
    fn note(&self, key: &str, item: Option<&str>) -> Option<u64> {
        self.found.fetch_add(1, Ordering::Relaxed);
        let mut hasher = DefaultHasher::new();
        (key, item).hash(&mut hasher);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() >= REMEMBERED {
            logged.clear();
        }
        let new = logged.insert(hasher.finish());
        new.then(|| self.lines.pass("unreadable")).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_logged_once_and_a_flood_of_them_is_counted() {
        let quarantine = Quarantine::new();
        assert_eq!(quarantine.note("k", None), Some(0));
        assert_eq!(quarantine.note("k", None), None);
        assert_eq!(quarantine.note("k", Some("f")), Some(0));
        let items = (0..10_000).map(|n| n.to_string());
        let logged = items.filter_map(|item| quarantine.note("k", Some(&item))).count();
        assert_eq!(logged, LINES as usize - 2);
        assert!(quarantine.logged.lock().unwrap().len() <= REMEMBERED);
        assert_eq!(quarantine.found(), 10_003);
    }
}
