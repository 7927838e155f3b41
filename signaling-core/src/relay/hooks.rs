//! What a host may decide: whether a connection is admitted, whether a session opens, and which of
//! two connections of a user stays.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time;

use super::background::{Panicked, caught};
use crate::{
    auth::Client,
    frame::CloseReason,
    id::{ConnectionId, SessionId, UserId},
    protocol::NegotiationId,
    session::SessionRecord,
};

/// A connection that is not its user's yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Newcomer {
    /// The connection.
    pub connection: ConnectionId,
    /// Who is on it, and what it understands.
    pub client: Client,
}

impl Newcomer {
    pub(super) fn new(connection: ConnectionId, client: Client) -> Self {
        Self { connection, client }
    }

    /// Whose connection it is to be.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.client.identity.user
    }

    /// The negotiation that its client wants to continue in `session`.
    pub(super) fn continuing(&self, session: &SessionId) -> Option<NegotiationId> {
        let named = self.client.continuing.iter().find(|one| one.session == *session);
        named.map(|one| one.negotiation)
    }
}

/// What the host is asked before something happens; it may refuse. By default it refuses nothing.
///
/// Each question has [`Config::hook_timeout`](crate::Config::hook_timeout) for its answer. Nobody
/// else waits meanwhile: neither the node nor other connections. Dropping the future midway must
/// be safe: that is what happens to one that takes longer. It may not block its thread; nothing
/// could take that back. A panic ends the question, and neither the node nor any other connection.
///
/// Every node asks its own hooks, so all nodes of a deployment should have the same.
#[async_trait]
pub trait Hooks: Send + Sync + fmt::Debug + 'static {
    /// A client was authenticated, and is about to be admitted.
    ///
    /// # Errors
    ///
    /// A refused connection is closed with 1008 and the reason. One whose question is not answered
    /// in time is closed with 4503, and one whose question panics with 1011.
    async fn before_connection(&self, newcomer: &Newcomer) -> Result<(), CloseReason> {
        let _ = newcomer;
        Ok(())
    }

    /// A session is about to be opened on this node, as this record has it. Asked also where it
    /// turns out to be open already.
    ///
    /// # Errors
    ///
    /// A refused session is [`OpenError::Refused`](super::OpenError::Refused), and one whose
    /// question is not answered [`OpenError::Hook`](super::OpenError::Hook).
    async fn before_session(&self, session: &SessionRecord) -> Result<(), CloseReason> {
        let _ = session;
        Ok(())
    }
}

/// Hooks that refuse nothing.
#[derive(Debug)]
pub(super) struct NoHooks;

impl Hooks for NoHooks {}

/// What becomes of a second connection of a user, on whichever node. The same on all nodes of a
/// deployment.
///
/// A refused connection closes with 4409 and the text "already connected". Of several that come at
/// the same time, on any nodes, one is admitted. The one that is there is not asked whether it
/// still lives: a client that vanished without a close frame is noticed by
/// [`Config::silence_timeout`](crate::Config::silence_timeout), a node that died by
/// [`Config::node_lease`](crate::Config::node_lease), both within 30 s by default, and until then
/// its user is refused. When the store has lost its records, the one that was accepted last stays with
/// [`Replace`](Self::Replace), and otherwise the last to come back.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum SecondConnection {
    /// It replaces the first, which closes with 4409. The default: a page that is loaded again, or
    /// a phone in another network, is back at once.
    #[default]
    Replace,
    /// It is refused while the first is there.
    Refuse,
    /// The host decides each time.
    Ask(Arc<dyn Arbiter>),
}

/// Which of two connections of a user stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// The newcomer; the one that is there closes with 4409.
    Newcomer,
    /// The one that is there; the newcomer closes with 4409.
    Present,
}

/// Decides between two connections of one user; for [`SecondConnection::Ask`].
///
/// It is asked as [`Hooks`] are: within the same time, with the same outcome where it is not
/// answered, and a panic is contained the same way.
#[async_trait]
pub trait Arbiter: Send + Sync + fmt::Debug + 'static {
    /// Which of the two stays. What is `present` may be gone when the answer comes; where it is
    /// another one then, the question is asked again.
    async fn decide(&self, newcomer: &Newcomer, present: &ConnectionId) -> Stays;
}

/// Why the host's own code gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// It took longer than [`Config::hook_timeout`](crate::Config::hook_timeout).
    #[error("a hook did not answer in time")]
    TimedOut,
    /// It panicked.
    #[error("a hook panicked")]
    Panicked,
}

/// The host's answer, if it gives one within `limit`.
pub(super) async fn ask<T>(
    limit: Duration,
    question: impl Future<Output = T>,
) -> Result<T, HookError> {
    match time::timeout(limit, caught(question)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Panicked)) => Err(HookError::Panicked),
        Err(_) => Err(HookError::TimedOut),
    }
}
