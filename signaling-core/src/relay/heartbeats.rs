//! Gathers heartbeats and writes them to the store in batches.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time;

use super::{Node, background::Task, mailbox::Mail};
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

    fn take(&self) -> Vec<Heartbeat> {
        std::mem::take(&mut *self.pending()).into_values().collect()
    }

    fn put_back(&self, heartbeats: Vec<Heartbeat>) {
        let mut pending = self.pending();
        for heartbeat in heartbeats {
            if let Entry::Vacant(entry) = pending.entry(heartbeat.connection.number()) {
                entry.insert(heartbeat);
            }
        }
    }
}

pub(super) async fn run(node: Arc<Node>) {
    let mut ticks = time::interval(node.config.heartbeat_batch);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let batch = node.heartbeats.take();
        if batch.is_empty() {
            node.background.works(Task::Heartbeats);
            continue;
        }
        match node.store.record_heartbeats(&batch).await {
            Ok(doubtful) => {
                for connection in doubtful.iter().filter(|id| *id.node() == node.id) {
                    if let Some(handle) = node.registry.get(connection.number()) {
                        handle.mailbox.push(Mail::Doubt);
                    }
                }
            }
            Err(error) => {
                node.health.note(&error);
                node.warn("heartbeats not written yet", &error);
                let live = |beat: &Heartbeat| node.registry.get(beat.connection.number()).is_some();
                node.heartbeats.put_back(batch.into_iter().filter(live).collect());
            }
        }
        node.background.works(Task::Heartbeats);
    }
}
