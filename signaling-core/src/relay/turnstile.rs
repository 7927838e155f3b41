//! Lets ends of connections through a few at a time. When a network fails thousands end at once, and
//! those who talk would wait until the last of them is written off.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::Semaphore, task::yield_now};
use tokio_util::task::TaskTracker;

/// Ends in one turn of the scheduler, in which it runs 31 or 61 tasks and looks at its sockets: with the task
/// that each end leaves behind, they are half of what is run at the most.
const WIDTH: usize = 8;

#[derive(Debug)]
pub(super) struct Turnstile {
    open: Semaphore,
    turning: AtomicBool,
}

impl Turnstile {
    pub(super) fn new() -> Self {
        Self { open: Semaphore::new(WIDTH), turning: AtomicBool::new(false) }
    }

    /// Waits, where too many have passed already, for the next turn; first come, first served. Dropped
    /// midway, it was not passed. The task that turns it is one of `tasks`.
    pub(super) async fn pass(self: &Arc<Self>, tasks: &TaskTracker) {
        let passed = match self.open.try_acquire() {
            Ok(passed) => Ok(passed),
            Err(_) => {
                if !self.turning.swap(true, Ordering::AcqRel) {
                    tasks.spawn(self.clone().turn());
                }
                self.open.acquire().await
            }
        };
        // It is never closed.
        passed.into_iter().for_each(|permit| permit.forget());
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

    #[derive(Debug, PartialEq)]
    enum Seen {
        Passed(usize),
        /// Somebody else had a turn.
        Other,
    }

    /// What is seen when so many pass at once, beside a task that always has something to do.
    async fn pass(count: usize) -> Vec<Seen> {
        let (turnstile, tasks) = (Arc::new(Turnstile::new()), TaskTracker::new());
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
            let (turnstile, tasks, seen) = (turnstile.clone(), tasks.clone(), seen.clone());
            tokio::spawn(async move {
                turnstile.pass(&tasks).await;
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
        let (turnstile, tasks) = (Arc::new(Turnstile::new()), TaskTracker::new());
        let passing = (0..64).map(|_| {
            let (turnstile, tasks) = (turnstile.clone(), tasks.clone());
            tokio::spawn(async move {
                for _ in 0..500 {
                    turnstile.pass(&tasks).await;
                }
            })
        });
        futures::future::join_all(passing.collect::<Vec<_>>()).await;
    }
}
