//! The engine: one [`Relay`] is one node, and all that a host talks to.

mod background;
mod backoff;
mod builder;
mod delivery;
mod drain;
mod driver;
mod end_pacer;
mod health;
mod heartbeats;
mod hooks;
mod ice;
mod jobs;
mod lease;
mod mailbox;
mod node;
mod node_queue;
mod open;
mod refresh;
mod refusal;
mod registry;
mod revocations;
mod revoke;
mod share;
mod sockets;
mod tasks;
mod user_limits;
mod worker;
mod writes;

use std::{
    error::Error,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt, Sink, Stream, future::try_join_all};
use tokio::time;
use tokio_util::sync::DropGuard;

pub(crate) use background::caught;
pub use builder::{RelayBuilder, StartError};
pub use hooks::{Arbiter, HookError, Hooks, Newcomer, SecondConnection, Stays};
pub use open::{NewSession, OpenError, Opened};

use crate::{
    auth::{AuthError, Authenticator, Client, Credentials, Identity},
    config::Config,
    event::Events,
    frame::{CloseCode, CloseReason, Frame, TransportError},
    id::{NodeId, SessionId, UserId},
    notice::Notice,
    reason::{DisconnectReason, EndReason},
    session::SessionRecord,
    store::{Counts, StoreError},
    time::Timestamp,
};
use node::Node;
use writes::{Ending, readable};

/// One node: accepts connections, relays between them, and keeps sessions true.
///
/// It is cheap to clone, and all clones are the same node. Its background tasks end when the last
/// clone is gone; end it with [`Relay::shutdown`] so that clients and partners learn of it at once.
#[derive(Clone)]
pub struct Relay {
    node: Arc<Node>,
    _background: Arc<DropGuard>,
}

/// How often the counts of all nodes are read once more because the lease was renewed meanwhile.
const COUNT_ATTEMPTS: usize = 3;

/// How a [`Relay::shutdown`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Shutdown {
    /// Every connection was closed, and its end written.
    Complete,
    /// The deadline came first.
    TimedOut,
}

impl Relay {
    /// Starts describing a relay whose clients `authenticator` admits.
    pub fn builder(authenticator: impl Authenticator) -> RelayBuilder {
        RelayBuilder::new(Arc::new(authenticator))
    }

