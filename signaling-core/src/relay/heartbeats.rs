//! Heartbeats that are not written to the store yet.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::store::Heartbeat;

/// The last heartbeat of each connection that is not written yet.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(Mutex<BTreeMap<u64, Heartbeat>>);

impl Heartbeats {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<u64, Heartbeat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, heartbeat: Heartbeat) {
        self.pending().insert(heartbeat.connection.number(), heartbeat);
    }

    pub(super) fn take(&self) -> Vec<Heartbeat> {
        std::mem::take(&mut *self.pending()).into_values().collect()
    }

    pub(super) fn put_back(&self, heartbeats: Vec<Heartbeat>) {
        let mut pending = self.pending();
        for heartbeat in heartbeats {
            if let Entry::Vacant(entry) = pending.entry(heartbeat.connection.number()) {
                entry.insert(heartbeat);
            }
        }
    }
}
