//! What the parts of a relay share.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::broadcast;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    background::Background,
    end_pacer::EndPacer,
    health::Health,
    heartbeats::Heartbeats,
    hooks::{Hooks, SecondConnection},
    node_queue::NodeQueues,
    refusal::Refusals,
    registry::Registry,
    revocations::Revocations,
    sockets::Sockets,
    user_limits::UserTable,
};
use crate::{
    auth::{AuthError, Authenticator, Identity},
    bus::{Envelope, MessageBus},
    config::Config,
    connection::TokenTimes,
    event::Event,
    frame::CloseReason,
    ice::IceServerProvider,
    id::{ConnectionId, NodeId, UserId},
    log::Throttle,
    notice::Notice,
    reason::DisconnectReason,
    store::SessionStore,
    time::{Clock, Timestamp},
};

/// One node, as its parts know it.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) config: Arc<Config>,
    /// For what comes from outside: the expiry of tokens and of TURN credentials.
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) bus: Arc<dyn MessageBus>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) hooks: Arc<dyn Hooks>,
    pub(super) second_connection: SecondConnection,
    pub(super) ice_servers: Option<Arc<dyn IceServerProvider>>,
    pub(super) registry: Registry,
    pub(super) sockets: Sockets,
    pub(super) users: UserTable,
    pub(super) node_queues: NodeQueues,
    pub(super) end_pacer: Arc<EndPacer>,
    pub(super) heartbeats: Heartbeats,
    pub(super) health: Arc<Health>,
    pub(super) events: broadcast::Sender<Event>,
    /// Connections and what they left to be written; shutting down waits for these.
    pub(super) tasks: TaskTracker,
    pub(super) background: Background,
    pub(super) refusals: Refusals,
    pub(super) revocations: Revocations,
    /// Of what may fail again and again.
    pub(super) warnings: Throttle,
    pub(super) draining: AtomicBool,
    /// New connections are refused.
    pub(super) closed_to_new: AtomicBool,
    pub(super) stopped: CancellationToken,
}

impl Node {
    pub(super) fn is_closed_to_new(&self) -> bool {
        self.closed_to_new.load(Ordering::SeqCst)
    }

    /// The store's time, for what nodes compare: deadlines, memberships, heartbeats. It is ahead by at most
    /// the time that the last lease took.
    pub(super) fn now(&self) -> Timestamp {
        self.health.store_time()
    }

    pub(super) fn token_times(&self, identity: &Identity) -> TokenTimes {
        let expires = identity.expires_at.map(|at| (at, at.since(self.clock.now())));
        TokenTimes { issued_at: identity.issued_at, expires }
    }

    /// Sends an event to the host's subscribers, if there are any.
    pub(super) fn emit(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Logs a failure that may come again and again.
    pub(super) fn warn(&self, what: &'static str, error: &(dyn Error + 'static)) {
        if let Some(suppressed) = self.warnings.pass(what) {
            tracing::warn!(node = %self.id, error, suppressed, "{what}");
        }
    }

    /// Logs that credentials were refused, and tells the host.
    pub(super) fn credentials_refused(&self, error: &AuthError) {
        if let Some(event) = self.refusals.credentials(error) {
            self.emit(event);
        }
    }

    /// Tells the host that a connection is not admitted.
    pub(super) fn connection_refused(
        &self,
        user: UserId,
        connection: ConnectionId,
        reason: DisconnectReason,
        text: CloseReason,
    ) {
        if let Some(event) = self.refusals.connection(user, connection, reason, text) {
            self.emit(event);
        }
    }

    /// Sends `notice` to a connection, on whichever node it is.
    pub(super) fn notify(self: &Arc<Self>, to: &ConnectionId, notice: Notice) {
        if *to.node() == self.id {
            self.deliver(to, notice);
        } else {
            self.node_queues.queue(to.node()).send(Envelope::notice(to, notice), None);
        }
    }
}
