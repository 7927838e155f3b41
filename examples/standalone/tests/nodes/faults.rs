//! A node is killed or frozen while hundreds talk across it. `FAULT_RUNS=10` runs each ten times, and
//! prints the times.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{self, Instant},
};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::{
    Nodes,
    support::{PATIENCE, Server, token},
};

const PAIRS: usize = 200;
/// In which the last partner is told.
const LIMIT: Duration = Duration::from_secs(30);
/// In which a node that woke reaches the others and is reached by them.
const HEALED: Duration = Duration::from_secs(3);

/// A client that keeps itself alive, and notes all that it hears, and when.
struct Client {
    heard: Arc<Mutex<Vec<(Instant, Value)>>>,
    say: mpsc::Sender<Value>,
    task: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    async fn connect(node: &Server, user: &str) -> Self {
        let address = format!("ws://{}/ws/signaling?token={}", node.address, token(user));
        let socket = time::timeout(PATIENCE, connect_async(address)).await.expect("an upgrade");
        let (mut sink, mut stream) = socket.unwrap().0.split();
        let (say, mut words) = mpsc::channel::<Value>(16);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = heard.clone();
        let task = tokio::spawn(async move {
            let mut heartbeats = time::interval(Duration::from_secs(10));
            loop {
                let sent = tokio::select! {
                    frame = stream.next() => match frame {
                        Some(Ok(Message::Text(text))) => {
                            let message = serde_json::from_str(&text).unwrap();
                            notes.lock().unwrap().push((Instant::now(), message));
                            Ok(())
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                        end => {
                            let closed = json!({"type": "closed", "by": format!("{end:?}")});
                            notes.lock().unwrap().push((Instant::now(), closed));
                            break;
                        }
                    },
                    Some(word) = words.recv() => sink.send(Message::text(word.to_string())).await,
                    _ = heartbeats.tick() => sink.send(Message::text(r#"{"type":"heartbeat"}"#)).await,
                };
                if sent.is_err() {
                    break;
                }
            }
        });
        Self { heard, say, task }
    }

    fn heard(&self, kind: &str) -> Vec<(Instant, Value)> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(_, message)| message["type"] == kind).cloned().collect()
    }

    async fn until_heard(&self, kind: &str, times: usize, at_most: Duration) -> Instant {
        let started = Instant::now();
        loop {
            if let Some((at, _)) = self.heard(kind).get(times - 1) {
                return *at;
            }
            assert!(started.elapsed() < at_most, "no {kind}: {:?}", self.heard.lock().unwrap());
            time::sleep(Duration::from_millis(20)).await;
        }
    }
}

struct Pair {
    session: String,
    ann: Client,
    bob: Client,
}

/// Ann on the first node, Bob on the second, matched.
async fn pair(nodes: &Nodes, n: usize) -> Pair {
    let [one, two] = &nodes.nodes;
    let (session, ann, bob) = (format!("s-{n}"), format!("ann-{n}"), format!("bob-{n}"));
    let body = json!({"initiatorId": ann, "partnerId": bob, "sessionId": session});
    assert_eq!(two.api("POST", "/api/sessions", Some(body)).await.status, 201);
    let ann = Client::connect(one, &ann).await;
    let bob = Client::connect(two, &bob).await;
    for client in [&ann, &bob] {
        client.until_heard("match-found", 1, Duration::from_secs(10)).await;
    }
    ann.say.send(json!({"type": "offer", "sessionId": session, "sdp": "hello"})).await.unwrap();
    bob.until_heard("offer", 1, Duration::from_secs(10)).await;
    Pair { session, ann, bob }
}

async fn pairs(nodes: &Nodes) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for chunk in (0..PAIRS).collect::<Vec<_>>().chunks(20) {
        pairs.extend(join_all(chunk.iter().map(|n| pair(nodes, *n))).await);
    }
    pairs
}

/// Until the last partner was told.
async fn all_are_told(pairs: &[Pair], since: Instant) -> Duration {
    let mut last = since;
    for pair in pairs {
        last = last.max(pair.bob.until_heard("partner-disconnected", 1, LIMIT).await);
    }
    last - since
}

