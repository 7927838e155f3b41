//! A user with a correct client: it keeps itself connected as the close codes say, sends numbered
//! signals while it has a partner, and, unless it is calm, moves, goes away and hangs up at random.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{self, Instant, MissedTickBehavior},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::{
    deployment::{Deployment, token},
    history::{End, Journal, What, Who},
};

type Socket = WebSocketStream<TcpStream>;

/// Between two heartbeats; no answer within the same time means that the server is gone.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Until a leave is repeated: the answer to one for a session that has ended is `unknown-session`.
const LEAVE_AGAIN: Duration = Duration::from_secs(1);
/// Backoff: doubled with every failure in a row, up to the second.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];
/// A connection that lasted this long was good enough to forget the failures before it.
const STABLE: Duration = Duration::from_secs(10);
/// For how long a connection that was left half-open keeps its socket.
const HELD: Duration = Duration::from_secs(45);

pub(crate) struct User {
    pub(crate) pair: usize,
    pub(crate) side: usize,
    pub(crate) v1: bool,
    /// Only suffers what is done to the deployment.
    pub(crate) calm: bool,
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) journal: Journal,
    /// Tells the host which sessions have ended.
    pub(crate) over: mpsc::Sender<u32>,
    /// From when on nobody does anything of its own accord.
    pub(crate) quiet: watch::Receiver<bool>,
    pub(crate) rng: Rng,
}

/// What becomes of a connection by its own client.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Closes it in this way, and connects again after this time.
    Move(End, Duration),
    /// Connects again, and reads on here until the server closes.
    Replace,
    Leave,
}

/// What is to come after a connection.
#[derive(Debug, Clone, Copy)]
enum Next {
    At(Duration),
    /// As the server's end of it advises.
    Reconnect,
    Jitter,
    Backoff,
}

struct Client {
    user: User,
    connection: u32,
    current: Option<Call>,
    /// Left, and not yet known to have ended.
    leaving: Option<u32>,
    /// The newest session that it was matched in.
    newest: u32,
    failures: u32,
    tasks: JoinSet<()>,
}

struct Call {
    session: u32,
    /// Whether there is a partner to talk to.
    here: bool,
    initiator: bool,
}

pub(crate) fn name(pair: usize, side: usize) -> String {
    format!("{}-{pair}", ["ann", "bob"][side])
}

/// `pair-7-2` is the third session of pair 7.
pub(crate) fn session_id(pair: usize, session: u32) -> String {
    format!("pair-{pair}-{session}")
}

impl User {
    pub(crate) async fn live(self) {
        let client = Client {
            user: self,
            connection: 0,
            current: None,
            leaving: None,
            newest: 0,
            failures: 0,
            tasks: JoinSet::new(),
        };
        client.run().await;
    }

    fn note(&self, connection: u32, what: What) {
        self.journal.note(Who::User(self.side), connection, what);
    }
}

