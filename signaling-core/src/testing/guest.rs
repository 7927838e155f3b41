//! A client that keeps itself alive, at the other end of a [`wire`] from a relay: for tests of
//! deployments.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinHandle, time};

use super::{
    client::take_negotiation,
    wire::{Client as Wire, Received, wire},
};
use crate::{
    Relay,
    auth::{AuthError, Authenticator, Client, Credentials, Identity},
    id::{SessionId, UserId},
    protocol::Dialect,
};

/// An authenticator that admits nobody: a guest comes with an identity.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(&self, _: &Credentials) -> Result<Identity, AuthError> {
        Err(AuthError::Missing)
    }
}

/// An authenticator whose tokens are the users' names.
#[derive(Debug, Clone, Copy)]
pub struct NameIsToken;

#[async_trait]
impl Authenticator for NameIsToken {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        let name = credentials.token().ok_or(AuthError::Missing)?;
        UserId::new(name).map(Identity::new).map_err(AuthError::invalid)
    }
}

/// A client that answers pings and sends heartbeats by itself. Dropped, its connection breaks.
#[derive(Debug)]
pub struct Guest {
    received: mpsc::Receiver<Received>,
    say: mpsc::Sender<String>,
    task: JoinHandle<()>,
    beats: u64,
    dialect: Dialect,
}

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

impl AsRef<Self> for Relay {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Guest {
    /// Connects as the user `name`.
    #[must_use]
    pub fn connect(relay: &impl AsRef<Relay>, name: &str) -> Self {
        Self::connect_as(relay.as_ref(), Identity::new(UserId::new(name).expect("a user id")))
    }

    /// Connects one that sends no heartbeats by itself.
    #[must_use]
    pub fn connect_quiet(relay: &impl AsRef<Relay>, name: &str) -> Self {
        let identity = Identity::new(UserId::new(name).expect("a user id"));
        Self::connect_with(relay.as_ref(), identity.into(), None)
    }

    /// Connects as the user `name`, with a client that negotiated `signaling.v1`.
    #[must_use]
    pub fn connect_v1(relay: &impl AsRef<Relay>, name: &str) -> Self {
        let identity = Identity::new(UserId::new(name).expect("a user id"));
        Self::connect_as(relay.as_ref(), Client::new(identity).speaking(Dialect::V1))
    }

    /// Connects with an identity as an authenticator gives it, and what was negotiated.
    #[must_use]
    pub fn connect_as(relay: &Relay, client: impl Into<Client>) -> Self {
        Self::connect_with(relay, client.into(), Some(Duration::from_secs(10)))
    }

    fn connect_with(relay: &Relay, client: Client, heartbeats: Option<Duration>) -> Self {
        let (server, wire) = wire(16);
        let (relay, dialect) = (relay.clone(), client.dialect);
        tokio::spawn(async move { relay.serve(server, client).await });
        let (say, words) = mpsc::channel(16);
        let (heard, received) = mpsc::channel(4096);
        let task = tokio::spawn(live(wire, words, heard, heartbeats));
        Self { received, say, task, beats: 0, dialect }
    }

    /// Sends a message as it is.
    pub async fn send(&self, text: impl Into<String>) {
        let _ = self.say.send(text.into()).await;
    }

    /// Sends a signal of the type `kind` with `payload` in it.
    pub async fn signal(&self, session: &SessionId, kind: &str, payload: &str) {
        let field = if kind == "ice-candidate" { "candidate" } else { "sdp" };
        self.send(format!(r#"{{"type":"{kind}","sessionId":"{session}","{field}":"{payload}"}}"#))
            .await;
    }

    /// What comes next.
    pub async fn next(&mut self) -> Received {
        let next = time::timeout(PATIENCE, self.received.recv());
        next.await.expect("something in time").unwrap_or(Received::Lost)
    }

    /// The message that comes next, and nothing else.
    pub async fn message(&mut self) -> Value {
        match self.next().await {
            Received::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("a message was expected, not {other:?}"),
        }
    }

    /// A message by its type and, where it has one, its payload, code or reason.
    pub async fn expect(&mut self, expected: &str) {
        let message = self.message().await;
        let field = |name: &str| message[name].as_str();
        let detail = field("sdp").or(field("candidate")).or(field("code")).or(field("reason"));
        let kind = field("type").expect("a type");
        let shown = detail.map_or(kind.to_owned(), |detail| format!("{kind} {detail}"));
        assert_eq!(shown, expected);
    }

    /// `match-found` comes next. Returns the negotiation that begins, for a client that negotiated
    /// `signaling.v1`.
    pub async fn expect_match(
        &mut self,
        session: &SessionId,
        partner: &str,
        initiator: bool,
    ) -> Option<String> {
        let expected = serde_json::json!({
            "type": "match-found",
            "sessionId": session.as_str(),
            "partnerId": partner,
            "isInitiator": initiator,
        });
        let (found, negotiation) = self.found().await;
        assert_eq!(found, expected);
        negotiation
    }

    /// The `match-found` that comes next, without the negotiation that begins, and that.
    pub async fn found(&mut self) -> (Value, Option<String>) {
        let mut found = self.message().await;
        let negotiation = take_negotiation(&mut found, self.dialect);
        (found, negotiation)
    }

    /// A close frame comes next.
    pub async fn expect_close(&mut self, code: u16) {
        match self.next().await {
            Received::Closed(Some(close)) => assert_eq!(close.code, code),
            other => panic!("a close with {code} was expected, not {other:?}"),
        }
    }

    /// All that the client said was handled, and nothing but this is on its way to it.
    pub async fn settled(&mut self) {
        self.beats += 1;
        self.send(format!(r#"{{"type":"heartbeat","id":{}}}"#, self.beats)).await;
        let expected = serde_json::json!({"type": "heartbeat-ack", "id": self.beats});
        assert_eq!(self.message().await, expected);
    }

    /// Nothing comes, also not a while later.
    pub async fn expect_nothing(&mut self) {
        self.settled().await;
        time::sleep(Duration::from_secs(40)).await;
        self.settled().await;
    }
}

async fn live(
    mut client: Wire,
    mut words: mpsc::Receiver<String>,
    heard: mpsc::Sender<Received>,
    heartbeats: Option<Duration>,
) {
    let mut heartbeats = heartbeats.map(time::interval);
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
            () = next_heartbeat(&mut heartbeats) => client.send(r#"{"type":"heartbeat"}"#).await,
        }
    }
}

async fn next_heartbeat(heartbeats: &mut Option<time::Interval>) {
    match heartbeats {
        Some(heartbeats) => drop(heartbeats.tick().await),
        None => std::future::pending().await,
    }
}
