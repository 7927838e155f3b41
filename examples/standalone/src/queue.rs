//! Who waits for a partner, first come first served: in this process, or shared by all nodes.

mod local;
mod shared;
#[cfg(test)]
mod suite;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use clap::ValueEnum;
use signaling_core::{
    id::{IdError, SessionId, UserId},
    store::StoreError,
};
use tokio::time::Instant;

pub(crate) use local::LocalQueue;
pub(crate) use shared::SharedQueue;

/// Whom a user may be matched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Partners {
    /// All who wait.
    All,
    /// Only those who are connected, while the user itself is connected. Who is found not to be
    /// loses its place.
    Connected,
}

/// How many users may wait, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Users who may wait at once; more are refused.
    pub(crate) capacity: usize,
    /// Who does not ask again for this long is forgotten.
    pub(crate) patience: Duration,
}

/// Two users who are to get a session. `Debug` is for tests alone: users are not logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The id that their session is to have, whoever opens it, and however often that is tried.
    pub(crate) session: SessionId,
    /// In the order they came.
    pub(crate) users: [UserId; 2],
    /// [`Partners::Connected`] if one of the two asked for it.
    pub(crate) partners: Partners,
}

/// Why the queue did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// As many wait as may; the user does not.
    #[error("the queue is full")]
    Full,
    /// The queue did not answer in time. What was asked may have been done.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no randomness for a session's id.
    #[error(transparent)]
    Id(#[from] IdError),
}

/// A queue of users, each of whom waits once.
///
/// Two who wait are a pair at once, so more than one wait only while sessions cannot be opened.
///
/// # Contract
///
/// - A pair is given to one holder of the queue, whose users then are nobody else's. It is given to
///   that holder again and again until it is settled or dissolved. Where several nodes share the
///   queue, another holder gets it, under the same session id, when the first one has not settled
///   it for some seconds: it may be dead.
/// - Every call is atomic, and done twice is done once. One that failed may have been done, but
///   nothing is done after `by`: its caller has given up.
/// - Dropping a future midway is an error that nobody sees.
#[async_trait]
pub(crate) trait Queue: Send + Sync + fmt::Debug + 'static {
    /// Puts `user` at the end; one that waits already keeps its place, and its patience is renewed.
    /// Of the `partners` that it asked for, the last ones count. Gives the [`next`](Self::next) pair in the same step, so that of two who wait the second one
    /// to ask learns of its partner.
    async fn enter(
        &mut self,
        user: &UserId,
        partners: Partners,
        by: Instant,
    ) -> Result<Option<Pair>, QueueError>;

    /// The pair to open a session for.
    async fn next(&mut self, by: Instant) -> Result<Option<Pair>, QueueError>;

    /// The pair has its session.
    async fn settle(&mut self, pair: &Pair, by: Instant) -> Result<(), QueueError>;

    /// The pair gets no session: who is not among `gone` is back in its place.
    async fn dissolve(
        &mut self,
        pair: &Pair,
        gone: &[UserId],
        by: Instant,
    ) -> Result<(), QueueError>;

    /// Whether `user` was waiting, and does not any more. Who is in a pair is as good as matched,
    /// and does not wait.
    async fn leave(&mut self, user: &UserId, by: Instant) -> Result<bool, QueueError>;
}
