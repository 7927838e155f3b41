//! The rolling restart: pairs of v1 clients in calls on several nodes, which receive SIGTERM and are started
//! again in turn. No client may receive `partner-disconnected` or a second `match-found`, and every signal
//! arrives once and in order, also while clients move.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{self, Instant},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::{
    deployment::{Deployment, token},
    history::lock,
    plan::{Fault, Kind},
};

type Socket = WebSocketStream<TcpStream>;

/// Each client sends a heartbeat and a signal this often.
const BEAT: Duration = Duration::from_secs(10);
/// Between two restarts, and before the first.
const CALM: Duration = Duration::from_secs(15);
/// In which a node's clients are told to move: four fifths of two thirds of the drain timeout of 20 s.
const MOVING: f64 = 20.0 * 2.0 / 3.0 * 0.8;
/// By how much more connections may be made in a second than evenly over the time of a drain.
const UNEVEN: f64 = 1.3;
const SLOWEST_P99: Duration = Duration::from_millis(20);

/// What all clients saw.
#[derive(Default)]
struct Seen {
    /// Other than the first of each client.
    matches: usize,
    disconnected: usize,
    continued: usize,
    /// By its close code, or 0 if the connection was refused or broke.
    failed: BTreeMap<u16, usize>,
    gaps: usize,
    signals: usize,
    /// When new connections were asked for.
    moves: Vec<Instant>,
    /// How long signals took between clients that did not move, in microseconds.
    took: Vec<u32>,
}

/// A client as it lives through its connections.
struct Client {
    name: String,
    deployment: Arc<Deployment>,
    seen: Arc<Mutex<Seen>>,
    start: Instant,
    rng: Rng,
    call: Option<Call>,
}

struct Call {
    session: String,
    negotiation: String,
    sent: u64,
    received: u64,
}

