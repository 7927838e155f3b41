//! Writes heartbeats to the store in batches.

use std::sync::Arc;

use tokio::time;

use super::super::{background::Task, mailbox::Mail, node::Node};
use crate::store::Heartbeat;

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
                node.warn("heartbeats not written; retrying", &error);
                let live = |beat: &Heartbeat| node.registry.get(beat.connection.number()).is_some();
                node.heartbeats.put_back(batch.into_iter().filter(live).collect());
            }
        }
        node.background.works(Task::Heartbeats);
    }
}
