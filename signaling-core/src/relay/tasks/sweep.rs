//! Ends the sessions whose participant stayed away too long, and forgets users who did.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio::{
    task::yield_now,
    time::{self, Instant, MissedTickBehavior},
};

use super::super::{background::Task, node::Node};
use crate::{reason::EndReason, session::SessionRecord, store::StoreError};

/// Sessions that are ended at the same time.
const PAGE: usize = 512;
/// Sessions that are ended before others get their turn, where the store answers at once.
const AT_ONCE: usize = 16;

pub(super) async fn run(node: Arc<Node>) {
    let mut ticks = time::interval(node.config.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // While others may still be catching up with an outage, nothing is given up for what they
        // could not write.
        if node.health.is_settled()
            && let Err(error) = node.sweep().await
        {
            node.later("overdue sessions not ended; retrying with the next sweep", &error);
        }
        node.users.forget_absent(Instant::now().into_std());
        node.background.works(Task::Sweep);
    }
}

impl Node {
    /// Until nothing is overdue: what comes in faster than one page in a [`sweep_interval`] must not pile
    /// up.
    ///
    /// [`sweep_interval`]: crate::Config::sweep_interval
    async fn sweep(self: &Arc<Self>) -> Result<(), StoreError> {
        loop {
            let records = self.store.overdue(PAGE).await?;
            if self.end_overdue(records).await? == 0 {
                return Ok(());
            }
        }
    }

    /// How many of them there were to end. All are carried through, whatever becomes of one.
    async fn end_overdue(
        self: &Arc<Self>,
        records: Vec<SessionRecord>,
    ) -> Result<usize, StoreError> {
        let ending = stream::iter(records).map(|record| {
            // The store found this deadline to have passed, by its own clock.
            let passed = record.deadline();
            let overdue = move |record: &SessionRecord| {
                record.deadline().is_some_and(|deadline| Some(deadline) <= passed)
            };
            self.end(Arc::new(record), EndReason::Abandoned, overdue)
        });
        let mut ending = ending.buffer_unordered(PAGE).enumerate();
        let mut ended = Ok(0);
        while let Some((nth, done)) = ending.next().await {
            ended = match (ended, done) {
                (Ok(ended), Ok(there)) => Ok(ended + usize::from(there)),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            if nth % AT_ONCE == AT_ONCE - 1 {
                yield_now().await;
            }
        }
        ended
    }
}
