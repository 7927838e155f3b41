//! A client with a mind of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::mpsc, time};

use super::history::{Entry, SignalName};
use crate::{
    Relay,
    auth::{Client, Identity},
    frame::CloseCode,
    id::{SessionId, UserId},
    protocol::Dialect,
    testing::wire::{Client as Wire, Received, wire},
};

/// What an actor is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Send something in every session.
    Chat,
    /// Send dozens of signals in one session, without waiting in between.
    Burst,
    /// Hang up in one.
    Leave,
    /// Close the connection.
    Close,
    /// Break the connection.
    Drop,
    /// Say and read nothing any more, with the connection open.
    Vanish,
}

/// One connection of a user, with all that it saw.
pub(super) struct Actor {
    pub(super) number: usize,
    pub(super) user: UserId,
    pub(super) dialect: Dialect,
    pub(super) relay: Relay,
    orders: mpsc::Sender<Order>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    over: bool,
}

impl Actor {
    pub(super) fn start(number: usize, user: UserId, relay: Relay, seed: u64) -> Self {
        let (server, client) = wire(64);
        let (orders, receiver) = mpsc::channel(64);
        let log = Arc::new(Mutex::new(Log::default()));
        let dialect = if number.is_multiple_of(2) { Dialect::V1 } else { Dialect::Base };
        let identity = Client::new(Identity::new(user.clone())).speaking(dialect);
        let serving = relay.clone();
        tokio::spawn(async move { serving.serve(server, identity).await });
        let mind = Mind {
            number,
            client,
            orders: receiver,
            log: log.clone(),
            sessions: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
        };
        tokio::spawn(mind.live());
        Self { number, user, dialect, relay, orders, log }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_live(&self) -> bool {
        !self.log().over
    }

    pub(super) fn is_on(&self, relay: &Relay) -> bool {
        self.relay.node_id() == relay.node_id()
    }

    pub(super) fn order(&self, order: Order) {
        // An actor that is over takes no orders.
        let _ = self.orders.try_send(order);
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.log().entries.clone()
    }

    /// Whether something of the partner came in `session` at `moment` or later.
    pub(super) fn heard_since(&self, moment: time::Instant, session: &SessionId) -> bool {
        self.log().entries.iter().rev().any(|entry| match entry {
            Entry::Got { session: of, at, .. } => of == session && *at >= moment,
            _ => false,
        })
    }
}

struct Mind {
    number: usize,
    client: Wire,
    orders: mpsc::Receiver<Order>,
    log: Arc<Mutex<Log>>,
    /// The next signal's number, by session.
    sessions: BTreeMap<SessionId, u64>,
    random: fastrand::Rng,
}

impl Mind {
    async fn live(mut self) {
        let mut heartbeats = time::interval(Duration::from_secs(10));
        loop {
            tokio::select! {
                received = self.client.receive() => match received {
                    Received::Text(text) => self.hear(&text).await,
                    Received::Closed(close) => {
                        if close.is_some_and(|close| close.code == CloseCode::TooSlow.code()) {
                            self.note(Entry::TooSlow);
                        }
                        self.note(Entry::Over);
                        break;
                    }
                    Received::Lost => {
                        self.note(Entry::Over);
                        break;
                    }
                },
                _ = heartbeats.tick() => self.client.send(r#"{"type":"heartbeat"}"#).await,
                order = self.orders.recv() => match order {
                    Some(Order::Chat) => self.chat().await,
                    Some(Order::Burst) => self.burst().await,
                    Some(Order::Leave) => self.leave().await,
                    Some(Order::Close) => {
                        self.note(Entry::Closed);
                        self.client.close().await;
                        self.note(Entry::Over);
                        break;
                    }
                    Some(Order::Drop) | None => {
                        self.note(Entry::Over);
                        break;
                    }
                    Some(Order::Vanish) => {
                        self.note(Entry::Over);
                        time::sleep(Duration::from_secs(90)).await;
                        break;
                    }
                },
            }
        }
    }

    fn note(&self, entry: Entry) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.over |= matches!(entry, Entry::Over);
        log.entries.push(entry);
    }

    async fn hear(&mut self, text: &str) {
        let message: Value = serde_json::from_str(text).expect("JSON from the server");
        let kind = message["type"].as_str().expect("a type");
        let session = message["sessionId"].as_str().map(|id| SessionId::new(id).expect("an id"));
        match (kind, session) {
            ("match-found", Some(session)) => {
                let partner = message["partnerId"].as_str().expect("a partner");
                let partner = UserId::new(partner).expect("a user id");
                self.note(Entry::MatchFound { session: session.clone(), partner });
                self.sessions.entry(session.clone()).or_insert(0);
                if message["isInitiator"] == true {
                    self.signal(&session, "offer").await;
                }
                self.signal(&session, "ice-candidate").await;
            }
            ("offer", Some(session)) => {
                self.got(&session, &message["sdp"]);
                self.signal(&session, "answer").await;
            }
            ("answer", Some(session)) => self.got(&session, &message["sdp"]),
            ("ice-candidate", Some(session)) => self.got(&session, &message["candidate"]),
            ("partner-disconnected", Some(session)) => {
                let reason = message.get("reason").cloned();
                let reason = reason.map(|reason| serde_json::from_value(reason).expect("a reason"));
                self.note(Entry::PartnerDisconnected { session, reason });
            }
            ("error", Some(session)) => {
                if message["code"] == "unknown-session" {
                    self.sessions.remove(&session);
                }
                self.note(Entry::Refused { session });
            }
            _ => panic!("an unexpected message: {text}"),
        }
    }

    fn got(&self, session: &SessionId, payload: &Value) {
        let signal: SignalName =
            payload.as_str().and_then(SignalName::parse).expect("a signal of a simulated client");
        let at = time::Instant::now();
        self.note(Entry::Got { session: session.clone(), signal, at });
    }

    async fn signal(&mut self, session: &SessionId, kind: &str) {
        let Some(number) = self.sessions.get_mut(session) else {
            return;
        };
        *number += 1;
        let signal = SignalName { actor: self.number, number: *number };
        let field = if kind == "ice-candidate" { "candidate" } else { "sdp" };
        let text = format!(r#"{{"type":"{kind}","sessionId":"{session}","{field}":"{signal}"}}"#);
        self.note(Entry::Sent { session: session.clone(), signal });
        self.client.send(text).await;
    }

    async fn chat(&mut self) {
        let sessions: Vec<_> = self.sessions.keys().cloned().collect();
        for session in sessions {
            for _ in 0..self.random.u8(1..4) {
                self.signal(&session, "ice-candidate").await;
            }
        }
    }

    async fn burst(&mut self) {
        let Some(session) = self.random.choice(self.sessions.keys()).cloned() else {
            return;
        };
        for _ in 0..self.random.u8(20..45) {
            self.signal(&session, "ice-candidate").await;
        }
    }

    async fn leave(&mut self) {
        let Some(session) = self.random.choice(self.sessions.keys()).cloned() else {
            return;
        };
        self.note(Entry::Left { session: session.clone() });
        self.client.send(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)).await;
    }
}
