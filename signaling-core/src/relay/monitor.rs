//! Renews the node's lease, which also tells whether the store serves this node.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    select,
    time::{self, Instant, MissedTickBehavior},
};

use super::{Node, background::Task, mailbox::Mail};
use crate::{
    id::NodeId,
    store::{Lease, StoreError},
};

/// How long a renewal is waited for: after that, its answer would be of no use.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Renewals on their way at the same time. The next one does not wait for a slow store, or it would come
/// too late.
const MOST_ASKED: usize = 16;

pub(super) async fn run(node: Arc<Node>) {
    let mut ticks = time::interval(node.config.node_renewal);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut asked, mut was_well) = (FuturesUnordered::new(), true);
    let mut failure = None;
    loop {
        select! {
            _ = ticks.tick() => {
                if asked.len() < MOST_ASKED {
                    asked.push(time::timeout(ANSWER_TIME, node.renew_lease()));
                }
            }
            Some(renewed) = asked.next() => failure = renewed.ok().and_then(Result::err),
        }
        let is_well = node.health.is_well();
        match (was_well, is_well) {
            (true, false) => {
                let error = failure.as_ref().map(|error| error as &dyn std::error::Error);
                tracing::error!(node = %node.id, error, "the store does not serve this node");
            }
            (false, true) => tracing::info!(node = %node.id, "the store serves this node again"),
            (true, true) | (false, false) => {}
        }
        was_well = is_well;
        node.refusals.report();
        node.background.works(Task::Monitor);
    }
}

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

    /// Logs what a background task could not do now and will try again. While the store is away that is
    /// no news.
    pub(super) fn later(&self, what: &'static str, error: &StoreError) {
        self.health.note(error);
        if self.health.is_well() {
            self.warn(what, error);
        } else {
            let error = error as &dyn std::error::Error;
            tracing::debug!(node = %self.id, error, "{what}");
        }
    }
}
