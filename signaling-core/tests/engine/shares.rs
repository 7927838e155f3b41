//! What a sender causes is charged to the sender: queues that several sessions share, and clients that
//! do not read.

use std::time::Duration;

use serde_json::Value;
use signaling_core::{
    Config,
    auth::Identity,
    id::SessionId,
    reason::DisconnectReason,
    testing::{
        fault::Trouble,
        wire::{Client as Wire, Received, wire},
    },
};
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

use crate::harness::{Deployment, Guest, Node, matched, user};

/// Longer than anything takes that is not a fault.
const SOON: Duration = Duration::from_millis(100);

/// A client that reads only when it is told to.
struct Client {
    wire: Wire,
    served: JoinHandle<DisconnectReason>,
}

impl Client {
    /// A connection that holds so many frames in each direction.
    fn connect(node: &Node, name: &str, frames: usize) -> Self {
        let (server, wire) = wire(frames);
        let (relay, identity) = (node.relay.clone(), Identity::new(user(name)));
        let served = tokio::spawn(async move { relay.serve(server, identity).await });
        Self { wire, served }
    }

    async fn message(&mut self) -> Option<Value> {
        match time::timeout(SOON, self.wire.receive()).await {
            Ok(Received::Text(text)) => Some(serde_json::from_str(&text).unwrap()),
            Ok(other) => panic!("a message was expected, not {other:?}"),
            Err(_) => None,
        }
    }

    /// All that is on its way.
    async fn drain(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        while let Some(message) = self.message().await {
            messages.push(message);
        }
        messages
    }

    async fn expect_match(&mut self) {
        assert_eq!(self.message().await.unwrap()["type"], "match-found");
    }

    /// Sends candidates that begin with these numbers, without waiting in between.
    async fn send(&self, session: &SessionId, numbers: impl Iterator<Item = u64>, bytes: usize) {
        for number in numbers {
            let text = format!("{number:0>bytes$}");
            let message = format!(
                r#"{{"type":"ice-candidate","sessionId":"{session}","candidate":"{text}"}}"#
            );
            self.wire.send(message).await;
        }
    }

    /// How many messages of its were refused for want of room.
    async fn refusals(&mut self) -> usize {
        let messages = self.drain().await;
        for message in &messages {
            assert_eq!(message["code"], "rate-limited", "{message}");
        }
        messages.len()
    }
}

/// The numbers of candidates.
fn numbers(messages: &[Value]) -> Vec<u64> {
    let number = |message: &Value| message["candidate"].as_str().unwrap().parse().unwrap();
    messages.iter().map(number).collect()
}

/// A user may send as fast as it can: what stops it is the room in queues.
fn unlimited(config: &mut Config) {
    (config.max_signals_per_second, config.max_signal_bytes_per_second) = (0, 0);
}

