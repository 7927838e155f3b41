//! Which background tasks of the node work, and panics of what calls the host's code.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, Ordering},
};

use futures::FutureExt;

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

    pub(super) fn name(self) -> &'static str {
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

    pub(super) fn has_failed(&self, task: Task) -> bool {
        self.failed[task as usize].load(Ordering::Relaxed)
    }

    pub(super) fn fails(&self, task: Task) {
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
