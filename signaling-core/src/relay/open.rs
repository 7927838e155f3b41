//! Opens the sessions that a host asks for.

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, future::try_join_all, join};

use super::{
    hooks::{self, HookError},
    node::Node,
    writes::readable,
};
use crate::{
    bus::{BusError, Envelope},
    event::Event,
    frame::CloseReason,
    id::{self, ConnectionId, IdError, NodeId, SessionId, UserId},
    notice::Notice,
    session::{Metadata, SameUser, SessionRecord},
    store::{Joined, StoreError, Written},
};

/// A session that is to be opened: for whom, under which id, and what the host wants to know of it
/// again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    initiator: UserId,
    responder: UserId,
    id: Option<SessionId>,
    metadata: Option<Metadata>,
}

impl NewSession {
    /// For two users who were matched; `initiator` enrolled first and makes the offer. Under a new
    /// id, and without metadata.
    #[must_use]
    pub fn between(initiator: &UserId, responder: &UserId) -> Self {
        let (initiator, responder) = (initiator.clone(), responder.clone());
        Self { initiator, responder, id: None, metadata: None }
    }

    /// Under an id of the host's own.
    #[must_use]
    pub fn id(mut self, id: &SessionId) -> Self {
        self.id = Some(id.clone());
        self
    }

    /// With something for the host to find again in
    /// [`SessionRecord::metadata`](crate::session::SessionRecord::metadata) and in events. Clients
    /// never see it.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(metadata);
        self
    }
}

/// What became of [`Relay::open`](super::Relay::open).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Opened {
    /// The session is open now.
    New,
    /// This very session, with the same users in the same roles, was open already.
    Existing,
}

