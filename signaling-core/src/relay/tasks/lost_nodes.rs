//! Detaches what nodes have left that died.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::time::{self, Instant, MissedTickBehavior};

use super::super::{background::Task, backoff::Backoff, node::Node};
use crate::{
    frame::CloseReason,
    id::{ConnectionId, NodeId},
    notice::Notice,
    reason::DisconnectReason,
    session::{Participant, SessionRecord},
    store::StoreError,
};

/// Records read in one go, and written at the same time.
const PAGE: usize = 256;

pub(super) async fn run(node: Arc<Node>) {
    let mut ticks = time::interval(node.config.node_renewal);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    let (mut cleaner, mut backoff) = (Cleaner { unsure: Vec::new(), node }, Backoff::default());
    loop {
        ticks.tick().await;
        match cleaner.look(looked).await {
            Ok(()) => backoff.reset(),
            Err(error) => {
                cleaner.node.later("connections of a lost node not detached; retrying", &error);
                time::sleep(backoff.next_pause()).await;
            }
        }
        cleaner.node.background.works(Task::LostNodes);
        // A lease that was asked for before may name nodes that are written off by now.
        looked = Instant::now();
    }
}

struct Cleaner {
    node: Arc<Node>,
    /// Detaches for a lost node of which it is not known whether they were done.
    unsure: Vec<(Arc<SessionRecord>, ConnectionId)>,
}

impl Cleaner {
    async fn look(&mut self, looked: Instant) -> Result<(), StoreError> {
        if !self.unsure.is_empty() {
            let unsure = std::mem::take(&mut self.unsure);
            self.detach(unsure).await?;
        }
        for lost in self.node.health.lost_after(looked) {
            // While others may still be catching up with an outage, nobody is given up for what could
            // not be written.
            if lost != self.node.id && self.node.health.is_settled() {
                self.write_off(&lost).await?;
            }
        }
        Ok(())
    }

    /// Detaches all connections of a node that is dead.
    async fn write_off(&mut self, lost: &NodeId) -> Result<(), StoreError> {
        tracing::warn!(node = %lost, "the lease of a node has expired; detaching its connections");
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
            self.detach(attached).await?;
        }
        self.node.node_queues.forget(lost);
        self.node.store.forget_node(lost).await
    }

    async fn detach(
        &mut self,
        attached: Vec<(Arc<SessionRecord>, ConnectionId)>,
    ) -> Result<(), StoreError> {
        let node = &self.node;
        let detached = stream::iter(attached).map(|(record, connection)| async move {
            let detached = async {
                let (reason, text) = (DisconnectReason::NodeLost, CloseReason::default());
                node.tell_absent(&record).await?;
                node.detach(record.clone(), &connection, reason, text).await
            };
            detached.await.map(drop).map_err(|error| (error, (record, connection)))
        });
        let mut failure = Ok(());
        let mut detached = detached.buffer_unordered(PAGE);
        while let Some(done) = detached.next().await {
            if let Err((error, unsure)) = done {
                self.unsure.push(unsure);
                failure = Err(error);
            }
        }
        failure
    }
}

impl Node {
    /// Tells the connections of users who are absent in `record`: a node that opened it again after a loss
    /// may have died before it told them.
    async fn tell_absent(self: &Arc<Self>, record: &Arc<SessionRecord>) -> Result<(), StoreError> {
        for participant in record.participants.iter().filter(|one| one.connection().is_none()) {
            if let Some(connection) = self.store.user(&participant.user).await?.connection {
                self.notify(&connection, Notice::Opened(record.clone()));
            }
        }
        Ok(())
    }
}
