//! Paces the ends of connections. When a network fails, thousands of connections end at once. Without pacing
//! the others would wait until the last of them is processed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::future::BoxFuture;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::yield_now,
};
use tokio_util::task::TaskTracker;

/// Ends in one turn of the scheduler, in which it runs 31 or 61 tasks and looks at its sockets. While news of ends
/// comes in faster than it is read, everybody waits behind it: so most of a turn is for reading, which
/// costs far less than an end. With nothing else to do a turn is over at once.
const WIDTH: usize = 2;

#[derive(Debug)]
pub(super) struct EndPacer {
    open: Semaphore,
    turning: AtomicBool,
}

impl EndPacer {
    pub(super) fn new() -> Self {
        Self { open: Semaphore::new(WIDTH), turning: AtomicBool::new(false) }
    }

    /// Passes, unless too many have in this turn already.
    #[must_use]
    pub(super) fn try_pass(&self) -> bool {
        self.open.try_acquire().map(SemaphorePermit::forget).is_ok()
    }

    /// Passes when it is its turn: first come, first served. Cancel-safe: a dropped future takes no turn. The
    /// task that opens it again is one of `tasks`.
    pub(super) fn wait(self: &Arc<Self>, tasks: &TaskTracker) -> BoxFuture<'static, ()> {
        if !self.turning.swap(true, Ordering::AcqRel) {
            tasks.spawn(self.clone().turn());
        }
        let end_pacer = self.clone();
        // It is never closed.
        Box::pin(async move { end_pacer.open.acquire().await.into_iter().for_each(|p| p.forget()) })
    }

    /// Until nobody waits.
    async fn turn(self: Arc<Self>) {
        loop {
            yield_now().await;
            self.open.add_permits(WIDTH.saturating_sub(self.open.available_permits()));
            if self.open.available_permits() == 0 {
                continue;
            }
            self.turning.swap(false, Ordering::AcqRel);
            // Who came before that, and found it closed, relies on this task.
            let closed = self.open.available_permits() == 0;
            if !closed || self.turning.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn pass_one(end_pacer: &Arc<EndPacer>, tasks: &TaskTracker) {
        if !end_pacer.try_pass() {
            end_pacer.wait(tasks).await;
        }
    }

    #[derive(Debug, PartialEq)]
    enum Seen {
        Passed(usize),
        /// Somebody else had a turn.
        Other,
    }

    /// What is seen when so many pass at once, beside a task that always has something to do.
    async fn pass(count: usize) -> Vec<Seen> {
        let (end_pacer, tasks) = (Arc::new(EndPacer::new()), TaskTracker::new());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let other = tokio::spawn({
            let seen = seen.clone();
            async move {
                loop {
                    seen.lock().unwrap().push(Seen::Other);
                    yield_now().await;
                }
            }
        });
        let passing = (0..count).map(|n| {
            let (end_pacer, tasks, seen) = (end_pacer.clone(), tasks.clone(), seen.clone());
            tokio::spawn(async move {
                pass_one(&end_pacer, &tasks).await;
                seen.lock().unwrap().push(Seen::Passed(n));
            })
        });
        futures::future::join_all(passing.collect::<Vec<_>>()).await;
        other.abort();
        tasks.close();
        tasks.wait().await;
        std::mem::take(&mut seen.lock().unwrap())
    }

    #[tokio::test]
    async fn all_pass_in_turn_and_others_are_heard_in_between() {
        let seen = pass(1000).await;
        for passed in seen.split(|seen| *seen == Seen::Other) {
            assert!(passed.len() <= 2 * WIDTH, "{} in one turn", passed.len());
        }
        let passed = seen.into_iter().filter(|seen| *seen != Seen::Other);
        assert!(passed.eq((0..1000).map(Seen::Passed)));
    }

    #[tokio::test]
    async fn a_few_do_not_wait() {
        let seen = pass(WIDTH).await;
        let others = seen.iter().take_while(|seen| **seen == Seen::Other).count();
        assert_eq!(seen.len() - others, WIDTH, "{seen:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nobody_is_left_waiting_when_threads_compete() {
        let (end_pacer, tasks) = (Arc::new(EndPacer::new()), TaskTracker::new());
        let passing = (0..64).map(|_| {
            let (end_pacer, tasks) = (end_pacer.clone(), tasks.clone());
            tokio::spawn(async move {
                for _ in 0..500 {
                    pass_one(&end_pacer, &tasks).await;
                }
            })
        });
        futures::future::join_all(passing.collect::<Vec<_>>()).await;
    }
}
