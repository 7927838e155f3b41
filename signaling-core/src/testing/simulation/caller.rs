//! A client of `signaling.v1` that lives through all of its user's connections: it numbers its signals,
//! continues its negotiations on each new connection, and checks what it is told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use crate::{
    Relay,
    auth::{Client, Identity},
    id::{NodeId, SessionId, UserId},
    protocol::{Continue, Dialect, NegotiationId},
    testing::wire::{Client as Wire, Received, wire},
};

/// What a caller is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Send something in every session.
    Talk,
    /// Open a new connection, and give up the old one when the new one is there.
    Move,
    /// Close the connection, or break it, and come back within seconds.
    Close,
    Drop,
    /// Leave the connection half-open, and come back on another one within seconds.
    Abandon,
    /// Stay away longer than an absent participant is waited for.
    StayAway,
    /// Forget everything, as a page that is loaded again, and connect at once.
    Forget,
    /// Hang up in one session.
    Leave,
}

/// The most connections of one caller that stay half-open.
const HALF_OPEN: usize = 2;

/// The nodes that there are to connect to.
pub(super) type Nodes = Arc<Mutex<Vec<Relay>>>;

pub(super) struct Caller {
    pub(super) user: UserId,
    orders: mpsc::Sender<Order>,
    shared: Arc<Mutex<Shared>>,
}

/// What is asked of a caller from outside.
#[derive(Default)]
struct Shared {
    connected: Option<NodeId>,
    sessions: BTreeMap<SessionId, Talk>,
    /// What it did and was told, newest last.
    log: Vec<String>,
    failure: Option<String>,
    counts: Counts,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) connections: usize,
    pub(super) sent: usize,
    pub(super) received: usize,
    pub(super) losses: usize,
    pub(super) continued: usize,
}

/// A negotiation in one session, as this client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Talk {
    pub(super) negotiation: NegotiationId,
    is_initiator: bool,
    partner_is_here: bool,
    /// Whether the present connection has told of this session.
    is_told: bool,
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Caller {
    pub(super) fn start(user: UserId, nodes: Nodes, seed: u64) -> Self {
        let (orders, receiver) = mpsc::channel(64);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let mind = Mind {
            user: user.clone(),
            nodes,
            orders: receiver,
            shared: shared.clone(),
            random: fastrand::Rng::with_seed(seed),
            abandoned: VecDeque::new(),
            left: BTreeSet::new(),
            to_leave: BTreeSet::new(),
        };
        tokio::spawn(mind.live());
        Self { user, orders, shared }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }

    /// The node on which its present connection is.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.shared().connected.clone()
    }

    pub(super) fn counts(&self) -> Counts {
        self.shared().counts
    }

    pub(super) fn talk(&self, session: &SessionId) -> Option<Talk> {
        self.shared().sessions.get(session).cloned()
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.shared().log.clone()
    }

    /// Fails if something that it was told was wrong.
    pub(super) fn check(&self) {
        let shared = self.shared();
        if let Some(failure) = &shared.failure {
            panic!("{}: {failure}: {:#?}", self.user, shared.log);
        }
    }
}

struct Mind {
    user: UserId,
    nodes: Nodes,
    orders: mpsc::Receiver<Order>,
    shared: Arc<Mutex<Shared>>,
    random: fastrand::Rng,
    /// Connections that are left half-open, the latest first.
    abandoned: VecDeque<Wire>,
    /// Sessions that it has left, or that have ended; more may be on its way of them.
    left: BTreeSet<SessionId>,
    /// Sessions that could not be ended when it left them.
    to_leave: BTreeSet<SessionId>,
}

/// Why a connection is not used any more.
enum Gone {
    /// It has ended.
    Ended,
    /// It is given up when the next one is there.
    Moved(Wire),
    StaysAway,
}

