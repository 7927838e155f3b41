//! The connections of this node.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

use super::{mailbox::Mailbox, worker::JobQueue};
use crate::{
    config::Config,
    frame::CloseReason,
    id::{ConnectionId, UserId},
    store::Counts,
};

/// One connection, as the rest of its node knows it.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) id: ConnectionId,
    pub(super) user: UserId,
    /// When this node accepted it.
    pub(super) accepted: Instant,
    pub(super) mailbox: Mailbox,
    pub(super) jobs: JobQueue,
    /// Sessions that are counted at this connection; see [`Locals::count`].
    sessions: AtomicUsize,
    /// The host's own words for the close frame.
    pub(super) goodbye: OnceLock<CloseReason>,
}

impl Local {
    pub(super) fn new(id: ConnectionId, user: UserId, config: &Config, generation: u64) -> Self {
        Self {
            id,
            user,
            accepted: Instant::now(),
            mailbox: Mailbox::new(config),
            jobs: JobQueue::new(generation),
            sessions: AtomicUsize::new(0),
            goodbye: OnceLock::new(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Locals {
    last_number: AtomicU64,
    /// Those that are counted at all live connections.
    sessions: AtomicUsize,
    tables: Mutex<Tables>,
}

/// By number.
#[derive(Debug, Default)]
struct Tables {
    live: BTreeMap<u64, Arc<Local>>,
    /// Those that have ended, until the store knows.
    ending: BTreeMap<u64, Arc<Local>>,
}

impl Locals {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a connection.
    pub(super) fn add(&self, local: Arc<Local>) {
        self.tables().live.insert(local.id.number(), local);
    }

    /// The connection is over; the store does not know yet.
    pub(super) fn end(&self, number: u64) {
        let mut tables = self.tables();
        if let Some(local) = tables.live.remove(&number) {
            self.count(&local, 0);
            tables.ending.insert(number, local);
        }
    }

    /// What the store was to know of a connection that is over, it does.
    pub(super) fn ended(&self, number: u64) {
        self.tables().ending.remove(&number);
    }

    /// The connection number `number`, while it lives.
    pub(super) fn get(&self, number: u64) -> Option<Arc<Local>> {
        self.tables().live.get(&number).cloned()
    }

    /// The connection number `number`, which is over, for something that the store does not know;
    /// from `again` where it was thought to know everything.
    pub(super) fn ending(&self, number: u64, again: impl FnOnce() -> Local) -> Arc<Local> {
        let mut tables = self.tables();
        tables.ending.entry(number).or_insert_with(|| Arc::new(again())).clone()
    }

    pub(super) fn all(&self) -> Vec<Arc<Local>> {
        self.tables().live.values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.tables().live.len()
    }

    /// So many sessions are counted at `local`, which lives, from now on.
    pub(super) fn count(&self, local: &Local, sessions: usize) {
        let before = local.sessions.swap(sessions, Ordering::Relaxed);
        // Round the end, where there are less.
        self.sessions.fetch_add(sessions.wrapping_sub(before), Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let sessions = self.sessions.load(Ordering::Relaxed);
        Counts { connections: self.len() as u64, sessions: sessions as u64 }
    }
}
