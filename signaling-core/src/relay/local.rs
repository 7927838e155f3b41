//! The connections of this node.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{mailbox::Mailbox, steward::Duties};
use crate::id::{ConnectionId, UserId};

/// One connection, as the rest of its node knows it.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) id: ConnectionId,
    pub(super) user: UserId,
    pub(super) mailbox: Mailbox,
    pub(super) duties: Duties,
}

#[derive(Debug, Default)]
pub(super) struct Locals {
    last_number: AtomicU64,
    by_number: Mutex<BTreeMap<u64, Arc<Local>>>,
}

impl Locals {
    fn by_number(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Local>>> {
        self.by_number.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a connection, unless there are `limit` already.
    pub(super) fn add(&self, local: Arc<Local>, limit: Option<usize>) -> bool {
        let mut by_number = self.by_number();
        let room = limit.is_none_or(|limit| by_number.len() < limit);
        if room {
            by_number.insert(local.id.number(), local);
        }
        room
    }

    pub(super) fn remove(&self, number: u64) {
        self.by_number().remove(&number);
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<Local>> {
        self.by_number().get(&number).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Local>> {
        self.by_number().values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_number().len()
    }
}