impl Mind {
    async fn live(mut self) {
        let mut older = None;
        loop {
            // Orders of the time without a connection are of no use any more.
            while self.orders.try_recv().is_ok() {}
            let wire = self.connect();
            let gone = self.use_connection(wire, older.take()).await;
            self.shared().connected = None;
            let pause = match gone {
                Gone::Moved(wire) => {
                    older = Some(wire);
                    continue;
                }
                Gone::Ended => Duration::from_millis(self.random.u64(0..4_000)),
                Gone::StaysAway => Duration::from_secs(self.random.u64(30..90)),
            };
            time::sleep(pause).await;
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, what: impl Into<String>) {
        self.shared().log.push(format!("{:?} {}", Instant::now(), what.into()));
    }

    fn fail(&self, what: &str) {
        self.log(format!("WRONG: {what}"));
        self.shared().failure.get_or_insert_with(|| what.to_owned());
    }

    fn connect(&mut self) -> Wire {
        let relay = {
            let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            self.random.choice(nodes.iter()).expect("a node").clone()
        };
        let continuing: Vec<_> = {
            let mut shared = self.shared();
            shared.connected = Some(relay.node_id().clone());
            shared.counts.connections += 1;
            let sessions = shared.sessions.iter_mut().map(|(session, talk)| {
                talk.is_told = false;
                Continue {
                    session: session.clone(),
                    negotiation: talk.negotiation,
                    seq: talk.received,
                }
            });
            sessions.collect()
        };
        let named: Vec<_> = continuing.iter().map(ToString::to_string).collect();
        self.log(format!("connects to {} to continue {named:?}", relay.node_id()));
        let (server, client) = wire(64);
        let identity = Client::new(Identity::new(self.user.clone()));
        let identity = identity.speaking(Dialect::V1).continuing(continuing);
        tokio::spawn(async move { relay.serve(server, identity).await });
        client
    }

    async fn use_connection(&mut self, mut wire: Wire, older: Option<Wire>) -> Gone {
        let mut older = older;
        let mut heartbeats = time::interval(Duration::from_secs(10));
        loop {
            tokio::select! {
                received = wire.receive() => {
                    // Given up once something has come on the new one.
                    older = None;
                    match received {
                        Received::Text(text) => self.hear(&text, &mut wire).await,
                        ended => {
                            self.log(format!("{ended:?}"));
                            return Gone::Ended;
                        }
                    }
                }
                _ = heartbeats.tick() => {
                    wire.send(r#"{"type":"heartbeat"}"#).await;
                    for session in std::mem::take(&mut self.to_leave) {
                        wire.send(leave(&session)).await;
                    }
                }
                order = self.orders.recv() => {
                    let order = order.unwrap_or(Order::Drop);
                    if order != Order::Talk {
                        self.log(format!("{order:?}"));
                    }
                    match order {
                        Order::Talk => self.talk(&mut wire).await,
                        Order::Leave => self.leave(&mut wire).await,
                        // One at a time.
                        Order::Move if older.is_some() => {}
                        Order::Move => return Gone::Moved(wire),
                        Order::Close => {
                            wire.close().await;
                            return Gone::Ended;
                        }
                        Order::Drop => return Gone::Ended,
                        Order::Abandon => {
                            self.abandoned.truncate(HALF_OPEN);
                            self.abandoned.push_front(wire);
                            return Gone::Ended;
                        }
                        Order::StayAway => return Gone::StaysAway,
                        Order::Forget => {
                            self.shared().sessions.clear();
                            return Gone::Ended;
                        }
                    }
                }
            }
        }
    }

    async fn hear(&mut self, text: &str, wire: &mut Wire) {
        self.log(format!("hears {text}"));
        let message: Value = serde_json::from_str(text).expect("JSON from the server");
        let kind = message["type"].as_str().expect("a type");
        let session = message["sessionId"].as_str().map(|id| SessionId::new(id).expect("an id"));
        let Some(session) = session else {
            return self.fail("a message without a session");
        };
        let negotiation = message["negotiation"].as_str().map(|id| id.parse().expect("an id"));
        let known = self.shared().sessions.get(&session).cloned();
        match (kind, negotiation, known) {
            ("match-found", Some(negotiation), known) => {
                if known.is_some_and(|known| known.negotiation == negotiation) {
                    self.fail("a match in the negotiation that it takes part in");
                }
                let talk = Talk {
                    negotiation,
                    is_initiator: message["isInitiator"] == true,
                    partner_is_here: true,
                    is_told: true,
                    sent: 0,
                    received: 0,
                };
                self.shared().sessions.insert(session.clone(), talk.clone());
                self.left.remove(&session);
                self.to_leave.remove(&session);
                if talk.is_initiator {
                    self.signal(&session, wire).await;
                }
            }
            ("error", _, None) if message["code"] == "unavailable" => {
                self.to_leave.insert(session);
            }
            (_, _, None) if self.left.contains(&session) => {}
            ("error", _, known) => {
                if message["code"] == "unknown-session" && known.is_some() {
                    self.shared().sessions.remove(&session);
                    self.left.insert(session);
                }
            }
            ("partner-disconnected", _, Some(mut talk)) => {
                if talk.is_told && !talk.partner_is_here {
                    self.fail("a partner was lost that was not there");
                }
                talk.partner_is_here = false;
                let mut shared = self.shared();
                shared.counts.losses += 1;
                shared.sessions.insert(session, talk);
            }
            (_, Some(negotiation), Some(talk)) if negotiation == talk.negotiation => {
                self.go_on(kind, &message, session, talk, wire).await;
            }
            _ => self.fail("something of another negotiation than its own"),
        }
    }

    /// A message of the present negotiation.
    async fn go_on(
        &mut self,
        kind: &str,
        message: &Value,
        session: SessionId,
        mut talk: Talk,
        wire: &mut Wire,
    ) {
        let seq = message["seq"].as_u64();
        match (kind, seq) {
            ("continued", None) if !talk.is_told => {
                talk.is_told = true;
                talk.partner_is_here = message["partnerConnected"] == true;
                self.shared().counts.continued += 1;
            }
            ("partner-reconnected", None) if !talk.partner_is_here => talk.partner_is_here = true,
            ("received", Some(seq)) if seq <= talk.sent => {
                for seq in seq + 1..=talk.sent {
                    self.say(&session, &talk, seq, wire).await;
                }
                return;
            }
            ("offer" | "answer" | "ice-candidate", Some(seq))
                if talk.is_told && talk.partner_is_here && seq == talk.received + 1 =>
            {
                talk.received = seq;
                self.shared().counts.received += 1;
                let payload = message["sdp"].as_str().or(message["candidate"].as_str());
                let expected = payload_of(!talk.is_initiator, talk.negotiation, seq);
                if payload != Some(&expected) {
                    self.fail("a signal that its partner did not send so");
                }
            }
            _ => self.fail("a message that cannot come now"),
        }
        self.shared().sessions.insert(session.clone(), talk);
        if kind == "offer" {
            self.signal(&session, wire).await;
        }
    }

    async fn signal(&mut self, session: &SessionId, wire: &mut Wire) {
        let talk = {
            let mut shared = self.shared();
            shared.counts.sent += 1;
            let Some(talk) = shared.sessions.get_mut(session) else {
                return;
            };
            talk.sent += 1;
            talk.clone()
        };
        if talk.is_told {
            self.say(session, &talk, talk.sent, wire).await;
        }
    }

    async fn say(&mut self, session: &SessionId, talk: &Talk, seq: u64, wire: &mut Wire) {
        let Talk { negotiation, is_initiator, .. } = *talk;
        let (kind, field) = match (seq, is_initiator) {
            (1, true) => ("offer", "sdp"),
            (1, false) => ("answer", "sdp"),
            _ => ("ice-candidate", "candidate"),
        };
        let payload = payload_of(is_initiator, negotiation, seq);
        wire.send(format!(
            r#"{{"type":"{kind}","sessionId":"{session}","negotiation":"{negotiation}","seq":{seq},"{field}":"{payload}"}}"#
        ))
        .await;
    }

    async fn talk(&mut self, wire: &mut Wire) {
        let sessions: Vec<_> = self.shared().sessions.keys().cloned().collect();
        for session in sessions {
            for _ in 0..self.random.u8(1..5) {
                self.signal(&session, wire).await;
            }
        }
    }

    async fn leave(&mut self, wire: &mut Wire) {
        let told: Vec<_> = {
            let shared = self.shared();
            let told = shared.sessions.iter().filter(|(_, talk)| talk.is_told);
            told.map(|(session, _)| session.clone()).collect()
        };
        let Some(session) = self.random.choice(told) else {
            return;
        };
        self.shared().sessions.remove(&session);
        self.left.insert(session.clone());
        wire.send(leave(&session)).await;
    }
}

fn leave(session: &SessionId) -> String {
    format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)
}

fn payload_of(of_initiator: bool, negotiation: NegotiationId, seq: u64) -> String {
    format!("{of_initiator} {negotiation} {seq}")
}
