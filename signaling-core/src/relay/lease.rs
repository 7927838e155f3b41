//! The lease by which the other nodes know that this one is alive.

use tokio::time::Instant;

use super::{mailbox::Mail, node::Node};
use crate::{
    id::NodeId,
    store::{Lease, StoreError},
};

impl Node {
    /// Renews the lease, and has the connections act on what that tells of the store.
    pub(super) async fn renew_lease(&self) -> Result<Lease, StoreError> {
        // A node that died before the store lost its leases would not be found lost.
        let others = match self.health.lost_records_within(self.config.abandon_after) {
            true => self.node_queues.nodes(),
            false => Vec::new(),
        };
        self.renew_lease_beside(&others).await
    }

    /// The same, and gives each of `others` of which no lease is known a first one.
    pub(super) async fn renew_lease_beside(&self, others: &[NodeId]) -> Result<Lease, StoreError> {
        let (asked, counts) = (Instant::now(), self.registry.counts());
        let lease = self.config.node_lease;
        let renewed = self.store.renew_lease(&self.id, lease, counts, others).await;
        let lease = renewed.inspect_err(|error| self.health.not_renewed(error))?;
        // The answer that said so may have been lost.
        let lapsed = self.health.lease_age() >= self.config.node_lease;
        if self.health.renewed(asked, counts, &lease) {
            tracing::warn!(node = %self.id, "the store has lost records; opening sessions again");
            self.tell_all(|| Mail::Doubt);
        } else if lapsed || !lease.held {
            tracing::warn!(node = %self.id, "this node was taken for dead; looking sessions up");
            self.tell_all(|| Mail::NoticesLost);
        }
        Ok(lease)
    }

    fn tell_all(&self, mail: fn() -> Mail) {
        for handle in self.registry.all() {
            handle.mailbox.push(mail());
        }
    }
}
