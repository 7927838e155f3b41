//! What a host may observe: users that connect and disconnect, sessions that open, become active and
//! end, participants that come and go.
//!
//! Each event happens on one node, the one that made the change, and is seen by the hosts there. Where
//! the store's answer to a change was lost, its event may come late, or twice.

use tokio::sync::broadcast;

use crate::{
    auth::AuthRefusal,
    frame::CloseReason,
    id::{ConnectionId, SessionId, UserId},
    reason::{DisconnectReason, EndReason},
    session::Metadata,
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A connection was admitted: it is its user's now.
    UserConnected {
        /// Who.
        user: UserId,
        /// On which connection.
        connection: ConnectionId,
    },
    /// A connection that was admitted has ended. The user may be on a newer one by now.
    UserDisconnected {
        /// Who.
        user: UserId,
        /// Which connection of it.
        connection: ConnectionId,
        /// Why.
        reason: DisconnectReason,
        /// What the host that disconnected it said of that; empty otherwise.
        text: CloseReason,
    },
    /// A connection whose user was authenticated was not admitted.
    ///
    /// A client may try again at once, so of each reason 32 are told at once and then ten in a second.
    ConnectionRefused {
        /// Who.
        user: UserId,
        /// Which connection of it.
        connection: ConnectionId,
        /// Why.
        reason: DisconnectReason,
        /// What the host that refused it said of that; empty otherwise.
        text: CloseReason,
        /// How many before it, refused for the same reason, were not told.
        suppressed: u64,
    },
    /// Credentials were refused, so that it is not known whose they were.
    ///
    /// Anybody can bring any number of wrong ones, so of each reason 32 are told at once and then ten in
    /// a second.
    CredentialsRefused {
        /// Why.
        reason: AuthRefusal,
        /// How many before it, refused for the same reason, were not told.
        suppressed: u64,
    },
    /// A session was opened.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Who makes the offer.
        initiator: UserId,
        /// The other one.
        responder: UserId,
        /// What the host gave it.
        metadata: Option<Metadata>,
    },
    /// A participant is there: for the first time, or back.
    ParticipantConnected {
        /// The session.
        session: SessionId,
        /// Who.
        user: UserId,
        /// On which connection.
        connection: ConnectionId,
    },
    /// Both participants are there.
    SessionActive {
        /// The session.
        session: SessionId,
    },
    /// A participant's connection has ended.
    ParticipantDisconnected {
        /// The session.
        session: SessionId,
        /// Who.
        user: UserId,
        /// Why.
        reason: DisconnectReason,
        /// What the host that disconnected it said of that; empty otherwise.
        text: CloseReason,
    },
    /// The session is over.
    SessionEnded {
        /// The session.
        session: SessionId,
        /// Why.
        reason: EndReason,
        /// What the host that ended it said of that; empty otherwise.
        text: CloseReason,
        /// What the host gave it when it was opened.
        metadata: Option<Metadata>,
    },
}

/// The host did not keep up, and this many events are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were missed")]
pub struct Missed(pub u64);

/// A subscription to the events of one relay, from [`Relay::events`](crate::Relay::events).
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<Event>) -> Self {
        Self(receiver)
    }

    /// The next event; none once the relay is gone. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`Missed`] once in the place of events that were dropped because this subscription was more
    /// than [`Config::event_capacity`](crate::Config::event_capacity) behind.
    pub async fn next(&mut self) -> Result<Option<Event>, Missed> {
        match self.0.recv().await {
            Ok(event) => Ok(Some(event)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(n)) => Err(Missed(n)),
        }
    }
}
