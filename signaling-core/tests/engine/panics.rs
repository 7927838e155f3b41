//! Code of the host that panics: a store, a bus, a clock. Nothing of a node is missing afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signaling_core::{
    auth::Identity,
    event::Event,
    reason::DisconnectReason,
    store::SessionStore,
    testing::{
        TokioClock,
        fault::{Faults, Trouble},
        wire::Received,
    },
    time::{Clock, Timestamp},
};
use tokio::time::{self, Instant};

use crate::harness::{Deployment, Guest, Node, matched, user};

/// Every call panics.
fn panicking() -> Trouble {
    let mut trouble = Trouble::NONE;
    trouble.panics = 1.0;
    trouble
}

async fn until_ready(node: &Node, ready: bool, within: Duration) {
    let start = Instant::now();
    while node.relay.is_ready() != ready {
        assert!(start.elapsed() < within, "not ready={ready} within {within:?}");
        time::sleep(Duration::from_millis(10)).await;
    }
}

/// Two who are matched after the fault talk, their heartbeats are stored, and the end of one is told.
async fn all_is_well(deployment: &Deployment, a: &Node, b: &Node) {
    let (mut cat, mut dan) = (Guest::connect(a, "cat"), Guest::connect(b, "dan"));
    cat.settled().await;
    dan.settled().await;
    let session = b.relay.open_session(&user("cat"), &user("dan")).await.unwrap();
    cat.expect_match(&session, "dan", true).await;
    dan.expect_match(&session, "cat", false).await;
    cat.signal(&session, "offer", "o").await;
    dan.expect("offer o").await;
    dan.signal(&session, "answer", "a").await;
    cat.expect("answer a").await;
    let before = TokioClock::start().now();
    time::sleep(Duration::from_secs(12)).await;
    let record = deployment.store.load(&session).await.unwrap().unwrap();
    for participant in &record.participants {
        assert!(participant.last_heartbeat >= Some(before), "heartbeats are written");
    }
    drop(cat);
    dan.expect("partner-disconnected").await;
    // Abandoned sessions are ended.
    time::sleep(Duration::from_secs(65)).await;
    assert_eq!(deployment.store.load(&session).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn tasks_that_panic_are_started_again_and_the_node_says_no_until_then() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (ann, mut bob, session) = matched(&a, &b).await;
    time::sleep(Duration::from_secs(15)).await;
    assert!(a.relay.is_ready());
    a.faults.set(panicking());
    until_ready(&a, false, Duration::from_secs(2)).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        assert!(!a.relay.is_ready(), "after {:?}", start.elapsed());
        time::sleep(Duration::from_millis(10)).await;
    }
    a.faults.set(Trouble::NONE);
    until_ready(&a, true, Duration::from_secs(4)).await;
    // Nobody was taken for dead.
    ann.signal(&session, "offer", "o").await;
    bob.expect("offer o").await;
    all_is_well(&deployment, &a, &b).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_tasks_panic_for_long_is_taken_for_dead_and_comes_back() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    time::sleep(Duration::from_secs(15)).await;
    a.faults.set(panicking());
    bob.expect("partner-disconnected").await;
    a.faults.set(Trouble::NONE);
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    until_ready(&a, true, Duration::from_secs(4)).await;
    all_is_well(&deployment, &a, &b).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_has_to_write_is_written_when_the_store_panics_no_more() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let mut events = a.relay.events();
    let (ann, mut bob, _) = matched(&a, &b).await;
    a.faults.set(panicking());
    let mut eve = Guest::connect(&a, "eve");
    eve.expect_close(1011).await;
    drop(ann);
    time::sleep(Duration::from_secs(3)).await;
    a.faults.set(Trouble::NONE);
    let healed = Instant::now();
    bob.expect("partner-disconnected").await;
    assert!(healed.elapsed() < Duration::from_secs(2), "{:?}", healed.elapsed());
    let mut refused = 0;
    while let Ok(Ok(Some(event))) = time::timeout(Duration::from_secs(1), events.next()).await {
        match event {
            Event::ConnectionRefused { user, reason, .. } => {
                assert_eq!((user.as_str(), reason), ("eve", DisconnectReason::Internal));
                refused += 1;
            }
            Event::UserDisconnected { user, .. } => assert_eq!(user.as_str(), "ann"),
            _ => {}
        }
    }
    assert_eq!(refused, 1);
    let shutdown = a.relay.shutdown(Duration::from_secs(5)).await;
    assert_eq!(shutdown, signaling_core::relay::Shutdown::Complete, "nothing is left to write");
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_a_bus_panics_over_is_told_to_its_sender() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    a.faults.set(panicking());
    ann.signal(&session, "offer", "lost").await;
    ann.expect("error unavailable").await;
    a.faults.set(Trouble::NONE);
    ann.signal(&session, "offer", "o").await;
    bob.expect("offer o").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_its_inbox_is_not_ready_and_opens_it_again() {
    let (deployment, faults) = (Deployment::new(), Faults::new(1));
    let bus = faults.bus(deployment.bus.clone());
    let a = deployment.node_with(|builder| builder.bus(bus)).await;
    let b = deployment.node().await;
    let (_ann, bob, session) = matched(&a, &b).await;
    faults.set(panicking());
    bob.signal(&session, "ice-candidate", "c").await;
    until_ready(&a, false, Duration::from_secs(1)).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        assert!(!a.relay.is_ready(), "after {:?}", start.elapsed());
        time::sleep(Duration::from_millis(10)).await;
    }
    assert!(b.relay.is_ready());
    faults.set(Trouble::NONE);
    until_ready(&a, true, Duration::from_secs(4)).await;
    // The other node tries again and again to tell this one that it has missed notices.
    time::sleep(Duration::from_secs(1)).await;
    all_is_well(&deployment, &a, &b).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_while_the_store_panics() {
    let node = Deployment::new().node().await;
    let mut ann = Guest::connect(&node, "ann");
    ann.settled().await;
    node.faults.set(panicking());
    let start = Instant::now();
    let _ = node.relay.shutdown(Duration::from_secs(5)).await;
    assert!(start.elapsed() <= Duration::from_millis(5_100));
    ann.expect_close(1001).await;
}

/// A clock that panics while it is told to.
#[derive(Debug)]
struct Broken {
    clock: TokioClock,
    broken: Arc<AtomicBool>,
}

impl Clock for Broken {
    fn now(&self) -> Timestamp {
        assert!(!self.broken.load(Ordering::SeqCst), "a clock that panics");
        self.clock.now()
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_panics_ends_only_the_connection_that_asks_it() {
    let deployment = Deployment::new();
    let broken = Arc::new(AtomicBool::new(false));
    let clock = Broken { clock: TokioClock::start(), broken: broken.clone() };
    let a = deployment.node_with(|builder| builder.clock(Arc::new(clock))).await;
    let b = deployment.node().await;
    let (ann, mut bob, session) = matched(&a, &b).await;
    broken.store(true, Ordering::SeqCst);
    // One whose token expires cannot be told when, and leaves nothing behind.
    let expiring = Identity::new(user("eve")).expiring(TokioClock::start().now());
    let mut eve = Guest::connect_as(&a.relay, expiring);
    assert_eq!(eve.next().await, Received::Lost);
    // No background task goes by it.
    time::sleep(Duration::from_secs(15)).await;
    assert!(a.relay.is_ready());
    broken.store(false, Ordering::SeqCst);
    assert_eq!(a.relay.connections(), 1);
    ann.signal(&session, "offer", "o").await;
    bob.expect("offer o").await;
    all_is_well(&deployment, &a, &b).await;
}

/// A subscriber of the log that panics when a connection ends, as one does whose output is gone.
#[derive(Debug)]
struct PanicsAtAnEnd;

impl tracing::Subscriber for PanicsAtAnEnd {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().contains("relay::driver")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let has_reason = event.metadata().fields().field("reason").is_some();
        assert!(!has_reason, "an injected panic");
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_log_that_panics_at_the_end_of_a_connection_hides_no_end() {
    let _subscriber = tracing::subscriber::set_default(PanicsAtAnEnd);
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (ann, mut bob, session) = matched(&a, &b).await;
    drop(ann);
    let told = bob.expect("partner-disconnected");
    time::timeout(Duration::from_secs(5), told).await.expect("bob is told");
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(a.relay.connections(), 0);
    let record = deployment.store.load(&session).await.unwrap().unwrap();
    assert_eq!(record.participants[0].connection(), None);
    assert!(!b.relay.is_connected(&user("ann")).await.unwrap());
}