impl Client {
    async fn run(mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.connection += 1;
            let next = match self.connect().await {
                Ok(socket) => self.converse(socket).await,
                Err((end, next)) => {
                    self.user.note(self.connection, What::Ended(end));
                    next
                }
            };
            if let Some(call) = &mut self.current {
                call.here = false;
            }
            let wait = self.wait(next);
            let mut quiet = self.user.quiet.clone();
            let away = matches!(next, Next::At(_));
            tokio::select! {
                () = time::sleep(wait) => {}
                // Who is away comes back when the run ends; who must wait waits.
                _ = quiet.wait_for(|quiet| *quiet), if away => {}
            }
        }
    }

    fn wait(&mut self, next: Next) -> Duration {
        let range = BACKOFF[1].min(BACKOFF[0] * 2_u32.pow(self.failures.min(8)));
        let random = self.user.rng.f64();
        let wait = match next {
            Next::At(wait) => return wait,
            Next::Reconnect => range.mul_f64(random),
            Next::Jitter => range.max(Duration::from_secs(3)).mul_f64(random),
            Next::Backoff => range.mul_f64(0.5 + random / 2.0),
        };
        self.failures += 1;
        wait
    }

    async fn connect(&mut self) -> Result<Socket, (End, Next)> {
        let Some((node, address)) = self.user.deployment.pick(&mut self.user.rng) else {
            return Err((End::Unreachable, Next::Reconnect));
        };
        self.user.note(self.connection, What::Dialed { node });
        let name = name(self.user.pair, self.user.side);
        let url = format!("ws://{address}/ws/signaling?token={}", token(&name));
        let v1 = self.user.v1.then_some(HeaderValue::from_static("signaling.v1"));
        let dialed = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut request = url.into_client_request()?;
            if let Some(v1) = v1 {
                request.headers_mut().insert("sec-websocket-protocol", v1);
            }
            Ok::<_, tokio_tungstenite::tungstenite::Error>(client_async(request, stream).await?.0)
        };
        match time::timeout(HEARTBEAT, dialed).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(_)) => Err((End::Unreachable, Next::Reconnect)),
            Err(_) => Err((End::Silent, Next::Reconnect)),
        }
    }

    /// Until this connection is no more the one that is used.
    async fn converse(&mut self, mut socket: Socket) -> Next {
        let opened = Instant::now();
        let mut is_open = false;
        let mut heartbeats = time::interval(HEARTBEAT);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_at = opened + HEARTBEAT;
        let mut signal_at = opened;
        let mut number = 0;
        let mut act_at = opened + self.pause();
        let (end, next) = loop {
            let may_signal = self.current.as_ref().is_some_and(|call| call.here);
            let may_act = is_open && !self.user.calm && !*self.user.quiet.borrow();
            let sent = tokio::select! {
                frame = socket.next() => match frame {
                    Some(Ok(Message::Text(text))) => {
                        silent_at = Instant::now() + 2 * HEARTBEAT;
                        if !std::mem::replace(&mut is_open, true) {
                            self.user.note(self.connection, What::Open);
                        }
                        let replies = self.hear(&text, &mut number);
                        say(&mut socket, replies).await
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let code = frame.map_or(1005, |frame| frame.code.into());
                        break (End::Code(code), advice(code));
                    }
                    Some(Ok(_)) => Ok(()),
                    Some(Err(_)) | None => break (End::Lost, Next::Reconnect),
                },
                _ = heartbeats.tick() => {
                    if self.leaving.is_some() {
                        heartbeats.reset_after(LEAVE_AGAIN);
                    }
                    let beat = self.beat();
                    say(&mut socket, beat).await
                }
                () = time::sleep_until(silent_at) => break (End::Silent, Next::Reconnect),
                () = time::sleep_until(signal_at), if may_signal => {
                    signal_at = Instant::now() + Duration::from_millis(self.user.rng.u64(200..500));
                    let signal = self.signal("ice-candidate", &mut number);
                    say(&mut socket, signal.into_iter().collect()).await
                }
                () = time::sleep_until(act_at), if may_act => {
                    act_at = Instant::now() + self.pause();
                    match self.choose() {
                        Act::Leave => {
                            let leave = self.hang_up();
                            heartbeats.reset_after(LEAVE_AGAIN);
                            say(&mut socket, leave).await
                        }
                        Act::Move(end, away) => break (end, Next::At(away)),
                        Act::Replace => {
                            self.read_on(socket);
                            return Next::At(Duration::ZERO);
                        }
                    }
                }
            };
            if sent.is_err() {
                break (End::Lost, Next::Reconnect);
            }
        };
        if opened.elapsed() >= STABLE || matches!(next, Next::At(_)) {
            self.failures = 0;
        }
        self.user.note(self.connection, What::Ended(end));
        self.part(socket, end);
        next
    }

    /// What the client does with the socket of a connection that is no more.
    fn part(&mut self, mut socket: Socket, end: End) {
        match end {
            End::Closed => {
                self.tasks.spawn(async move {
                    let closed = async {
                        let _ = socket.close(None).await;
                        while let Some(Ok(_)) = socket.next().await {}
                    };
                    let _ = time::timeout(HEARTBEAT, closed).await;
                });
            }
            End::Reset => {
                let _ = socket.get_ref().set_zero_linger();
            }
            End::HalfOpen => {
                self.tasks.spawn(async move {
                    time::sleep(HELD).await;
                    drop(socket);
                });
            }
            // The answer to the close goes out by this.
            End::Code(_) => {
                self.tasks.spawn(async move {
                    let _ = time::timeout(HEARTBEAT, socket.next()).await;
                });
            }
            _ => {}
        }
    }

    /// Reads a connection that a newer one is to replace, until the server closes it.
    fn read_on(&mut self, mut socket: Socket) {
        let (journal, connection) = (self.user.journal.clone(), self.connection);
        let (pair, side) = (self.user.pair, self.user.side);
        self.tasks.spawn(async move {
            let read = async {
                loop {
                    match socket.next().await {
                        Some(Ok(Message::Text(text))) => {
                            if let Some(what) = what(&text, pair, side) {
                                journal.note(Who::User(side), connection, what);
                            }
                        }
                        Some(Ok(Message::Close(frame))) => {
                            return End::Code(frame.map_or(1005, |frame| frame.code.into()));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return End::Lost,
                    }
                }
            };
            let end = time::timeout(Duration::from_secs(60), read).await;
            let end = end.unwrap_or(End::StillOpen);
            journal.note(Who::User(side), connection, What::Ended(end));
            // The answer to the close goes out by this.
            let _ = time::timeout(HEARTBEAT, socket.next()).await;
        });
    }

    /// Until the next thing that the user does of its own accord.
    fn pause(&mut self) -> Duration {
        Duration::from_millis(self.user.rng.u64(3_000..20_000))
    }

    fn choose(&mut self) -> Act {
        let rng = &mut self.user.rng;
        let end = [End::Closed, End::Reset, End::HalfOpen][rng.usize(0..3)];
        match rng.u8(0..100) {
            0..25 => Act::Replace,
            25..65 => Act::Move(end, Duration::ZERO),
            65..82 => Act::Move(end, Duration::from_millis(rng.u64(500..40_000))),
            // Longer than a session waits.
            82..85 => Act::Move(end, Duration::from_secs(rng.u64(65..100))),
            _ => Act::Leave,
        }
    }

    /// The user hangs up, and says so until it knows that the session has ended.
    fn hang_up(&mut self) -> Vec<Value> {
        let Some(Call { session, .. }) = self.current.take() else { return Vec::new() };
        self.leaving = Some(session);
        vec![self.leave(session)]
    }

    fn leave(&self, session: u32) -> Value {
        self.user.note(self.connection, What::Left { session });
        json!({"type": "leave", "sessionId": session_id(self.user.pair, session)})
    }

    /// A heartbeat for the session; one that was left is left again until it is known to have ended.
    fn beat(&mut self) -> Vec<Value> {
        let mut heartbeat = json!({"type": "heartbeat", "id": 1});
        if let Some(Call { session, .. }) = self.current {
            self.user.note(self.connection, What::Beat { session });
            heartbeat["sessionId"] = session_id(self.user.pair, session).into();
        }
        let leave = self.leaving.map(|session| self.leave(session));
        leave.into_iter().chain([heartbeat]).collect()
    }

    fn signal(&mut self, kind: &str, number: &mut u32) -> Option<Value> {
        let session = self.current.as_ref()?.session;
        *number += 1;
        self.user.note(self.connection, What::Sent { session, number: *number });
        let size = if kind == "ice-candidate" { 100 } else { 3000 };
        let filling = "x".repeat(self.user.rng.usize(0..size));
        let field = if kind == "ice-candidate" { "candidate" } else { "sdp" };
        let text = format!("{}/{number}/{filling}", self.connection);
        let id = session_id(self.user.pair, session);
        Some(json!({"type": kind, "sessionId": id, field: text}))
    }

    /// Takes in what the server said; gives what is to be said in turn.
    fn hear(&mut self, text: &str, number: &mut u32) -> Vec<Value> {
        let Some(what) = what(text, self.user.pair, self.user.side) else {
            return Vec::new();
        };
        self.user.note(self.connection, what.clone());
        match what {
            What::MatchFound { session, .. } if self.leaving == Some(session) => self.beat(),
            // The host has given this one up.
            What::MatchFound { session, .. } if session < self.newest => vec![self.leave(session)],
            What::MatchFound { session, initiator } => {
                self.newest = session;
                self.current = Some(Call { session, here: true, initiator });
                let offer = initiator.then(|| self.signal("offer", number));
                offer.flatten().into_iter().collect()
            }
            What::Got { session, .. } => {
                let answers = text.contains(r#""type":"offer""#)
                    && self.current.as_ref().is_some_and(|call| {
                        call.here && call.session == session && !call.initiator
                    });
                let answer = answers.then(|| self.signal("answer", number));
                answer.flatten().into_iter().collect()
            }
            What::PartnerGone { session, .. } => {
                if let Some(call) = self.current.as_mut().filter(|call| call.session == session) {
                    call.here = false;
                }
                Vec::new()
            }
            What::Refused { session: Some(session), code } => {
                let current = self.current.as_mut().filter(|call| call.session == session);
                match (&*code, current) {
                    ("unknown-session", current) => {
                        if current.is_some() {
                            self.current = None;
                        }
                        if self.leaving == Some(session) {
                            self.leaving = None;
                        }
                        // A host that is behind has it from the partner.
                        let _ = self.user.over.try_send(session);
                    }
                    ("partner-absent", Some(call)) => call.here = false,
                    _ => {}
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

async fn say(socket: &mut Socket, said: Vec<Value>) -> Result<(), ()> {
    for message in said {
        let sent = socket.send(Message::text(message.to_string()));
        time::timeout(HEARTBEAT, sent).await.map_err(drop)?.map_err(drop)?;
    }
    Ok(())
}

/// What to do after a close, by the table of the protocol. A code after which a client should stop is
/// a fault here, and the run goes on.
fn advice(code: u16) -> Next {
    match code {
        1001 => Next::Jitter,
        4408 | 4413 => Next::Reconnect,
        4401 => Next::At(Duration::ZERO),
        _ => Next::Backoff,
    }
}

/// What a message of the server means to participant `side` of `pair`; none where it is the answer to
/// a heartbeat.
fn what(text: &str, pair: usize, side: usize) -> Option<What> {
    let odd = || What::Odd(text.chars().take(200).collect());
    let Ok(message) = serde_json::from_str::<Value>(text) else {
        return Some(odd());
    };
    let session = message["sessionId"].as_str().and_then(|id| {
        let (of, session) = id.strip_prefix("pair-")?.split_once('-')?;
        let session = session.parse().ok()?;
        (of.parse() == Ok(pair)).then_some(session)
    });
    let signal = |field: &str| {
        let mut parts = message[field].as_str()?.split('/');
        let (from, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(What::Got { session: session?, from, number })
    };
    let what = match (message["type"].as_str(), session) {
        (Some("heartbeat-ack"), _) => return None,
        (Some("match-found"), Some(session)) => {
            let partner = message["partnerId"] == name(pair, 1 - side);
            let initiator = message["isInitiator"].as_bool();
            partner
                .then_some(initiator)
                .flatten()
                .map(|initiator| What::MatchFound { session, initiator })
        }
        (Some("partner-disconnected"), Some(session)) => {
            let reason = message["reason"].as_str().map(str::to_owned);
            Some(What::PartnerGone { session, reason })
        }
        (Some("error"), _) => {
            message["code"].as_str().map(|code| What::Refused { session, code: code.to_owned() })
        }
        (Some("offer" | "answer"), _) => signal("sdp"),
        (Some("ice-candidate"), _) => signal("candidate"),
        _ => None,
    };
    Some(what.unwrap_or_else(odd))
}