impl Client {
    async fn live(mut self) {
        let mut socket = self.connect().await;
        let first = self.rng.u64(0..BEAT.as_millis() as u64);
        let mut beats = time::interval_at(Instant::now() + Duration::from_millis(first), BEAT);
        let mut move_at = None;
        loop {
            tokio::select! {
                next = socket.next() => match next {
                    Some(Ok(Message::Text(text))) => {
                        let message: Value = serde_json::from_str(&text).unwrap_or_default();
                        if message["type"] == "move" {
                            let after = message["afterMs"].as_u64().unwrap_or_default();
                            move_at = Some(Instant::now() + Duration::from_millis(after));
                        }
                        self.hear(&message);
                    }
                    Some(Ok(Message::Close(close))) => {
                        let code = close.map_or(0, |close| u16::from(close.code));
                        *lock(&self.seen).failed.entry(code).or_default() += 1;
                        socket = self.connect().await;
                        move_at = None;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => {
                        *lock(&self.seen).failed.entry(0).or_default() += 1;
                        socket = self.connect().await;
                        move_at = None;
                    }
                },
                _ = beats.tick() => {
                    let beat = Message::text(r#"{"type":"heartbeat"}"#);
                    let signal = self.signal().map(Message::text);
                    for message in std::iter::once(beat).chain(signal) {
                        let _ = socket.feed(message).await;
                    }
                    let _ = socket.flush().await;
                }
                () = sleep_until(move_at) => {
                    move_at = None;
                    // The old one is given up when the new one says something.
                    let mut newer = self.connect().await;
                    if let Some(Ok(Message::Text(text))) = newer.next().await {
                        self.hear(&serde_json::from_str(&text).unwrap_or_default());
                    }
                    socket = newer;
                }
            }
        }
    }

    /// A connection to a node that is ready, as a balancer gives it.
    async fn connect(&mut self) -> Socket {
        if self.call.is_some() {
            lock(&self.seen).moves.push(Instant::now());
        }
        loop {
            if let Some(socket) = self.try_connect().await {
                return socket;
            }
            *lock(&self.seen).failed.entry(0).or_default() += 1;
            time::sleep(Duration::from_millis(self.rng.u64(500..2_000))).await;
        }
    }

    async fn try_connect(&mut self) -> Option<Socket> {
        let address = self.deployment.pick_ready(&mut self.rng)?;
        let tcp = TcpStream::connect(address).await.ok()?;
        tcp.set_nodelay(true).ok()?;
        let continuing = self.call.as_ref().map(|call| {
            let Call { session, negotiation, received, .. } = call;
            format!("&continue={session}~{negotiation}~{received}")
        });
        let (token, continuing) = (token(&self.name), continuing.unwrap_or_default());
        let url = format!("ws://{address}/ws/signaling?token={token}{continuing}");
        let mut request = url.into_client_request().ok()?;
        let v1 = HeaderValue::from_static("signaling.v1");
        request.headers_mut().insert("sec-websocket-protocol", v1);
        client_async(request, tcp).await.ok().map(|(socket, _)| socket)
    }

    fn signal(&mut self) -> Option<String> {
        let call = self.call.as_mut()?;
        call.sent += 1;
        let at = self.start.elapsed().as_micros();
        Some(
            json!({
                "type": "ice-candidate",
                "sessionId": call.session,
                "negotiation": call.negotiation,
                "seq": call.sent,
                "candidate": format!("{at}"),
            })
            .to_string(),
        )
    }

    fn hear(&mut self, message: &Value) {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let mut seen = lock(&self.seen);
        match message["type"].as_str() {
            Some("match-found") => {
                seen.matches += usize::from(self.call.is_some());
                let (session, negotiation) = (text("sessionId"), text("negotiation"));
                self.call = Some(Call { session, negotiation, sent: 0, received: 0 });
            }
            Some("continued") => seen.continued += 1,
            Some("partner-disconnected") => seen.disconnected += 1,
            Some("ice-candidate") => {
                let Some(call) = &mut self.call else { return };
                let seq = message["seq"].as_u64().unwrap_or_default();
                seen.gaps += usize::from(seq != call.received + 1);
                call.received = seq;
                seen.signals += 1;
                let sent: u128 = text("candidate").parse().unwrap_or_default();
                let took = self.start.elapsed().as_micros().saturating_sub(sent);
                seen.took.push(u32::try_from(took).unwrap_or(u32::MAX));
            }
            _ => {}
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Restarts all `nodes` in turn under this number of clients. True if every limit was kept.
pub(crate) async fn run(
    deployment: Arc<Deployment>,
    nodes: usize,
    clients: usize,
) -> Result<bool, String> {
    let (seen, start) = (Arc::new(Mutex::new(Seen::default())), Instant::now());
    let mut rng = Rng::with_seed(7);
    let mut tasks = JoinSet::new();
    time::sleep(Duration::from_secs(1)).await;
    for pair in 0..clients / 2 {
        let names = ["a", "b"].map(|side| format!("{side}{pair}"));
        let body = json!({"initiatorId": names[0], "partnerId": names[1]}).to_string();
        let opened = deployment.api(&mut rng, "POST", "/api/sessions", &body).await;
        if !matches!(opened, Ok((201, _))) {
            return Err(format!("a session was not opened: {opened:?}"));
        }
        for name in names {
            let (deployment, seen, rng) = (deployment.clone(), seen.clone(), rng.fork());
            let client = Client { name, deployment, seen, start, rng, call: None };
            tasks.spawn(client.live());
        }
    }
    println!("restart: {clients} clients connect");
    time::sleep(CALM).await;
    let mut good = true;
    for node in 0..nodes {
        let before = std::mem::take(&mut *lock(&seen));
        println!("restart: before: {} signals, {}", before.signals, percentiles(before.took).0);
        let from = Instant::now();
        let fault = Fault { kind: Kind::Terminate, node: Some(node), lasts: Duration::ZERO };
        deployment.suffer(fault).await;
        time::sleep(CALM).await;
        let seen = std::mem::take(&mut *lock(&seen));
        good &= report(node, from, seen);
    }
    let odd = deployment.odd();
    odd.iter().for_each(|odd| println!("restart: {odd}"));
    Ok(good && odd.is_empty())
}

fn report(node: usize, from: Instant, seen: Seen) -> bool {
    let Seen { matches, disconnected, continued, failed, gaps, signals, moves, took } = seen;
    let mut seconds = BTreeMap::<u64, usize>::new();
    for at in &moves {
        *seconds.entry(at.duration_since(from).as_secs()).or_default() += 1;
    }
    let most = seconds.values().copied().max().unwrap_or_default() as f64;
    let evenly = moves.len() as f64 / MOVING;
    let (shown, p99) = percentiles(took);
    println!(
        "restart: n{node}: {} moved, {continued} continued, {matches} match-found, {disconnected} \
         partner-disconnected, {gaps} gaps, closed {failed:?}; at most {most} connections a second, \
         {:.2} x evenly; {signals} signals, {shown}",
        moves.len(),
        most / evenly,
    );
    matches == 0
        && disconnected == 0
        && gaps == 0
        && continued == moves.len()
        && most <= UNEVEN * evenly
        && p99 <= SLOWEST_P99
}

/// In words, and the slowest hundredth.
fn percentiles(mut took: Vec<u32>) -> (String, Duration) {
    took.sort_unstable();
    let at = |share: f64| {
        let index = (took.len() as f64 * share) as usize;
        Duration::from_micros(took.get(index).copied().unwrap_or_default().into())
    };
    (format!("p50 {:?}, p99 {:?}, p99.9 {:?}", at(0.5), at(0.99), at(0.999)), at(0.99))
}
