//! Watches the node's background tasks. One that panics or ends is started again, and the node is not ready
//! until it works. Panics of jobs that run once are caught here as well.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio::time;

use super::Node;

/// Pause before a task that ended is started again. It doubles with each end before the task worked.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Short enough to renew a lease between two starts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A task that runs as long as its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Inbox,
    Heartbeats,
    Monitor,
    LostNodes,
    Sweep,
}

impl Task {
    const COUNT: usize = 5;

    fn name(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Heartbeats => "heartbeats",
            Self::Monitor => "monitor",
            Self::LostNodes => "lost nodes",
            Self::Sweep => "sweep",
        }
    }
}

/// Which of the tasks do not work.
#[derive(Debug, Default)]
pub(super) struct Background {
    failed: [AtomicBool; Task::COUNT],
}

impl Background {
    /// Whether every task works.
    pub(super) fn is_whole(&self) -> bool {
        !self.failed.iter().any(|failed| failed.load(Ordering::Relaxed))
    }

    /// Called by a task when it has done its work once, again and again.
    pub(super) fn works(&self, task: Task) {
        let failed = &self.failed[task as usize];
        if failed.load(Ordering::Relaxed) && failed.swap(false, Ordering::Relaxed) {
            tracing::info!(task = task.name(), "background task works again");
        }
    }

    fn has_failed(&self, task: Task) -> bool {
        self.failed[task as usize].load(Ordering::Relaxed)
    }

    fn fails(&self, task: Task) {
        self.failed[task as usize].store(true, Ordering::Relaxed);
    }
}

/// What was waited for panicked. Its text is in the log of panics, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it panicked")]
pub(crate) struct Panicked;

/// The outcome of `work`, which may call code of the host: stores, buses, hooks, clocks.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    // What is shared with it are values behind locks, which hold at every await; what it owns is dropped.
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Panicked)
}

impl Node {
    /// Runs `task` until the node stops: started by `start`, and again whenever it ends.
    pub(super) fn keep<F>(
        self: &Arc<Self>,
        task: Task,
        mut start: impl FnMut(Arc<Self>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (node, stopped) = (self.clone(), self.stopped.clone());
        tokio::spawn(async move {
            let kept = async {
                let mut pause = FIRST_PAUSE;
                loop {
                    let ended = caught(start(node.clone())).await;
                    if !node.background.has_failed(task) {
                        pause = FIRST_PAUSE;
                    }
                    node.background.fails(task);
                    log_end(task, ended, pause);
                    time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            };
            stopped.run_until_cancelled(kept).await;
            tracing::debug!(task = task.name(), "background task ended with its node");
        });
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
