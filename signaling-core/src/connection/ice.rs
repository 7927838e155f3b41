//! The ICE servers that one client is told of, pure: which are known, and when to ask for others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::protocol::IceServer;

/// Nobody is matched with credentials that have less than this to live: a call must be set up with
/// them.
const LEAST_LIFE: Duration = Duration::from_secs(60);
/// After a first failure; then twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Starts as one that was asked for.
#[derive(Debug, Default)]
pub(super) struct Ice {
    /// None: not known yet, or expired.
    servers: Option<Arc<[IceServer]>>,
    /// When these are not to be given to anybody any more.
    forget_at: Option<Instant>,
    /// When to ask. None while an answer is awaited, and where what is known is good for ever.
    ask_at: Option<Instant>,
    /// In a row.
    failures: u32,
}

impl Ice {
    /// What may be given to the client now.
    pub(super) fn servers(&self) -> Option<&[IceServer]> {
        self.servers.as_deref()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.forget_at, self.ask_at].into_iter().flatten().min()
    }

    /// Whether to ask now.
    pub(super) fn on_deadline(&mut self, now: Instant) -> bool {
        if self.forget_at.take_if(|at| now >= *at).is_some() {
            self.servers = None;
        }
        self.ask_at.take_if(|at| now >= *at).is_some()
    }

    /// The answer: `servers` that are good for `life`.
    pub(super) fn on_servers(
        &mut self,
        servers: Arc<[IceServer]>,
        life: Option<Duration>,
        now: Instant,
    ) {
        self.failures = 0;
        // An end that the clock cannot tell is none.
        let after = |span: Duration| now.checked_add(span);
        self.ask_at = life.and_then(|life| after((life / 4 * 3).max(FIRST_RETRY)));
        let usable = life.map(|life| life.saturating_sub(LEAST_LIFE));
        self.servers = Some(servers).filter(|_| usable != Some(Duration::ZERO));
        self.forget_at = usable.filter(|span| !span.is_zero()).and_then(after);
    }

    /// There was no answer. What is known stays so until it expires.
    pub(super) fn on_failure(&mut self, now: Instant) {
        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(6)).min(LONGEST_RETRY);
        self.failures += 1;
        self.ask_at = Some(now + pause);
    }
}
