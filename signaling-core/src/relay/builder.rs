use std::sync::{Arc, atomic::AtomicBool};

use tokio::{sync::broadcast, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Relay,
    background::Background,
    end_pacer::EndPacer,
    health::Health,
    heartbeats,
    hooks::{Hooks, NoHooks, SecondConnection},
    node::Node,
    node_queue::NodeQueues,
    refusal::Refusals,
    registry::Registry,
    revocations::Revocations,
    sockets::Sockets,
    tasks,
    user_limits::UserTable,
};
use crate::{
    auth::Authenticator,
    bus::{BusError, MessageBus},
    config::{Config, ConfigError},
    ice::IceServerProvider,
    id::{IdError, NodeId},
    log::{Throttle, WARNING_INTERVAL},
    memory::{MemoryBus, MemoryStore},
    store::{Counts, SessionStore, StoreError},
    time::{Clock, SystemClock},
};

/// Describes a [`Relay`]; from [`Relay::builder`].
#[derive(Debug)]
#[must_use]
pub struct RelayBuilder {
    authenticator: Arc<dyn Authenticator>,
    config: Config,
    name: Option<String>,
    clock: Arc<dyn Clock>,
    store: Arc<dyn SessionStore>,
    bus: Arc<dyn MessageBus>,
    hooks: Arc<dyn Hooks>,
    second_connection: SecondConnection,
    ice_servers: Option<Arc<dyn IceServerProvider>>,
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting cannot work.
    #[error("invalid configuration")]
    Config(#[from] ConfigError),
    /// The node's name cannot be part of an id, or there is no randomness for the rest of it.
    #[error("cannot name the node")]
    Name(#[from] IdError),
    /// The store did not answer.
    #[error("cannot start without the store")]
    Store(#[from] StoreError),
    /// The bus did not answer.
    #[error("cannot start without the bus")]
    Bus(#[from] BusError),
}

impl RelayBuilder {
    pub(super) fn new(authenticator: Arc<dyn Authenticator>) -> Self {
        Self {
            authenticator,
            config: Config::default(),
            name: None,
            clock: Arc::new(SystemClock),
            store: Arc::new(MemoryStore::new()),
            bus: Arc::new(MemoryBus::new()),
            hooks: Arc::new(NoHooks),
            second_connection: SecondConnection::default(),
            ice_servers: None,
        }
    }

    /// Limits and intervals. Default: [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where sessions are kept. Default: a [`MemoryStore`] of its own.
    pub fn store(mut self, store: Arc<dyn SessionStore>) -> Self {
        self.store = store;
        self
    }

    /// How nodes reach each other. Default: a [`MemoryBus`] of its own, on which this node is
    /// alone.
    pub fn bus(mut self, bus: Arc<dyn MessageBus>) -> Self {
        self.bus = bus;
        self
    }

    /// What is asked before a connection is admitted and before a session opens. Default: nothing.
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = hooks;
        self
    }

    /// What becomes of a second connection of a user. Default: [`SecondConnection::Replace`].
    pub fn second_connection(mut self, policy: SecondConnection) -> Self {
        self.second_connection = policy;
        self
    }

    /// Which STUN and TURN servers a client that negotiated `signaling.v1` is told of. Default: none,
    /// and its page knows them from elsewhere.
    pub fn ice_servers(mut self, provider: Arc<dyn IceServerProvider>) -> Self {
        self.ice_servers = Some(provider);
        self
    }

    /// A name in front of the node's random id, for people who read records and logs: 1 to
    /// [`NodeId::MAX_NAME_BYTES`] of `A-Z a-z 0-9 . _ -`. Default: none.
    pub fn node_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where wall time comes from, for what is compared with times from outside: the expiry of tokens
    /// and of TURN credentials. What nodes compare with each other goes by the store's clock. Default:
    /// [`SystemClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Starts the node: opens its inbox, announces it to the others, and spawns its background
    /// tasks. Must run within a tokio runtime with time enabled.
    ///
    /// # Errors
    ///
    /// When the configuration cannot work, or the store or the bus does not answer.
    pub async fn start(self) -> Result<Relay, StartError> {
        self.config.validate()?;
        let id = NodeId::generate(self.name.as_deref())?;
        let inbox = self.bus.subscribe(&id).await?;
        let asked = Instant::now();
        let nothing = Counts::default();
        let lease = self.store.renew_lease(&id, self.config.node_lease, nothing, &[]).await?;
        let health = Arc::new(Health::new(asked, &lease, &self.config));
        let stopped = CancellationToken::new();
        let node = Arc::new(Node {
            node_queues: NodeQueues::new(self.bus.clone(), &self.config, health.clone()),
            end_pacer: Arc::new(EndPacer::new()),
            events: broadcast::Sender::new(self.config.event_capacity),
            users: UserTable::new(&self.config),
            sockets: Sockets::default(),
            registry: Registry::default(),
            heartbeats: heartbeats::Heartbeats::default(),
            health,
            config: Arc::new(self.config),
            tasks: TaskTracker::new(),
            background: Background::default(),
            refusals: Refusals::new(),
            revocations: Revocations::default(),
            warnings: Throttle::new(1, WARNING_INTERVAL),
            draining: AtomicBool::new(false),
            closed_to_new: AtomicBool::new(false),
            stopped: stopped.clone(),
            clock: self.clock,
            store: self.store,
            bus: self.bus,
            authenticator: self.authenticator,
            hooks: self.hooks,
            second_connection: self.second_connection,
            ice_servers: self.ice_servers,
            id,
        });
        tasks::start(&node, inbox);
        tracing::info!(node = %node.id, "relay started");
        Ok(Relay { node, _background: Arc::new(stopped.drop_guard()) })
    }
}
