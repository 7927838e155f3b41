//! The connections of this node, by number.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

use super::{jobs::JobQueue, mailbox::Mailbox};
use crate::{
    config::Config,
    frame::CloseReason,
    id::{ConnectionId, UserId},
    protocol::Dialect,
    store::Counts,
};

/// One connection, as the rest of its node knows it.
#[derive(Debug)]
pub(super) struct ConnectionHandle {
    pub(super) id: ConnectionId,
    pub(super) user: UserId,
    pub(super) dialect: Dialect,
    /// When this node accepted it.
    pub(super) accepted: Instant,
    pub(super) mailbox: Mailbox,
    pub(super) jobs: JobQueue,
    /// Sessions that are counted at this connection; see [`Registry::count`].
    sessions: AtomicUsize,
    /// The host's own words for the close frame.
    pub(super) goodbye: OnceLock<CloseReason>,
}

impl ConnectionHandle {
    pub(super) fn new(
        id: ConnectionId,
        user: UserId,
        dialect: Dialect,
        config: &Config,
        generation: u64,
    ) -> Self {
        Self {
            id,
            user,
            dialect,
            accepted: Instant::now(),
            mailbox: Mailbox::new(config),
            jobs: JobQueue::new(generation),
            sessions: AtomicUsize::new(0),
            goodbye: OnceLock::new(),
        }
    }

    /// The [`client`](crate::session::Participant::client) of a participant that takes part anew with this
    /// connection, from the `random` number of that attach.
    pub(super) fn client_number(&self, random: u64) -> Option<NonZeroU64> {
        match self.dialect {
            Dialect::Base => None,
            Dialect::V1 => NonZeroU64::new(random),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    last_number: AtomicU64,
    /// The sum over all live connections.
    sessions: AtomicUsize,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    live: BTreeMap<u64, Arc<ConnectionHandle>>,
    /// Connections that have ended, until their ends are written.
    ending: BTreeMap<u64, Arc<ConnectionHandle>>,
}

impl Registry {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a connection.
    pub(super) fn add(&self, handle: Arc<ConnectionHandle>) {
        self.tables().live.insert(handle.id.number(), handle);
    }

    /// The connection has ended; its end is not written yet.
    pub(super) fn end(&self, number: u64) {
        let mut tables = self.tables();
        if let Some(handle) = tables.live.remove(&number) {
            self.count(&handle, 0);
            tables.ending.insert(number, handle);
        }
    }

    /// The end of a connection is written.
    pub(super) fn ended(&self, number: u64) {
        self.tables().ending.remove(&number);
    }

    /// The connection number `number`, while it lives.
    pub(super) fn get(&self, number: u64) -> Option<Arc<ConnectionHandle>> {
        self.tables().live.get(&number).cloned()
    }

    /// The connection number `number`, which has ended, to write something more of it. It is made by `again`
    /// if its end was written already.
    pub(super) fn ending(
        &self,
        number: u64,
        again: impl FnOnce() -> ConnectionHandle,
    ) -> Arc<ConnectionHandle> {
        let mut tables = self.tables();
        tables.ending.entry(number).or_insert_with(|| Arc::new(again())).clone()
    }

    pub(super) fn all(&self) -> Vec<Arc<ConnectionHandle>> {
        self.tables().live.values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.tables().live.len()
    }

    /// Sets how many sessions are counted at a live connection.
    pub(super) fn count(&self, handle: &ConnectionHandle, sessions: usize) {
        let before = handle.sessions.swap(sessions, Ordering::Relaxed);
        // Wrapping add: subtracts if the count falls.
        self.sessions.fetch_add(sessions.wrapping_sub(before), Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let sessions = self.sessions.load(Ordering::Relaxed);
        Counts { connections: self.len() as u64, sessions: sessions as u64 }
    }
}
