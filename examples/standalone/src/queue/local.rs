use std::collections::VecDeque;

use async_trait::async_trait;
use signaling_core::id::{SessionId, UserId};
use tokio::time::Instant;

use super::{Bounds, Pair, Partners, Queue, QueueError};

/// A queue of this process alone.
#[derive(Debug)]
pub(crate) struct LocalQueue {
    entries: VecDeque<Entry>,
    /// The pair that is being opened, as it was in the queue.
    taken: Option<(Pair, [Entry; 2])>,
    bounds: Bounds,
}

#[derive(Debug, Clone)]
struct Entry {
    user: UserId,
    partners: Partners,
    until: Instant,
}

impl LocalQueue {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { entries: VecDeque::new(), taken: None, bounds }
    }

    fn forget_impatient(&mut self) {
        let now = Instant::now();
        self.entries.retain(|entry| entry.until > now);
    }

    fn take(&mut self) -> Result<Option<Pair>, QueueError> {
        self.forget_impatient();
        if self.taken.is_none() && self.entries.len() >= 2 {
            let session = SessionId::generate()?;
            if let (Some(first), Some(second)) =
                (self.entries.pop_front(), self.entries.pop_front())
            {
                let users = [first.user.clone(), second.user.clone()];
                let connected = [first.partners, second.partners].contains(&Partners::Connected);
                let partners = if connected { Partners::Connected } else { Partners::All };
                let pair = Pair { session, users, partners };
                self.taken = Some((pair, [first, second]));
            }
        }
        Ok(self.taken.as_ref().map(|(pair, _)| pair.clone()))
    }

    /// Whether that pair was the one that is being opened; it is no more.
    fn end(&mut self, pair: &Pair) -> Option<[Entry; 2]> {
        let (_, entries) = self.taken.take_if(|(taken, _)| taken.session == pair.session)?;
        Some(entries)
    }
}

#[async_trait]
impl Queue for LocalQueue {
    async fn enter(
        &mut self,
        user: &UserId,
        partners: Partners,
        _by: Instant,
    ) -> Result<Option<Pair>, QueueError> {
        self.forget_impatient();
        let until = Instant::now() + self.bounds.patience;
        let taken = self.taken.as_ref().is_some_and(|(pair, _)| pair.users.contains(user));
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.user == *user) {
            entry.until = until;
            entry.partners = partners;
        } else if !taken {
            let taken = if self.taken.is_some() { 2 } else { 0 };
            if self.entries.len() + taken >= self.bounds.capacity {
                return Err(QueueError::Full);
            }
            self.entries.push_back(Entry { user: user.clone(), partners, until });
        }
        self.take()
    }

    async fn next(&mut self, _by: Instant) -> Result<Option<Pair>, QueueError> {
        self.take()
    }

    async fn settle(&mut self, pair: &Pair, _by: Instant) -> Result<(), QueueError> {
        self.end(pair);
        Ok(())
    }

    async fn dissolve(
        &mut self,
        pair: &Pair,
        gone: &[UserId],
        _by: Instant,
    ) -> Result<(), QueueError> {
        let entries = self.end(pair).into_iter().flatten();
        let stay = entries.filter(|entry| !gone.contains(&entry.user));
        for entry in stay.collect::<Vec<_>>().into_iter().rev() {
            self.entries.push_front(entry);
        }
        Ok(())
    }

    async fn leave(&mut self, user: &UserId, _by: Instant) -> Result<bool, QueueError> {
        self.forget_impatient();
        let before = self.entries.len();
        self.entries.retain(|entry| entry.user != *user);
        Ok(self.entries.len() < before)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::suite, *};

    suite::queue_tests!(async |bounds| (LocalQueue::new(bounds), ()));
}
