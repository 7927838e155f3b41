//! Watches over what no connection sees: sessions whose participants stay away, nodes that die, and
//! a store that was away itself.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::time::{self, Instant};

use super::{Node, mailbox::Mail};
use crate::{
    event::{DisconnectReason, EndReason},
    id::NodeId,
    session::SessionRecord,
    store::StoreError,
};

/// Records read in one go.
const PAGE: usize = 256;
/// Records written at the same time.
const CONCURRENT: usize = 32;

pub(super) async fn run(node: Arc<Node>, generation: u64) {
    let mut monitor = Monitor {
        generation,
        renewed: Instant::now(),
        node,
    };
    let mut ticks = time::interval(monitor.node.config.sweep_interval);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let done = monitor.tick().await;
        monitor.node.health.note(&done);
    }
}

struct Monitor {
    node: Arc<Node>,
    generation: u64,
    /// When the lease was last renewed.
    renewed: Instant,
}

impl Monitor {
    async fn tick(&mut self) -> Result<(), StoreError> {
        let due = self.renewed.elapsed() >= self.node.config.node_renewal;
        if due || !self.node.health.is_well() {
            self.renew().await?;
        }
        // While others may still be catching up with an outage, nothing is given up for what they
        // could not write.
        if self.settled() {
            self.sweep().await
        } else {
            Ok(())
        }
    }

    fn settled(&self) -> bool {
        self.node.health.well_for(self.node.config.node_renewal * 2)
    }

    async fn renew(&mut self) -> Result<(), StoreError> {
        let (node, now) = (&self.node, self.node.clock.now());
        let lease = node
            .store
            .renew_lease(&node.id, now, node.config.node_lease)
            .await?;
        self.renewed = Instant::now();
        let emptied = std::mem::replace(&mut self.generation, lease.generation) != lease.generation;
        if emptied {
            tracing::warn!(node = %node.id, "the store has lost its records; restoring ours");
            self.tell_all(|| Mail::StoreEmptied);
        } else if !lease.held {
            tracing::warn!(node = %node.id, "this node was taken for dead; looking sessions up");
            self.tell_all(|| Mail::NoticesLost);
        }
        if self.settled() {
            for lost in lease.lost.iter().filter(|lost| **lost != node.id) {
                self.write_off(lost).await?;
            }
        }
        Ok(())
    }

    fn tell_all(&self, mail: fn() -> Mail) {
        for local in self.node.locals.all() {
            local.mailbox.push(mail());
        }
    }

    /// Detaches all connections of a node that is dead.
    async fn write_off(&self, lost: &NodeId) -> Result<(), StoreError> {
        tracing::warn!(node = %lost, "a node is lost");
        loop {
            let records = self.node.store.attached_to(lost, PAGE).await?;
            if records.is_empty() {
                break;
            }
            self.each(records, |node, record| async move {
                let connections = record
                    .participants
                    .each_ref()
                    .map(|p| p.connection().cloned());
                let on_lost = connections
                    .into_iter()
                    .flatten()
                    .filter(|c| c.node() == lost);
                for connection in on_lost {
                    // The second of two has the first one's change to find: one more round.
                    node.detach(record.clone(), &connection, DisconnectReason::NodeLost)
                        .await?;
                }
                Ok(())
            })
            .await?;
        }
        self.node.outbox.forget(lost);
        self.node.store.forget_node(lost).await
    }

    /// Ends the sessions whose participant stayed away too long.
    async fn sweep(&self) -> Result<(), StoreError> {
        let records = self.node.store.overdue(self.node.clock.now(), PAGE).await?;
        self.each(records, |node, record| async move {
            let overdue = |record: &SessionRecord| {
                record
                    .deadline()
                    .is_some_and(|deadline| deadline <= node.clock.now())
            };
            node.end(record, EndReason::Abandoned, overdue)
                .await
                .map(drop)
        })
        .await
    }

    async fn each<'a, F, W>(
        &'a self,
        records: Vec<SessionRecord>,
        work: F,
    ) -> Result<(), StoreError>
    where
        F: Fn(&'a Node, Arc<SessionRecord>) -> W,
        W: Future<Output = Result<(), StoreError>>,
    {
        let work = records
            .into_iter()
            .map(|record| work(&self.node, Arc::new(record)));
        let mut done = stream::iter(work).buffer_unordered(CONCURRENT);
        while let Some(result) = done.next().await {
            result?;
        }
        Ok(())
    }
}
