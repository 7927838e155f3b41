//! Watches over what no connection sees: sessions whose participants stay away, nodes that die, and
//! a store that was away itself.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::time::{self, Instant};

use super::{Node, mailbox::Mail};
use crate::{
    event::{DisconnectReason, EndReason},
    frame::CloseReason,
    id::{ConnectionId, NodeId},
    session::{Participant, SessionRecord},
    store::{Lease, StoreError},
};

/// Records read in one go.
const PAGE: usize = 256;
/// Records written at the same time.
const CONCURRENT: usize = 32;

pub(super) async fn run(node: Arc<Node>) {
    let mut monitor = Monitor { unsure: Vec::new(), node };
    let mut ticks = time::interval(monitor.node.config.sweep_interval);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let done = monitor.tick().await;
        monitor.node.health.note(&done);
    }
}

impl Node {
    /// Renews the lease, and has the connections act on what that tells of the store.
    pub(super) async fn renew_lease(&self) -> Result<Lease, StoreError> {
        let asked = Instant::now();
        // The answer that said so may have been lost.
        let lapsed = self.health.lease_age() >= self.config.node_lease;
        let counts = self.locals.counts();
        let lease = self.store.renew_lease(&self.id, self.config.node_lease, counts).await?;
        if self.health.renewed(asked, &lease) {
            tracing::warn!(node = %self.id, "the store has lost its records; restoring ours");
            self.tell_all(|| Mail::StoreEmptied);
        } else if lapsed || !lease.held {
            tracing::warn!(node = %self.id, "this node was taken for dead; looking sessions up");
            self.tell_all(|| Mail::NoticesLost);
        }
        Ok(lease)
    }

    fn tell_all(&self, mail: fn() -> Mail) {
        for local in self.locals.all() {
            local.mailbox.push(mail());
        }
    }
}

struct Monitor {
    node: Arc<Node>,
    /// Detaches for a lost node of which it is not known whether they were done.
    unsure: Vec<(Arc<SessionRecord>, ConnectionId)>,
}

impl Monitor {
    async fn tick(&mut self) -> Result<(), StoreError> {
        let due = self.node.health.lease_age() >= self.node.config.node_renewal;
        if due || !self.node.health.is_well() {
            self.renew().await?;
        }
        let unsure = std::mem::take(&mut self.unsure);
        self.detach_lost(unsure).await?;
        // While others may still be catching up with an outage, nothing is given up for what they
        // could not write.
        if self.settled() { self.sweep().await } else { Ok(()) }
    }

    fn settled(&self) -> bool {
        self.node.health.well_for(self.node.config.node_renewal * 2)
    }

    async fn renew(&mut self) -> Result<(), StoreError> {
        let lease = self.node.renew_lease().await?;
        let lost = lease.lost.into_iter().filter(|lost| *lost != self.node.id);
        if self.settled() {
            for lost in lost.collect::<Vec<_>>() {
                self.write_off(&lost).await?;
            }
        }
        Ok(())
    }

    /// Detaches all connections of a node that is dead.
    async fn write_off(&mut self, lost: &NodeId) -> Result<(), StoreError> {
        tracing::warn!(node = %lost, "a node is lost");
        loop {
            let records = self.node.store.attached_to(lost, PAGE).await?;
            if records.is_empty() {
                break;
            }
            let mut attached = Vec::new();
            for record in records.into_iter().map(Arc::new) {
                let connections = record.participants.iter().filter_map(Participant::connection);
                let on_lost = connections.filter(|connection| connection.node() == lost);
                attached.extend(on_lost.map(|connection| (record.clone(), connection.clone())));
            }
            self.detach_lost(attached).await?;
        }
        self.node.outbox.forget(lost);
        self.node.store.forget_node(lost).await
    }

    async fn detach_lost(
        &mut self,
        attached: Vec<(Arc<SessionRecord>, ConnectionId)>,
    ) -> Result<(), StoreError> {
        let node = &self.node;
        let detached = stream::iter(attached).map(|(record, connection)| async move {
            let (reason, text) = (DisconnectReason::NodeLost, CloseReason::default());
            let detached = node.detach(record.clone(), &connection, reason, text).await;
            detached.map(drop).map_err(|error| (error, (record, connection)))
        });
        let mut failure = Ok(());
        let mut detached = detached.buffer_unordered(CONCURRENT);
        while let Some(done) = detached.next().await {
            if let Err((error, unsure)) = done {
                self.unsure.push(unsure);
                failure = Err(error);
            }
        }
        failure
    }

    /// Ends the sessions whose participant stayed away too long.
    async fn sweep(&self) -> Result<(), StoreError> {
        let node = &self.node;
        let records = node.store.overdue(PAGE).await?;
        let ended = stream::iter(records).map(|record| {
            // The store found this deadline to have passed, by its own clock.
            let passed = record.deadline();
            let overdue = move |record: &SessionRecord| {
                record.deadline().is_some_and(|deadline| Some(deadline) <= passed)
            };
            node.end(Arc::new(record), EndReason::Abandoned, overdue)
        });
        // All of them are carried through, whatever becomes of one.
        let ended = ended.buffer_unordered(CONCURRENT).collect::<Vec<_>>().await;
        ended.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    }
}
