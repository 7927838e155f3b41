//! A deployment in memory, on paused time, and guests that keep themselves alive.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use signaling_core::{
    Config, Relay,
    auth::{AuthError, Authenticator, Credentials, Identity},
    bus::MessageBus,
    id::{SessionId, UserId},
    memory::{MemoryBus, MemoryStore},
    testing::{
        TokioClock,
        fault::Faults,
        wire::{Client, Received, wire},
    },
};
use tokio::{sync::mpsc, task::JoinHandle, time};

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Admits nobody: guests come with an identity.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(&self, _: &Credentials) -> Result<Identity, AuthError> {
        Err(AuthError::Missing)
    }
}

pub(crate) struct Deployment {
    pub(crate) store: Arc<MemoryStore>,
    bus: Arc<dyn MessageBus>,
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
        let faults = Faults::new(0);
        let relay = Relay::builder(Nobody)
            .config(self.config.clone())
            .store(faults.store(self.store.clone()))
            .bus(faults.bus(self.bus.clone()))
            .clock(Arc::new(TokioClock::start()))
            .start()
            .await
            .unwrap();
        Node { relay, faults }
    }
}

impl Node {
    /// The process is gone, from one moment to the next.
    pub(crate) fn kill(self) {
        self.faults.cut(true);
    }
}

/// A client that answers pings and sends heartbeats by itself.
pub(crate) struct Guest {
    received: mpsc::Receiver<Received>,
    say: mpsc::Sender<String>,
    task: JoinHandle<()>,
    beats: u64,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Guest {
    pub(crate) fn connect(node: &Node, name: &str) -> Self {
        Self::connect_as(&node.relay, Identity::new(user(name)))
    }

    /// One that sends no heartbeats by itself.
    pub(crate) fn connect_quiet(node: &Node, name: &str) -> Self {
        Self::connect_with(&node.relay, Identity::new(user(name)), Duration::from_secs(86_400))
    }

    pub(crate) fn connect_as(relay: &Relay, identity: Identity) -> Self {
        Self::connect_with(relay, identity, Duration::from_secs(10))
    }

    fn connect_with(relay: &Relay, identity: Identity, heartbeats: Duration) -> Self {
        let (server, client) = wire(16);
        let relay = relay.clone();
        tokio::spawn(async move { relay.serve(server, identity).await });
        let (say, words) = mpsc::channel(16);
        let (heard, received) = mpsc::channel(4096);
        let task = tokio::spawn(live(client, words, heard, heartbeats));
        Self { received, say, task, beats: 0 }
    }

    pub(crate) async fn send(&self, text: impl Into<String>) {
        let _ = self.say.send(text.into()).await;
    }

    pub(crate) async fn signal(&self, session: &SessionId, kind: &str, payload: &str) {
        let field = if kind == "ice-candidate" { "candidate" } else { "sdp" };
        self.send(format!(r#"{{"type":"{kind}","sessionId":"{session}","{field}":"{payload}"}}"#))
            .await;
    }

    pub(crate) async fn next(&mut self) -> Received {
        let next = time::timeout(Duration::from_secs(300), self.received.recv());
        next.await.expect("something in time").unwrap_or(Received::Lost)
    }

    async fn message(&mut self) -> Value {
        match self.next().await {
            Received::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("a message was expected, not {other:?}"),
        }
    }

    /// A message by its type and, where it has one, its payload or code.
    pub(crate) async fn expect(&mut self, expected: &str) {
        let message = self.message().await;
        let field = |name: &str| message[name].as_str();
        let detail = field("sdp").or(field("candidate")).or(field("code"));
        let kind = field("type").unwrap();
        let shown = detail.map_or(kind.to_owned(), |detail| format!("{kind} {detail}"));
        assert_eq!(shown, expected);
    }

    pub(crate) async fn expect_match(
        &mut self,
        session: &SessionId,
        partner: &str,
        initiator: bool,
    ) {
        let expected = serde_json::json!({
            "type": "match-found",
            "sessionId": session.as_str(),
            "partnerId": partner,
            "isInitiator": initiator,
        });
        assert_eq!(self.message().await, expected);
    }

    pub(crate) async fn expect_close(&mut self, code: u16) {
        match self.next().await {
            Received::Closed(Some(close)) => assert_eq!(close.code, code),
            other => panic!("a close with {code} was expected, not {other:?}"),
        }
    }

    /// All that the client said was handled, and nothing but this is on its way to it.
    pub(crate) async fn settled(&mut self) {
        self.beats += 1;
        self.send(format!(r#"{{"type":"heartbeat","id":{}}}"#, self.beats)).await;
        let expected = serde_json::json!({"type": "heartbeat-ack", "id": self.beats});
        assert_eq!(self.message().await, expected);
    }

    /// Nothing comes, also not a while later.
    pub(crate) async fn expect_nothing(&mut self) {
        self.settled().await;
        time::sleep(Duration::from_secs(40)).await;
        self.settled().await;
    }
}

async fn live(
    mut client: Client,
    mut words: mpsc::Receiver<String>,
    heard: mpsc::Sender<Received>,
    heartbeats: Duration,
) {
    let mut heartbeats = time::interval(heartbeats);
    loop {
        tokio::select! {
            biased;
            received = client.receive() => {
                let over = !matches!(received, Received::Text(_));
                if heard.send(received).await.is_err() || over {
                    break;
                }
            }
            Some(text) = words.recv() => client.send(text).await,
            _ = heartbeats.tick() => client.send(r#"{"type":"heartbeat"}"#).await,
        }
    }
}
