//! The background tasks of a node. A task that panics or ends is started again, and the node is not ready
//! until it works.

mod heartbeats;
mod inbox;
mod lost_nodes;
mod monitor;
mod sweep;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::time;

use super::{
    background::{Panicked, Task, caught},
    backoff::Backoff,
    node::Node,
};
use crate::{bus::Inbox, store::StoreError};

/// Starts all of them. `inbox` is the node's, opened already.
pub(super) fn start(node: &Arc<Node>, inbox: Inbox) {
    let mut inbox = Some(inbox);
    node.keep(Task::Inbox, move |node| inbox::run(node, inbox.take()));
    node.keep(Task::Heartbeats, heartbeats::run);
    node.keep(Task::Monitor, monitor::run);
    node.keep(Task::LostNodes, lost_nodes::run);
    node.keep(Task::Sweep, sweep::run);
}

impl Node {
    /// Runs `task` until the node stops: started by `start`, and again whenever it ends.
    fn keep<F>(self: &Arc<Self>, task: Task, mut start: impl FnMut(Arc<Self>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (node, stopped) = (self.clone(), self.stopped.clone());
        tokio::spawn(async move {
            let kept = async {
                let mut backoff = Backoff::default();
                loop {
                    let ended = caught(start(node.clone())).await;
                    if !node.background.has_failed(task) {
                        backoff.reset();
                    }
                    node.background.fails(task);
                    let pause = backoff.next_pause();
                    log_end(task, ended, pause);
                    time::sleep(pause).await;
                }
            };
            stopped.run_until_cancelled(kept).await;
            tracing::debug!(task = task.name(), "background task ended with its node");
        });
    }

    /// Logs what a background task could not do and will retry: at debug level while the store is away.
    fn later(&self, what: &'static str, error: &StoreError) {
        self.health.note(error);
        if self.health.is_well() {
            self.warn(what, error);
        } else {
            let error = error as &dyn std::error::Error;
            tracing::debug!(node = %self.id, error, "{what}");
        }
    }
}

/// A log that panics must not end the watch: that may be what the task ended by.
fn log_end(task: Task, ended: Result<(), Panicked>, pause: Duration) {
    let logged = || {
        let (task, panicked) = (task.name(), ended.is_err());
        tracing::error!(task, panicked, ?pause, "background task ended; starting it again");
    };
    let _ = catch_unwind(AssertUnwindSafe(logged));
}