fn runs() -> usize {
    std::env::var("FAULT_RUNS").map_or(1, |runs| runs.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn partners_of_a_killed_node_are_told_in_time_and_once() {
    let mut worst = Duration::ZERO;
    for run in 0..runs() {
        let nodes = Nodes::start().await;
        let pairs = pairs(&nodes).await;
        // At another moment between two renewals of the lease each time.
        time::sleep(Duration::from_millis(470 * run as u64)).await;
        let killed = Instant::now();
        nodes.nodes[0].signal("KILL").await;
        let told = all_are_told(&pairs, killed).await;
        println!("killed, run {run}: the last of {PAIRS} was told after {told:?}");
        worst = worst.max(told);
        time::sleep(Duration::from_secs(12)).await;
        for pair in &pairs {
            assert_eq!(pair.bob.heard("partner-disconnected").len(), 1, "{}", pair.session);
        }
        let left = nodes.redis.cli(&["zcard", "session:{nodes}:leases"]);
        assert_eq!(left, "1", "the dead one is forgotten");
    }
    assert!(worst < LIMIT, "{worst:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_frozen_node_is_given_up_and_finds_out_when_it_wakes() {
    let mut worst = Duration::ZERO;
    for run in 0..runs() {
        let nodes = Nodes::start().await;
        let pairs = pairs(&nodes).await;
        time::sleep(Duration::from_millis(470 * run as u64)).await;
        let frozen = Instant::now();
        nodes.nodes[0].signal("STOP").await;
        let told = all_are_told(&pairs, frozen).await;
        println!("frozen, run {run}: the last of {PAIRS} was told after {told:?}");
        worst = worst.max(told);
        // Some go elsewhere meanwhile, as they would when their client notices.
        let mut moved = Vec::new();
        for pair in pairs.iter().take(20) {
            let name = pair.session.replacen("s-", "ann-", 1);
            moved.push(Client::connect(&nodes.nodes[1], &name).await);
        }
        for ann in &moved {
            ann.until_heard("match-found", 1, Duration::from_secs(5)).await;
        }
        nodes.nodes[0].signal("CONT").await;
        woken_is_whole(&pairs[20..]).await;
        for (pair, ann) in pairs.iter().zip(&moved) {
            pair.ann.until_heard("closed", 1, Duration::from_secs(5)).await;
            let closed = pair.ann.heard("closed")[0].1["by"].to_string();
            assert!(closed.contains("4409"), "{closed}");
            assert!(ann.heard("closed").is_empty(), "who moved stays");
            assert_eq!(pair.bob.heard("partner-disconnected").len(), 1, "{}", pair.session);
        }
    }
    assert!(worst < LIMIT, "{worst:?}");
}

/// One says something until the other hears it: who is told that it was lost says it again.
async fn hears(from: &Client, signal: &Value, to: &Client) {
    let kind = signal["type"].as_str().unwrap();
    let before = to.heard(kind).len();
    let started = Instant::now();
    while started.elapsed() < HEALED {
        let told = from.heard("error").len();
        from.say.send(signal.clone()).await.unwrap();
        let outcome = async {
            while to.heard(kind).len() == before && from.heard("error").len() == told {
                time::sleep(Duration::from_millis(10)).await;
            }
        };
        time::timeout(Duration::from_secs(5), outcome)
            .await
            .expect("it arrives, or its sender is told");
        if to.heard(kind).len() > before {
            return;
        }
        time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{kind} does not arrive: {:?}", from.heard("error"));
}

/// Everybody on the woken node has its partner again, and both hear each other.
async fn woken_is_whole(pairs: &[Pair]) {
    for Pair { session, ann, bob } in pairs {
        ann.until_heard("match-found", 2, Duration::from_secs(10)).await;
        bob.until_heard("match-found", 2, Duration::from_secs(10)).await;
        let offer = json!({"type": "offer", "sessionId": session, "sdp": "again"});
        hears(ann, &offer, bob).await;
        let answer = json!({"type": "answer", "sessionId": session, "sdp": "again"});
        hears(bob, &answer, ann).await;
        assert_eq!(bob.heard("partner-disconnected").len(), 1, "{session}");
        assert!(ann.heard("closed").is_empty(), "{session}");
    }
}
