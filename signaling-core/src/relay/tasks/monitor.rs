//! Renews the node's lease, which also tells whether the store serves this node.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    select,
    time::{self, MissedTickBehavior},
};

use super::super::{background::Task, node::Node};

/// How long a renewal is waited for: after that, its answer would be of no use.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Renewals on their way at the same time. The next one does not wait for a slow store, or it would come
/// too late.
const MOST_ASKED: usize = 16;

pub(super) async fn run(node: Arc<Node>) {
    let mut ticks = time::interval(node.config.node_renewal);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut asked, mut was_well) = (FuturesUnordered::new(), true);
    let mut generation = node.health.generation();
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
        let current = node.health.generation();
        if std::mem::replace(&mut generation, current) != current {
            // It ends with the node, and is not waited for by a shutdown.
            tokio::spawn(node.clone().restore_revocations());
        }
        node.refusals.report();
        node.background.works(Task::Monitor);
    }
}
