//! What a host asks of its relay.

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, future::try_join_all, join};

use super::{
    NewSession, Relay,
    hooks::{self, HookError},
    writes::{Ending, readable},
};
use crate::{
    bus::{BusError, Envelope},
    event::{EndReason, Event},
    frame::CloseReason,
    id::{self, ConnectionId, IdError, NodeId, SessionId, UserId},
    notice::Notice,
    session::{SameUser, SessionRecord},
    store::{Joined, StoreError, Written},
};

/// What became of [`Relay::open`].
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
    /// [`NewSession::id`] or [`Relay::open_session_as`], it is open once; left alone, it ends when
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

impl Relay {
    /// Opens a session for two users who were matched, under a new id. `initiator` enrolled first
    /// and makes the offer.
    ///
    /// Both get `match-found`, now or when they connect. The session ends when one of them does not
    /// connect within [`Config::abandon_after`](crate::Config::abandon_after).
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open_session(
        &self,
        initiator: &UserId,
        responder: &UserId,
    ) -> Result<SessionId, OpenError> {
        let (session, _) = self.open(NewSession::between(initiator, responder)).await?;
        Ok(session)
    }

    /// Opens a session under an id of the host's own. Opening it again changes nothing.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open_session_as(
        &self,
        session: &SessionId,
        initiator: &UserId,
        responder: &UserId,
    ) -> Result<Opened, OpenError> {
        let (_, opened) = self.open(NewSession::between(initiator, responder).id(session)).await?;
        Ok(opened)
    }

    /// Opens a session, and gives its id. Opening one again under its id changes nothing: the first
    /// metadata stays.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open(&self, new: NewSession) -> Result<(SessionId, Opened), OpenError> {
        let NewSession { initiator, responder, id, metadata } = new;
        let is_new = id.is_none();
        let session = id.map_or_else(SessionId::generate, Ok)?;
        let (session, initiator, responder) = (&session, &initiator, &responder);
        let (node, users) = (&self.node, [initiator, responder]);
        let lost = |source| {
            node.health.note(&source);
            OpenError::Store { session: session.clone(), source }
        };
        let now = node.now();
        let until = now.after(node.config.abandon_after);
        let mut record = SessionRecord::open(
            session.clone(),
            id::random_u64()?,
            initiator.clone(),
            responder.clone(),
            until,
        )?;
        record.metadata = metadata;
        record.opened_at = Some(now);
        let asked = async { node.hooks.before_session(&record).await };
        hooks::ask(node.config.hook_timeout, asked).await?.map_err(OpenError::Refused)?;
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
        let (here, elsewhere): (Vec<_>, Vec<_>) = connections.partition(|it| *it.node() == node.id);
        let record = Arc::new(record);
        let create = node.store.put(&record, None);
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
                    node.store.leave(user, session).await.map_err(lost)?;
                }
                return Err(OpenError::Conflict);
            }
        };
        if opened == Opened::New {
            tracing::debug!(%session, "session opened");
            node.emit(Event::SessionOpened {
                session: session.clone(),
                initiator: initiator.clone(),
                responder: responder.clone(),
                metadata: record.metadata.clone(),
            });
        }
        for connection in &here {
            node.notify(connection, Notice::Opened(record.clone()));
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
    async fn tell_elsewhere(
        &self,
        connections: &[ConnectionId],
        record: &Arc<SessionRecord>,
    ) -> Result<(), BusError> {
        let mut nodes: BTreeMap<&NodeId, Vec<Envelope>> = BTreeMap::new();
        for connection in connections {
            let (to, notice) = (connection.clone(), Notice::Opened(record.clone()));
            nodes.entry(connection.node()).or_default().push(Envelope::Notice { to, notice });
        }
        let told = nodes.iter().map(|(node, opened)| self.node.node_queues.publish(node, opened));
        try_join_all(told).await.map(drop)
    }

    /// Takes back what was done for `user`, unless it was in the session before.
    async fn not_opened(
        &self,
        session: &SessionId,
        user: &UserId,
        joined: &Joined,
    ) -> Result<(), StoreError> {
        if matches!(joined, Joined::Done(_)) && self.node.load_for(user, session).await?.is_none() {
            self.node.store.leave(user, session).await?;
        }
        Ok(())
    }

    async fn join(&self, user: &UserId, session: &SessionId) -> Result<Joined, StoreError> {
        let (node, limit) = (&self.node, self.node.config.max_sessions_per_user);
        let memberships = match node.store.join(user, session, limit).await? {
            Joined::Full(memberships) => memberships,
            done @ Joined::Done(_) => return Ok(done),
        };
        // Some may lead nowhere any more, and go when they are followed.
        let followed = memberships.iter().map(|one| node.follow(user, one).map(readable));
        try_join_all(followed).await?;
        node.store.join(user, session, limit).await
    }

    /// Ends a session, whichever nodes its participants are on; both get `partner-disconnected`.
    /// False when there is none. What the host says of it, if not [`CloseReason::default`], is in the
    /// event [`SessionEnded`](Event::SessionEnded); clients do not see it.
    ///
    /// # Errors
    ///
    /// When the store did not answer; the session may have ended all the same.
    pub async fn close_session(
        &self,
        session: &SessionId,
        reason: CloseReason,
    ) -> Result<bool, StoreError> {
        let ending = Ending { text: reason, ..EndReason::ByHost.into() };
        match self.node.store.load(session).await? {
            Some(record) => {
                let ended = self.node.end(Arc::new(record), ending, |_| true).await;
                ended.inspect_err(|error| self.node.health.note(error))
            }
            None => Ok(false),
        }
    }

    /// A session as the store has it.
    ///
    /// # Errors
    ///
    /// When the store did not answer.
    pub async fn session(&self, session: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        self.node.store.load(session).await
    }

    /// The sessions in which the user takes part, whichever node it is on; the oldest first. Each as
    /// it is when it is read: one that opens or ends meanwhile may be missing, or be there still.
    ///
    /// # Errors
    ///
    /// When the store did not answer.
    pub async fn sessions_of(&self, user: &UserId) -> Result<Vec<SessionRecord>, StoreError> {
        let mut memberships = self.node.store.user(user).await?.memberships;
        memberships.sort_by_key(|membership| membership.since);
        let followed = memberships.iter().map(|one| self.node.follow(user, one).map(readable));
        Ok(try_join_all(followed).await?.into_iter().flatten().collect())
    }

    /// Whether the user has a connection, on any node.
    ///
    /// # Errors
    ///
    /// When the store did not answer.
    pub async fn is_connected(&self, user: &UserId) -> Result<bool, StoreError> {
        Ok(self.node.store.user(user).await?.connection.is_some())
    }

    /// Closes the user's connection with 1000, on any node. Its sessions wait for it to come back.
    /// False when it has none. The `reason` is the text of the close frame that the client gets, and
    /// in the event [`ParticipantDisconnected`](Event::ParticipantDisconnected);
    /// [`CloseReason::default`] leaves the close code's own.
    ///
    /// # Errors
    ///
    /// When the store did not answer.
    pub async fn disconnect(&self, user: &UserId, reason: CloseReason) -> Result<bool, StoreError> {
        let connection = self.node.store.user(user).await?.connection;
        if let Some(connection) = &connection {
            self.node.notify(connection, Notice::Disconnect { text: reason });
        }
        Ok(connection.is_some())
    }
}