/// Why a session was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A user cannot be matched with itself.
    #[error(transparent)]
    SameUser(#[from] SameUser),
    /// The id is that of a session with other users, or the same in other roles.
    #[error("the session id is taken by other users")]
    Conflict,
    /// A user is in as many sessions as it may be in.
    #[error("user {0} is in too many sessions")]
    TooManySessions(UserId),
    /// The store did not answer, or the bus did not take the news for a participant's node: whether
    /// the session is open, and both are told, is not known. Opened once more under the same id, with
    /// [`NewSession::id`], it is open once; left alone, it ends when
    /// nobody connects.
    #[error("whether session {session} is open is not known")]
    Store {
        /// The id: the host's own, or the new one.
        session: SessionId,
        /// How the store failed.
        source: StoreError,
    },
    /// The host's own [`Hooks`](super::Hooks) refused it.
    #[error("the session was refused: {}", .0.as_str())]
    Refused(CloseReason),
    /// The host's own [`Hooks`](super::Hooks) gave no answer; nothing was opened.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// No id could be made.
    #[error(transparent)]
    Id(#[from] IdError),
}

impl Node {
    /// See [`Relay::open`](super::Relay::open).
    pub(super) async fn open(
        self: &Arc<Self>,
        new: NewSession,
    ) -> Result<(SessionId, Opened), OpenError> {
        let NewSession { initiator, responder, id, metadata } = new;
        let is_new = id.is_none();
        let session = id.map_or_else(SessionId::generate, Ok)?;
        let (session, initiator, responder) = (&session, &initiator, &responder);
        let users = [initiator, responder];
        let lost = |source| {
            self.health.note(&source);
            OpenError::Store { session: session.clone(), source }
        };
        let now = self.now();
        let until = now.after(self.config.abandon_after);
        let mut record = SessionRecord::open(
            session.clone(),
            id::random_u64()?,
            initiator.clone(),
            responder.clone(),
            until,
        )?;
        record.metadata = metadata;
        record.opened_at = Some(now);
        let asked = async { self.hooks.before_session(&record).await };
        hooks::ask(self.config.hook_timeout, asked).await?.map_err(OpenError::Refused)?;
        let joined = join!(self.join(initiator, session), self.join(responder, session));
        let connections = match (joined.0.map_err(lost)?, joined.1.map_err(lost)?) {
            (Joined::Done(one), Joined::Done(other)) => [one, other].into_iter().flatten(),
            (Joined::Full(_), other) => {
                self.not_opened(session, responder, &other).await.map_err(lost)?;
                return Err(OpenError::TooManySessions(initiator.clone()));
            }
            (one, Joined::Full(_)) => {
                self.not_opened(session, initiator, &one).await.map_err(lost)?;
                return Err(OpenError::TooManySessions(responder.clone()));
            }
        };
        let (here, elsewhere): (Vec<_>, Vec<_>) = connections.partition(|it| *it.node() == self.id);
        let record = Arc::new(record);
        let create = self.store.put(&record, None);
        let (created, told) = if is_new {
            // Nobody else has this id, so the news follows without waiting for the answer.
            let (created, told) = join!(create, self.tell_elsewhere(&elsewhere, &record));
            (created, Some(told))
        } else {
            (create.await, None)
        };
        let (record, opened) = match created.map_err(lost)? {
            Written::Done => (record.clone(), Opened::New),
            Written::Missing => {
                return Err(lost(StoreError::Corrupt("a record was expected by the store".into())));
            }
            Written::Conflict(there) if there.same_users(&record) => {
                (Arc::from(there), Opened::Existing)
            }
            Written::Conflict(there) => {
                for user in users.iter().filter(|user| there.role_of(user).is_none()) {
                    self.store.leave(user, session, None).await.map_err(lost)?;
                }
                return Err(OpenError::Conflict);
            }
        };
        if opened == Opened::New {
            tracing::debug!(%session, "session opened");
            self.emit(Event::SessionOpened {
                session: session.clone(),
                initiator: initiator.clone(),
                responder: responder.clone(),
                metadata: record.metadata.clone(),
            });
        }
        for connection in &here {
            self.notify(connection, Notice::Opened(record.clone()));
        }
        // Who is connected and not told finds the session by nothing else. If this node died first, the
        // host would believe it open, and nobody else would know that somebody is still to be told.
        let told = match told {
            Some(told) => told,
            None => self.tell_elsewhere(&elsewhere, &record).await,
        };
        told.map_err(|not| lost(StoreError::unavailable(not)))?;
        Ok((session.clone(), opened))
    }

    /// Tells connections of other nodes that a session is open; those of one node in one call.
    pub(super) async fn tell_elsewhere(
        &self,
        connections: &[ConnectionId],
        record: &Arc<SessionRecord>,
    ) -> Result<(), BusError> {
        let mut nodes: BTreeMap<&NodeId, Vec<Envelope>> = BTreeMap::new();
        for connection in connections.iter().filter(|connection| *connection.node() != self.id) {
            let opened = Envelope::notice(connection, Notice::Opened(record.clone()));
            nodes.entry(connection.node()).or_default().push(opened);
        }
        let told = nodes.iter().map(|(node, opened)| self.node_queues.publish(node, opened));
        try_join_all(told).await.map(drop)
    }

    /// Takes back what was done for `user`, unless it was in the session before.
    async fn not_opened(
        &self,
        session: &SessionId,
        user: &UserId,
        joined: &Joined,
    ) -> Result<(), StoreError> {
        if matches!(joined, Joined::Done(_)) && self.load_for(user, session).await?.is_none() {
            self.store.leave(user, session, None).await?;
        }
        Ok(())
    }

    async fn join(&self, user: &UserId, session: &SessionId) -> Result<Joined, StoreError> {
        let limit = self.config.max_sessions_per_user;
        let memberships = match self.store.join(user, session, limit).await? {
            Joined::Full(memberships) => memberships,
            done @ Joined::Done(_) => return Ok(done),
        };
        // Some may lead nowhere any more, and go when they are followed.
        let followed = memberships.iter().map(|one| self.follow(user, one).map(readable));
        try_join_all(followed).await?;
        self.store.join(user, session, limit).await
    }
}