    /// This node's id.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.node.id
    }

    /// The limits and intervals in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.node.config
    }

    /// How many connections this node has.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.node.registry.len()
    }

    /// What this node has now. What it says of sessions is behind by no more than the messages that
    /// are on their way to its connections.
    #[must_use]
    pub fn counts_here(&self) -> Counts {
        self.node.registry.counts()
    }

    /// What all nodes have together, by one read of the store: this node as it is now, and each other
    /// as it was when it renewed its lease last, which is [`Config::node_renewal`] ago and what the store
    /// took to answer. A
    /// node that died counts until its lease has run out, and one that cannot reach the store does
    /// not count from then on.
    ///
    /// # Errors
    ///
    /// When the store did not answer.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let mut reported = self.node.health.reported();
        for _ in 0..COUNT_ATTEMPTS {
            let all = self.node.store.counts().await?;
            let before = std::mem::replace(&mut reported, self.node.health.reported());
            // Otherwise the lease was renewed meanwhile, and either may be what the store counted.
            if before == reported {
                return Ok(all.without(reported) + self.counts_here());
            }
        }
        Ok(self.node.store.counts().await?.without(reported) + self.counts_here())
    }

    /// Whether this node can serve: its store does what it is asked, its background tasks work, and it is
    /// neither draining nor shutting down. It follows the store within 2 s, with
    /// [`Config::node_renewal`] as it is by default.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let Node { draining, health, background, .. } = &*self.node;
        let ending = draining.load(Ordering::SeqCst) || self.node.is_closed_to_new();
        !ending && health.is_well() && background.is_whole()
    }

    /// Moves the connections of this node to others, before [`Self::shutdown`].
    ///
    /// [`Self::is_ready`] says no from now on. For `delay` everything else goes on, new connections included:
    /// time for load balancers to notice. After that, new connections close with 1001, and those that are here
    /// leave, evenly over the first four fifths of `over`: clients that negotiated `signaling.v1` are told by
    /// `move` when to open a connection elsewhere, with which their negotiations continue and of which their
    /// partners are told nothing; the others are closed with 1001. Returns when all have gone, or after
    /// `over`.
    ///
    /// Dropping the future midway leaves the node as it is then: not ready, and its clients told.
    pub async fn drain(&self, delay: Duration, over: Duration) {
        self.node.drain(delay, over).await;
    }

    /// What happens on this node from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.node.events.subscribe())
    }

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

    /// Opens a session, and gives its id. Opening one again under its id changes nothing: the first
    /// metadata stays.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open(&self, new: NewSession) -> Result<(SessionId, Opened), OpenError> {
        self.node.open(new).await
    }

    /// Ends a session, whichever nodes its participants are on; both get `partner-disconnected`.
    /// False when there is none. What the host says of it, if not [`CloseReason::default`], is in the
    /// event [`SessionEnded`](crate::event::Event::SessionEnded); clients do not see it.
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

    /// The sessions in which the user takes part, on any node; the oldest first. Each record is read
    /// separately: a session that opens or ends meanwhile may be missing or still listed.
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
    /// in the event [`ParticipantDisconnected`](crate::event::Event::ParticipantDisconnected);
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

    /// Revokes the tokens of `user` that were issued before a time, whichever nodes they are used on. A
    /// connection with such a token, or with one that does not say when it was issued, is closed with 4403
    /// within a second; a new one is refused with 4403, for [`Config::revocation_lifetime`] from now. A store that
    /// loses its records has this again from the node that was asked, while that lives.
    ///
    /// A JWT says it by `iat` (RFC 7519, section 4.1.6), in seconds, by its issuer's clock: with the present time,
    /// tokens that are issued within the same second are revoked as well.
    ///
    /// Dropping the future midway changes nothing: the revocation is written all the same.
    ///
    /// # Errors
    ///
    /// When the store did not answer; the tokens may be revoked all the same. Then the host asks again, or
    /// connections may stay that it has not told.
    pub async fn revoke(&self, user: &UserId, issued_before: Timestamp) -> Result<(), StoreError> {
        let revoked = self.node.revoke(user, issued_before).await;
        revoked.inspect_err(|error| self.node.health.note(error))
    }

    /// Asks the relay's [`Authenticator`] who brought `credentials`.
    ///
    /// # Errors
    ///
    /// When they are not accepted; close with [`Relay::refuse`].
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        let identity = self.node.authenticator.authenticate(credentials).await;
        identity.inspect_err(|error| self.node.credentials_refused(error))
    }

    /// Serves one connection to its end, and says why it ended.
    ///
    /// The transport answers pings and the peer's close frame by itself, joins fragments, and says
    /// by a [`TransportError`] what the peer did wrong; a close frame can still be sent after that.
    /// Where the peer may still be sending then, closing the sink must read to the end of it, or
    /// the socket is reset and the close frame lost; the relay limits the time that takes.
    ///
    /// Dropping the future breaks the connection; its partners are told as for any other end.
    pub async fn serve<T, E>(&self, transport: T, client: impl Into<Client>) -> DisconnectReason
    where
        T: Stream<Item = Result<Frame, E>> + Sink<Frame, Error = E> + Send,
        E: Into<TransportError>,
    {
        driver::serve(self.node.clone(), transport, client.into()).await
    }

    /// Closes a connection that is not to be served, with `code`, and waits for the peer's close
    /// frame within [`Config::close_wait`], unless too many wait already (see
    /// [`Config::max_connections`]).
    pub async fn refuse<T, E>(&self, transport: T, code: CloseCode)
    where
        T: Stream<Item = Result<Frame, E>> + Sink<Frame, Error = E> + Send,
    {
        let _running = self.node.tasks.token();
        let (_socket, wait) = self.node.sockets.refuse(&self.node.config);
        driver::close(transport, Vec::new(), Some(code.into()), wait).await;
    }

    /// Closes all connections with 1001, lets no new ones in, and waits for up to `deadline` until
    /// every end is written.
    pub async fn shutdown(&self, deadline: Duration) -> Shutdown {
        let node = &self.node;
        node.closed_to_new.store(true, Ordering::SeqCst);
        tracing::info!(node = %node.id, connections = node.registry.len(), "shutting down");
        for handle in node.registry.all() {
            handle.mailbox.close(DisconnectReason::ShuttingDown);
        }
        node.tasks.close();
        let ended = async {
            node.tasks.wait().await;
            node.node_queues.drain().await;
            node.stopped.cancel();
            let forgotten = caught(node.store.forget_node(&node.id)).await;
            if let Err(error) =
                forgotten.unwrap_or_else(|panic| Err(StoreError::unavailable(panic)))
            {
                let error = &error as &dyn Error;
                tracing::warn!(node = %node.id, error, "node not removed from the store; its lease expires");
            }
        };
        let outcome = match time::timeout(deadline, ended).await {
            Ok(()) => Shutdown::Complete,
            Err(_) => Shutdown::TimedOut,
        };
        node.stopped.cancel();
        outcome
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("node", &self.node.id)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
