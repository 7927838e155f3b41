//! Who waits for a partner, first come first served. Pure: time comes in as `now`.

use std::{collections::VecDeque, time::Duration};

use signaling_core::id::UserId;
use tokio::time::Instant;

/// A queue of users, each of whom waits once.
///
/// Two who wait are a pair at once, so more than one wait only while sessions cannot be opened.
#[derive(Debug)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    capacity: usize,
    patience: Duration,
}

#[derive(Debug)]
struct Entry {
    user: UserId,
    until: Instant,
}

/// As many wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Queue {
    /// A queue for `capacity` users, each forgotten when it did not ask again for `patience`.
    pub(crate) fn new(capacity: usize, patience: Duration) -> Self {
        Self { entries: VecDeque::new(), capacity, patience }
    }

    /// Puts `user` at the end; one that waits already keeps its place, and its patience is renewed.
    pub(crate) fn enter(&mut self, user: &UserId, now: Instant) -> Result<(), Full> {
        self.entries.retain(|entry| entry.until > now);
        let until = now + self.patience;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.user == *user) {
            entry.until = until;
            return Ok(());
        }
        if self.entries.len() >= self.capacity {
            return Err(Full);
        }
        let user = user.clone();
        self.entries.push_back(Entry { user, until });
        Ok(())
    }

    /// The two who wait longest. They go on waiting until they [`leave`](Self::leave).
    pub(crate) fn first_pair(&self) -> Option<[UserId; 2]> {
        let mut users = self.entries.iter().map(|entry| entry.user.clone());
        Some([users.next()?, users.next()?])
    }

    /// Whether `user` was waiting.
    pub(crate) fn leave(&mut self, user: &UserId, now: Instant) -> bool {
        self.entries.retain(|entry| entry.until > now);
        let before = self.entries.len();
        self.entries.retain(|entry| entry.user != *user);
        self.entries.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn pair(queue: &Queue) -> Option<[String; 2]> {
        let pair = queue.first_pair()?;
        Some(pair.map(|user| user.as_str().to_owned()))
    }

    #[tokio::test]
    async fn the_first_two_are_a_pair_in_the_order_they_came() {
        let (mut queue, now) = (Queue::new(10, PATIENCE), Instant::now());
        assert_eq!(pair(&queue), None);
        for name in ["a", "b", "c"] {
            queue.enter(&user(name), now).unwrap();
        }
        assert_eq!(pair(&queue), Some(["a".into(), "b".into()]));
        assert_eq!(pair(&queue), Some(["a".into(), "b".into()]), "asking takes nobody out");
        assert!(queue.leave(&user("a"), now));
        assert!(!queue.leave(&user("a"), now));
        assert_eq!(pair(&queue), Some(["b".into(), "c".into()]));
    }

    #[tokio::test]
    async fn a_user_who_enters_twice_waits_once_and_keeps_its_place() {
        let (mut queue, now) = (Queue::new(2, PATIENCE), Instant::now());
        queue.enter(&user("a"), now).unwrap();
        queue.enter(&user("a"), now).unwrap();
        assert_eq!(pair(&queue), None);
        queue.enter(&user("b"), now).unwrap();
        queue.enter(&user("a"), now).unwrap();
        assert_eq!(pair(&queue), Some(["a".into(), "b".into()]));
    }

    #[tokio::test]
    async fn who_does_not_ask_again_is_forgotten() {
        let (mut queue, now) = (Queue::new(10, PATIENCE), Instant::now());
        queue.enter(&user("a"), now).unwrap();
        queue.enter(&user("b"), now).unwrap();
        let later = now + PATIENCE / 2;
        queue.enter(&user("b"), later).unwrap();
        let end = now + PATIENCE;
        queue.enter(&user("c"), end).unwrap();
        assert_eq!(pair(&queue), Some(["b".into(), "c".into()]));
        assert!(!queue.leave(&user("b"), later + PATIENCE));
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let (mut queue, now) = (Queue::new(2, PATIENCE), Instant::now());
        queue.enter(&user("a"), now).unwrap();
        queue.enter(&user("b"), now).unwrap();
        assert_eq!(queue.enter(&user("c"), now), Err(Full));
        assert_eq!(queue.enter(&user("b"), now), Ok(()), "who waits already may ask again");
        assert_eq!(queue.enter(&user("c"), now + PATIENCE), Ok(()));
    }
}
