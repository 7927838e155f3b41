//! How many transports this node has open, those included that wait for the peer's close frame.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::config::Config;

/// Refused connections that may wait for the peer's close frame where their number is not bounded by
/// [`Config::max_connections`].
const MAX_REFUSED: usize = 1024;
/// The least that may wait where it is.
const MIN_REFUSED: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Sockets {
    accepted: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

/// A transport that is open, for as long as this lives.
#[derive(Debug)]
pub(super) struct Socket(Arc<AtomicUsize>);

impl Socket {
    /// One more, and how many there were before.
    fn open(count: &Arc<AtomicUsize>) -> (Self, usize) {
        let before = count.fetch_add(1, Ordering::Relaxed);
        (Self(count.clone()), before)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sockets {
    /// A connection that is to be served; none when the node has as many as it accepts.
    pub(super) fn accept(&self, config: &Config) -> Option<Socket> {
        let (socket, before) = Socket::open(&self.accepted);
        config.max_connections.is_none_or(|max| before < max).then_some(socket)
    }

    /// A connection that is to be closed at once, and how long it may wait for the peer's close frame.
    pub(super) fn refuse(&self, config: &Config) -> (Socket, Duration) {
        let (socket, before) = Socket::open(&self.refused);
        let max = config.max_connections.map_or(MAX_REFUSED, |max| (max / 8).max(MIN_REFUSED));
        (socket, if before < max { config.close_wait } else { Duration::ZERO })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_accepts_so_many_and_has_room_again_when_one_is_closed() {
        let config = Config { max_connections: Some(2), ..Config::default() };
        let sockets = Sockets::default();
        let first = sockets.accept(&config);
        let second = sockets.accept(&config);
        assert!(first.is_some() && second.is_some());
        assert!(sockets.accept(&config).is_none());
        assert!(sockets.accept(&config).is_none());
        drop(first);
        assert!(sockets.accept(&config).is_some());
    }

    #[test]
    fn only_some_of_those_refused_wait_for_the_peer() {
        for (max_connections, waiting) in [(Some(2), 16), (Some(8000), 1000), (None, 1024)] {
            let config = Config { max_connections, ..Config::default() };
            let sockets = Sockets::default();
            let refused: Vec<_> = (0..2000).map(|_| sockets.refuse(&config)).collect();
            let waits = refused.iter().filter(|(_, wait)| *wait == config.close_wait);
            assert_eq!(waits.count(), waiting);
            assert_eq!(refused[1999].1, Duration::ZERO);
            // Those that are refused take no room from the others.
            assert!(sockets.accept(&config).is_some());
            drop(refused);
            assert_eq!(sockets.refuse(&config).1, config.close_wait);
        }
    }
}