/// Two clients, matched; the first can send 64 frames at once, the second takes so many.
async fn pair(nodes: [&Node; 2], names: [&str; 2], takes: usize) -> (Client, Client, SessionId) {
    let [first, second] = names;
    let mut ann = Client::connect(nodes[0], first, 64);
    let mut bob = Client::connect(nodes[1], second, takes);
    let session = nodes[0].relay.open_session(&user(first), &user(second)).await.unwrap();
    ann.expect_match().await;
    bob.expect_match().await;
    // Until each connection knows where the other is.
    assert_eq!((ann.message().await, bob.message().await), (None, None));
    (ann, bob, session)
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_refused_to_its_sender_and_its_partner_stays() {
    let node = Deployment::with(unlimited).node().await;
    let (mut ann, mut bob, session) = pair([&node, &node], ["ann", "bob"], 64).await;
    let mut cat = Guest::connect(&node, "cat");
    let other = node.relay.open_session(&user("cat"), &user("bob")).await.unwrap();
    cat.expect_match(&other, "bob", true).await;
    bob.expect_match().await;
    ann.send(&session, 1..=40, 60_000).await;
    let delivered = numbers(&bob.drain().await);
    assert!(delivered.is_sorted() && (8..40).contains(&delivered.len()), "{delivered:?}");
    assert!(ann.refusals().await > 0);
    cat.settled().await;
    cat.signal(&other, "offer", "o").await;
    assert_eq!(bob.message().await.unwrap()["sdp"], "o");
}

#[tokio::test(start_paused = true)]
async fn each_signal_to_a_client_that_does_not_read_is_delivered_or_its_sender_told_at_once() {
    for nodes in [1, 2] {
        let deployment = Deployment::with(unlimited);
        let a = deployment.node().await;
        let b = if nodes == 2 { Some(deployment.node().await) } else { None };
        let b = b.as_ref().unwrap_or(&a);
        let (mut ann, mut bob, session) = pair([&a, b], ["ann", "bob"], 4).await;
        let mut refused = Vec::new();
        for number in 1..=20 {
            // Some are so small that there is room for them behind one that was too large.
            let bytes = if number % 3 == 0 { 50 } else { 60_000 };
            ann.send(&session, number..=number, bytes).await;
            if ann.refusals().await > 0 {
                refused.push(number);
            }
        }
        assert!(refused.contains(&20), "{refused:?}");
        let mut told = refused.clone();
        told.extend(numbers(&bob.drain().await));
        told.sort_unstable();
        assert_eq!(told, (1..=20).collect::<Vec<_>>(), "{refused:?}");
        // Nothing is told twice, and it goes on.
        ann.send(&session, 21..=21, 50).await;
        assert_eq!(numbers(&bob.drain().await), [21]);
        assert_eq!(ann.refusals().await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_partner_of_a_client_that_does_not_read_is_refused_and_then_told_that_it_is_gone() {
    let node = Deployment::with(unlimited).node().await;
    let (mut ann, bob, session) = pair([&node, &node], ["ann", "bob"], 4).await;
    let began = Instant::now();
    ann.send(&session, 1..=300, 10).await;
    assert!(ann.refusals().await > 0);
    let closed = bob.served.await.unwrap();
    assert_eq!(closed, DisconnectReason::ReadsTooSlowly);
    // With two seconds for the close frame.
    assert_eq!(began.elapsed().as_secs(), 12);
    assert_eq!(ann.message().await.unwrap()["type"], "partner-disconnected");
}

#[tokio::test(start_paused = true)]
async fn senders_across_nodes_fill_neither_their_partners_queues_nor_that_of_the_node() {
    let deployment = Deployment::with(unlimited);
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    let mut pairs = Vec::new();
    for n in 0..25 {
        let names = [format!("from-{n}"), format!("to-{n}")];
        pairs.push(pair([&a, &b], [&names[0], &names[1]], 64).await);
    }
    for (from, _, session) in &pairs {
        from.send(session, 1..=40, 60_000).await;
    }
    let began = Instant::now();
    ann.signal(&session, "offer", "o").await;
    bob.expect("offer o").await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let mut lost = 0;
    for (from, to, session) in &mut pairs {
        let delivered = numbers(&to.drain().await);
        assert!(delivered.is_sorted(), "{delivered:?}");
        if delivered.len() < 40 {
            lost += 1;
            assert!(from.refusals().await > 0);
        }
        from.send(session, 41..=41, 10).await;
        assert_eq!(numbers(&to.drain().await), [41]);
    }
    assert!(lost > 0);
    ann.settled().await;
    bob.settled().await;
}

#[tokio::test(start_paused = true)]
async fn one_session_cannot_fill_the_queue_to_another_node() {
    for by_bytes in [false, true] {
        let deployment = Deployment::with(|config| {
            unlimited(config);
            (config.max_node_queue, config.max_node_queue_bytes) = (64, 256 * 1024);
        });
        let (a, b) = (deployment.node().await, deployment.node().await);
        let (mut ann, mut bob, session) = pair([&a, &b], ["ann", "bob"], 300).await;
        let (mut cat, mut dan, other) = matched_as(&a, &b, "cat", "dan").await;
        let mut slow = Trouble::NONE;
        slow.delay = Duration::from_millis(500);
        a.faults.set(slow);
        let (burst, bytes) = if by_bytes { (20, 60_000) } else { (60, 10) };
        for _ in 0..4 {
            ann.send(&session, 1..=burst, bytes).await;
        }
        assert!(ann.refusals().await > 0);
        cat.signal(&other, "offer", "o").await;
        dan.expect("offer o").await;
        cat.settled().await;
        a.faults.set(Trouble::NONE);
        let delivered = bob.drain().await.len();
        let share = if by_bytes { 2 } else { 32 };
        assert!((share..4 * burst as usize).contains(&delivered), "{delivered}");
        // When all is handed on, there is room again.
        time::sleep(Duration::from_secs(1)).await;
        ann.drain().await;
        ann.send(&session, 1..=2, bytes).await;
        assert_eq!(numbers(&bob.drain().await), [1, 2]);
        assert_eq!(ann.refusals().await, 0);
    }
}

async fn matched_as(a: &Node, b: &Node, first: &str, second: &str) -> (Guest, Guest, SessionId) {
    let (mut one, mut two) = (Guest::connect(a, first), Guest::connect(b, second));
    let session = a.relay.open_session(&user(first), &user(second)).await.unwrap();
    one.expect_match(&session, second, true).await;
    two.expect_match(&session, first, false).await;
    (one, two, session)
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_comes_and_goes_does_not_close_a_client_that_reads_slowly() {
    let deployment = Deployment::with(|config| {
        (config.max_connects_per_minute, config.max_queued_messages) = (0, 16);
    });
    let (a, b) = (deployment.node().await, deployment.node().await);
    for from in [&a, &b] {
        let (ann, mut bob, session) = pair([from, &a], ["ann", "bob"], 4).await;
        drop(ann);
        for _ in 0..200 {
            let mut ann = Client::connect(from, "ann", 64);
            ann.expect_match().await;
            ann.send(&session, 1..=1, 10).await;
            time::sleep(Duration::from_millis(1)).await;
        }
        let mut ann = Client::connect(from, "ann", 64);
        ann.expect_match().await;
        time::sleep(Duration::from_secs(5)).await;
        let seen = bob.drain().await;
        assert!(seen.len() < 40, "{}", seen.len());
        ann.send(&session, 7..=7, 10).await;
        assert_eq!(numbers(&bob.drain().await), [7]);
        a.relay.close_session(&session, Default::default()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_late_is_told_of_a_partner_that_came_and_went() {
    let node = Deployment::new().node().await;
    let mut ann = Client::connect(&node, "ann", 1);
    let session = node.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    time::sleep(SOON).await;
    for id in 0..2 {
        ann.wire.send(format!(r#"{{"type":"heartbeat","id":{id}}}"#)).await;
        time::sleep(SOON).await;
    }
    for _ in 0..3 {
        let mut bob = Guest::connect(&node, "bob");
        bob.expect_match(&session, "ann", false).await;
        drop(bob);
        time::sleep(SOON).await;
    }
    let seen = ann.drain().await.into_iter().map(|m| m["type"].as_str().unwrap().to_owned());
    let seen: Vec<_> = seen.collect();
    let told = ["match-found", "heartbeat-ack", "heartbeat-ack", "partner-disconnected"];
    assert_eq!(seen, told);
}
