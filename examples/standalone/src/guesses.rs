//! Wrong API keys: answered ever more slowly, and said in the log.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use signaling_core::log::Throttle;
use tokio::time::Instant;

/// Wrong keys from one address that are answered at once.
const BURST: u32 = 30;
/// For each beyond, one in this time is answered.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest that an answer waits: under the time limit of a request.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Addresses that are remembered, each until it has sent no wrong key for up to 35 s.
const MAX_ADDRESSES: usize = 4096;
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// Who sent wrong keys of late. A right key is never looked for here, so that nobody who has it is
/// kept out, whoever else is behind the same address.
#[derive(Debug)]
pub(crate) struct Guesses {
    table: Mutex<Table>,
    warnings: Throttle,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { table: Mutex::default(), warnings: Throttle::new(1, BETWEEN_WARNINGS) }
    }
}

#[derive(Debug, Default)]
struct Table {
    /// When all that came from an address is paid off.
    addresses: HashMap<IpAddr, Instant>,
}

/// What to do about a wrong key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How long its answer waits.
    pub(crate) pause: Duration,
    /// How many wrong keys a warning has to tell of, if it is time for one.
    pub(crate) warn_of: Option<u64>,
}

impl Guesses {
    /// Counts a wrong key that came from `address` at `now`.
    pub(crate) fn count(&self, address: IpAddr, now: Instant) -> Verdict {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let warn_of = self.warnings.pass("wrong key").map(|suppressed| suppressed + 1);
        Verdict { pause: table.pause(network(address), now), warn_of }
    }
}

impl Table {
    fn pause(&mut self, address: IpAddr, now: Instant) -> Duration {
        let known = self.addresses.get(&address).copied();
        if known.is_none() && self.addresses.len() >= MAX_ADDRESSES {
            self.addresses.retain(|_, due| *due > now);
            if self.addresses.len() >= MAX_ADDRESSES {
                return MAX_PAUSE;
            }
        }
        let due = known.unwrap_or(now).max(now) + INTERVAL;
        let at_once = INTERVAL * BURST;
        self.addresses.insert(address, due.min(now + at_once + MAX_PAUSE));
        (due - now).saturating_sub(at_once).min(MAX_PAUSE)
    }
}

/// One client has all addresses of an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pauses(guesses: &Guesses, from: &str, now: Instant, n: usize) -> Vec<u64> {
        (0..n).map(|_| guesses.count(address(from), now).pause.as_secs()).collect()
    }

    #[test]
    fn wrong_keys_beyond_a_burst_wait_longer_and_longer_for_an_address_alone() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let expected = [[0; 30].as_slice(), &[1, 2, 3, 4, 5, 5, 5, 5, 5, 5]].concat();
        assert_eq!(pauses(&guesses, "192.0.2.1", now, 40), expected);
        assert_eq!(pauses(&guesses, "::ffff:192.0.2.1", now, 1), [5]);
        assert_eq!(pauses(&guesses, "192.0.2.2", now, 1), [0]);
        assert_eq!(pauses(&guesses, "192.0.2.1", now + Duration::from_secs(6), 2), [0, 1]);
        assert_eq!(
            pauses(&guesses, "192.0.2.1", now + Duration::from_secs(60), 11),
            expected[..11]
        );
    }

    #[test]
    fn an_ipv6_client_has_one_network() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for host in 0..30 {
            assert_eq!(pauses(&guesses, &format!("2001:db8::{host}:1"), now, 1), [0]);
        }
        assert_eq!(pauses(&guesses, "2001:db8::ffff", now, 1), [1]);
        assert_eq!(pauses(&guesses, "2001:db8:0:1::1", now, 1), [0]);
    }

    #[test]
    fn the_table_is_bounded_and_who_does_not_fit_waits() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let from = |n: usize| IpAddr::V4(std::net::Ipv4Addr::from_bits(n as u32));
        for n in 0..MAX_ADDRESSES {
            assert_eq!(guesses.count(from(n), now).pause, Duration::ZERO);
        }
        assert_eq!(guesses.count(from(MAX_ADDRESSES), now).pause, MAX_PAUSE);
        assert_eq!(guesses.table.lock().unwrap().addresses.len(), MAX_ADDRESSES);
        let later = now + INTERVAL;
        assert_eq!(guesses.count(from(MAX_ADDRESSES), later).pause, Duration::ZERO);
        assert_eq!(guesses.table.lock().unwrap().addresses.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_warning_a_minute_has_the_count() {
        let (guesses, start, mut said) = (Guesses::default(), Instant::now(), Vec::new());
        for seconds in [0, 1, 30, 59, 60, 61, 119, 120] {
            let at = start + Duration::from_secs(seconds);
            tokio::time::advance(at - Instant::now()).await;
            said.push(guesses.count(address("192.0.2.1"), at).warn_of);
        }
        assert_eq!(said, [Some(1), None, None, None, Some(4), None, None, Some(3)]);
    }
}
