//! A deployment in memory, on paused time, and guests that keep themselves alive.

use std::sync::Arc;

use signaling_core::{
    Config, Relay,
    bus::MessageBus,
    id::{ConnectionId, SessionId, UserId},
    memory::{MemoryBus, MemoryStore},
    relay::RelayBuilder,
    store::SessionStore,
    testing::{TokioClock, fault::Faults, guest::Nobody},
};

pub(crate) use signaling_core::testing::guest::Guest;

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) struct Deployment {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) bus: Arc<dyn MessageBus>,
    config: Config,
}

pub(crate) struct Node {
    pub(crate) relay: Relay,
    pub(crate) faults: Faults,
}

impl Deployment {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: fn(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        Self { store: Arc::new(MemoryStore::new()), bus: Arc::new(MemoryBus::new()), config }
    }

    pub(crate) async fn node(&self) -> Node {
        self.node_with(|builder| builder).await
    }

    /// The connection that the store has as that of the user `name`.
    pub(crate) async fn connection(&self, name: &str) -> Option<ConnectionId> {
        self.store.user(&user(name)).await.unwrap().connection
    }

    pub(crate) async fn node_with(
        &self,
        change: impl FnOnce(RelayBuilder) -> RelayBuilder,
    ) -> Node {
        let faults = Faults::new(0);
        let builder = Relay::builder(Nobody)
            .config(self.config.clone())
            .store(faults.store(self.store.clone()))
            .bus(faults.bus(self.bus.clone()))
            .clock(Arc::new(TokioClock::start()));
        let relay = change(builder).start().await.unwrap();
        Node { relay, faults }
    }
}

impl AsRef<Relay> for Node {
    fn as_ref(&self) -> &Relay {
        &self.relay
    }
}

impl Node {
    /// The process is gone, from one moment to the next.
    pub(crate) fn kill(self) {
        self.faults.cut(true);
    }
}

/// Ann on `a` and Bob on `b`, matched.
pub(crate) async fn matched(a: &Node, b: &Node) -> (Guest, Guest, SessionId) {
    let (mut ann, mut bob) = (Guest::connect(a, "ann"), Guest::connect(b, "bob"));
    let session = a.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    (ann, bob, session)
}
