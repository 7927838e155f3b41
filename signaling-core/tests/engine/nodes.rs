//! Several nodes on one store and bus: calls across them, users that move, nodes that vanish.

use std::{sync::Arc, time::Duration};

use signaling_core::{
    Config,
    event::Event,
    id::SessionId,
    reason::DisconnectReason,
    relay::{NewSession, OpenError, Opened},
    session::Role,
    store::{Counts, SessionStore},
    testing::{TokioClock, fault::Trouble},
};
use tokio::time::{self, Instant};

use crate::harness::{Deployment, Guest, Node, matched, user};

#[tokio::test(start_paused = true)]
async fn a_call_works_across_two_nodes() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    for n in 0..50 {
        ann.signal(&session, "offer", &format!("offer {n}")).await;
        bob.expect(&format!("offer offer {n}")).await;
        bob.signal(&session, "answer", &format!("answer {n}")).await;
        ann.expect(&format!("answer answer {n}")).await;
    }
    bob.send(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)).await;
    ann.expect("partner-disconnected").await;
    assert_eq!(a.relay.session(&session).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn signals_are_kept_for_a_partner_that_connects_on_another_node() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let session = b.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    let mut ann = Guest::connect(&a, "ann");
    ann.expect_match(&session, "bob", true).await;
    ann.signal(&session, "offer", "o").await;
    ann.signal(&session, "ice-candidate", "c").await;
    ann.settled().await;
    let mut bob = Guest::connect(&b, "bob");
    bob.expect_match(&session, "ann", false).await;
    bob.expect("offer o").await;
    bob.expect("ice-candidate c").await;
    ann.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_connection_is_told_on_another_node_at_once() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let mut ann = Guest::connect(&a, "ann");
    let session = a.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    for n in 0..10 {
        let mut bob = Guest::connect(&b, "bob");
        bob.expect_match(&session, "ann", false).await;
        if n > 0 {
            ann.expect_match(&session, "bob", true).await;
        }
        // Away from the moments at which heartbeats are written.
        time::sleep(Duration::from_millis(1_730)).await;
        let ended = Instant::now();
        drop(bob);
        ann.expect("partner-disconnected").await;
        assert!(ended.elapsed() < Duration::from_millis(10), "{:?}", ended.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_that_moves_to_another_node_is_replaced_on_the_first() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    for n in 0..20 {
        let to = if n % 2 == 0 { &b } else { &a };
        let mut moved = Guest::connect(to, "ann");
        let moving = Instant::now();
        ann.expect_close(4409).await;
        assert!(moving.elapsed() < Duration::from_millis(100), "{:?}", moving.elapsed());
        moved.expect_match(&session, "bob", true).await;
        bob.expect("partner-disconnected").await;
        bob.expect_match(&session, "ann", false).await;
        ann = moved;
    }
    ann.signal(&session, "offer", "o").await;
    bob.expect("offer o").await;
    bob.expect_nothing().await;
    assert_eq!(a.relay.connections() + b.relay.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn partners_of_a_vanished_node_are_told_within_thirty_seconds_and_once() {
    for phase in [0, 1_300, 2_500, 4_900] {
        let deployment = Deployment::new();
        let (a, b) = (deployment.node().await, deployment.node().await);
        let mut events = b.relay.events();
        let mut pairs = Vec::new();
        for n in 0..50 {
            let (ann, bob) = (format!("ann-{n}"), format!("bob-{n}"));
            let mut pair = (Guest::connect(&a, &ann), Guest::connect(&b, &bob));
            let session = a.relay.open_session(&user(&ann), &user(&bob)).await.unwrap();
            pair.0.expect_match(&session, &bob, true).await;
            pair.1.expect_match(&session, &ann, false).await;
            pairs.push((pair.0, pair.1, session));
        }
        time::sleep(Duration::from_millis(phase)).await;
        let died = Instant::now();
        a.kill();
        for (_, bob, _) in &mut pairs {
            bob.expect("partner-disconnected").await;
        }
        assert!(died.elapsed() < Duration::from_secs(30), "{:?}", died.elapsed());
        time::sleep(Duration::from_secs(30)).await;
        for (_, bob, session) in &mut pairs {
            bob.settled().await;
            let record = b.relay.session(session).await.unwrap().unwrap();
            assert_eq!(record.participants[0].connection(), None);
        }
        let mut lost = 0;
        while let Ok(event) = time::timeout(Duration::from_secs(1), events.next()).await {
            if let Event::ParticipantDisconnected { reason, .. } = event.unwrap().unwrap() {
                assert_eq!(reason, DisconnectReason::NodeLost);
                lost += 1;
            }
        }
        assert_eq!(lost, 50);
    }
}

#[tokio::test(start_paused = true)]
async fn exactly_one_of_many_survivors_tells() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let bystanders = [deployment.node().await, deployment.node().await];
    let mut events = bystanders.each_ref().map(|node| node.relay.events());
    let (_ann, mut bob) = (Guest::connect(&a, "ann"), Guest::connect(&b, "bob"));
    let session = b.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    bob.expect_match(&session, "ann", false).await;
    let mut told = b.relay.events();
    a.kill();
    bob.expect("partner-disconnected").await;
    bob.expect_nothing().await;
    let mut lost = 0;
    for events in events.iter_mut().chain([&mut told]) {
        while let Ok(event) = time::timeout(Duration::from_secs(1), events.next()).await {
            let event = event.unwrap().unwrap();
            lost += usize::from(matches!(event, Event::ParticipantDisconnected { .. }));
        }
    }
    assert_eq!(lost, 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_and_written_off_finds_out_and_attaches_its_users_again() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    a.faults.cut(true);
    bob.expect("partner-disconnected").await;
    assert!(!a.relay.is_ready());
    // The last attempts that fail take a second each; after that it may not wait for a heartbeat.
    a.faults.cut(false);
    let mended = Instant::now();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    assert!(mended.elapsed() < Duration::from_millis(2_500), "{:?}", mended.elapsed());
    time::sleep(Duration::from_secs(2)).await;
    assert!(a.relay.is_ready());
    ann.signal(&session, "offer", "o").await;
    bob.expect("offer o").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_admits_nobody_until_it_counts_as_alive_again() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    a.faults.cut(true);
    bob.expect("partner-disconnected").await;
    // Nobody would take back what it wrote now, if it died before it has a lease again.
    a.faults.cut(false);
    Guest::connect(&a, "cat").expect_close(4503).await;
    let cat = deployment.store.user(&user("cat")).await.unwrap();
    assert_eq!(cat.connection, None);
    ann.expect_match(&session, "bob", true).await;
    Guest::connect(&a, "cat").settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_gives_up_users_who_went_elsewhere() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let mut ann = Guest::connect(&a, "ann");
    ann.settled().await;
    a.faults.cut(true);
    time::sleep(Duration::from_secs(2)).await;
    let mut moved = Guest::connect(&b, "ann");
    moved.settled().await;
    ann.settled().await;
    time::sleep(Duration::from_secs(20)).await;
    a.faults.cut(false);
    ann.expect_close(4409).await;
    moved.settled().await;
}

#[tokio::test(start_paused = true)]
async fn pairs_on_one_node_go_on_while_the_store_is_away() {
    let deployment = Deployment::new();
    let a = deployment.node().await;
    let (mut ann, mut bob) = (Guest::connect(&a, "ann"), Guest::connect(&a, "bob"));
    let session = a.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    a.faults.cut(true);
    for n in 0..120 {
        ann.signal(&session, "offer", &n.to_string()).await;
        bob.expect(&format!("offer {n}")).await;
        time::sleep(Duration::from_secs(1)).await;
    }
    assert!(!a.relay.is_ready());
    ann.send(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)).await;
    ann.expect("error unavailable").await;
    let mut eve = Guest::connect(&a, "eve");
    eve.expect_close(4503).await;
    // The end of a local partner is told all the same.
    drop(bob);
    ann.expect("partner-disconnected").await;
    a.faults.cut(false);
    let back = Instant::now();
    while !a.relay.is_ready() {
        time::sleep(Duration::from_millis(10)).await;
    }
    assert!(back.elapsed() < Duration::from_secs(2));
    let mut bob = Guest::connect(&a, "bob");
    bob.expect_match(&session, "ann", false).await;
    ann.expect_match(&session, "bob", true).await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_to_a_node_that_cannot_be_reached_is_told_to_its_sender() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    a.faults.cut(true);
    ann.signal(&session, "offer", "lost").await;
    ann.expect("error unavailable").await;
    a.faults.cut(false);
    ann.signal(&session, "offer", "again").await;
    bob.expect("offer again").await;
    ann.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_nobody_is_written_off_who_is_alive() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    for node in [&a, &b] {
        node.faults.cut(true);
    }
    time::sleep(Duration::from_secs(100)).await;
    a.faults.cut(false);
    time::sleep(Duration::from_secs(3)).await;
    b.faults.cut(false);
    time::sleep(Duration::from_secs(30)).await;
    ann.signal(&session, "offer", "still there").await;
    bob.expect("offer still there").await;
    ann.expect_nothing().await;
}

/// Guests that send no heartbeats, which would find everything out.
async fn matched_quietly(deployment: &Deployment) -> (Node, Node, Guest, Guest, SessionId) {
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob) = (Guest::connect_quiet(&a, "ann"), Guest::connect_quiet(&b, "bob"));
    let session = a.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    // Their first heartbeats are written.
    time::sleep(Duration::from_secs(2)).await;
    (a, b, ann, bob, session)
}

fn patient(config: &mut Config) {
    config.heartbeat_timeout = Duration::from_secs(3_600);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lost_its_lease_looks_its_sessions_up_without_waiting_for_heartbeats() {
    let deployment = Deployment::with(patient);
    let (a, _b, mut ann, mut bob, session) = matched_quietly(&deployment).await;
    a.faults.cut(true);
    bob.expect("partner-disconnected").await;
    a.faults.cut(false);
    let mended = Instant::now();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    assert!(mended.elapsed() < Duration::from_secs(5), "{:?}", mended.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_finds_out_that_it_lost_its_lease_also_when_the_word_of_it_was_lost() {
    let deployment = Deployment::with(patient);
    let lease = Duration::from_secs(15);
    let (a, _b, mut ann, mut bob, session) = matched_quietly(&deployment).await;
    a.faults.cut(true);
    bob.expect("partner-disconnected").await;
    let (store, node, nothing) = (&deployment.store, a.relay.node_id(), Counts::default());
    let renewed = store.renew_lease(node, lease, nothing, &[]).await;
    assert!(!renewed.unwrap().held);
    a.faults.cut(false);
    let mended = Instant::now();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    assert!(mended.elapsed() < Duration::from_secs(5), "{:?}", mended.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_session_is_open_when_nobody_misses_it_if_the_node_that_opened_it_dies() {
    let deployment = Deployment::new();
    let (a, b, c) = (deployment.node().await, deployment.node().await, deployment.node().await);
    let (mut ann, mut bob) = (Guest::connect(&a, "ann"), Guest::connect(&b, "bob"));
    ann.settled().await;
    bob.settled().await;
    let mut slow = Trouble::NONE;
    slow.delay = Duration::from_millis(200);
    c.faults.set(slow);
    let session = c.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    c.kill();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_which_no_node_can_be_told_can_be_opened_once_more() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    // Its store answers, whatever becomes of the bus.
    let store = deployment.store.clone();
    let c = deployment.node_with(|builder| builder.store(store)).await;
    let (mut ann, mut bob) = (Guest::connect(&a, "ann"), Guest::connect(&b, "bob"));
    ann.settled().await;
    bob.settled().await;
    c.faults.cut(true);
    let (initiator, responder) = (user("ann"), user("bob"));
    let opened = c.relay.open_session(&initiator, &responder).await;
    let Err(OpenError::Store { session, .. }) = opened else { panic!("{opened:?}") };
    c.kill();
    let opened = a.relay.open(NewSession::between(&initiator, &responder).id(&session)).await;
    assert_eq!(opened.unwrap().1, Opened::Existing);
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
}

/// Two nodes, of which the second has a clock that is wrong.
async fn with_a_wrong_clock(
    deployment: &Deployment,
    wrong: fn(TokioClock, Duration) -> TokioClock,
) -> (Node, Node) {
    let clock = wrong(TokioClock::start(), Duration::from_secs(90));
    let b = deployment.node_with(|builder| builder.clock(Arc::new(clock))).await;
    (deployment.node().await, b)
}

#[tokio::test(start_paused = true)]
async fn a_node_with_a_wrong_clock_ends_sessions_neither_early_nor_late() {
    for wrong in [TokioClock::ahead_by, TokioClock::behind_by] {
        let deployment = Deployment::new();
        let (a, b) = with_a_wrong_clock(&deployment, wrong).await;
        let absent = Instant::now() + Duration::from_secs(60);
        let mut sessions = Vec::new();
        for (n, node) in [&a, &b].into_iter().enumerate() {
            let (ann, bob) = (format!("ann-{n}"), format!("bob-{n}"));
            let session = node.relay.open_session(&user(&ann), &user(&bob)).await.unwrap();
            sessions.push(session);
        }
        time::sleep_until(absent - Duration::from_millis(10)).await;
        for session in &sessions {
            assert!(a.relay.session(session).await.unwrap().is_some(), "{session} ended early");
        }
        time::sleep_until(absent + Duration::from_secs(2)).await;
        for session in &sessions {
            assert_eq!(a.relay.session(session).await.unwrap(), None, "{session} was not ended");
        }
        // One whose participant went away on the node with the wrong clock.
        let (_ann, bob, session) = matched(&a, &b).await;
        time::sleep(Duration::from_secs(30)).await;
        drop(bob);
        time::sleep(Duration::from_secs(59)).await;
        assert!(a.relay.session(&session).await.unwrap().is_some(), "it ended early");
        time::sleep(Duration::from_secs(3)).await;
        assert_eq!(a.relay.session(&session).await.unwrap(), None, "it was not ended");
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_written_by_the_clock_of_the_store() {
    for wrong in [TokioClock::ahead_by, TokioClock::behind_by] {
        let deployment = Deployment::new();
        let (a, b) = with_a_wrong_clock(&deployment, wrong).await;
        let (_ann, _bob, session) = matched(&a, &b).await;
        time::sleep(Duration::from_secs(15)).await;
        let record = a.relay.session(&session).await.unwrap().unwrap();
        let [ann, bob] = Role::BOTH.map(|role| record.participant(role).last_heartbeat.unwrap());
        let apart = ann.since(bob).max(bob.since(ann));
        assert!(apart < Duration::from_secs(1), "{apart:?} apart");
    }
}

/// How long it takes until the node is ready, or is not.
async fn until_ready(node: &Node, ready: bool) -> Duration {
    let started = Instant::now();
    while node.relay.is_ready() != ready {
        assert!(started.elapsed() < Duration::from_secs(30), "not within 30 s: {ready}");
        time::sleep(Duration::from_millis(1)).await;
    }
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_the_store_within_two_seconds_at_every_age() {
    let mut silent = Trouble::NONE;
    silent.delay = Duration::from_secs(3_600);
    for age in (0..10_000).step_by(470).map(Duration::from_millis) {
        let node = Deployment::new().node().await;
        time::sleep(age).await;
        for fails in [true, false] {
            match fails {
                true => node.faults.cut(true),
                false => node.faults.set(silent),
            }
            let unready = until_ready(&node, false).await;
            assert!(unready < Duration::from_secs(2), "at {age:?}: {unready:?}");
            node.faults.cut(false);
            node.faults.set(Trouble::NONE);
            let ready = until_ready(&node, true).await;
            assert!(ready < Duration::from_secs(2), "at {age:?}: {ready:?}");
        }
    }
}

/// A store that answers late is one that serves.
#[tokio::test(start_paused = true)]
async fn a_node_is_ready_while_its_store_answers_within_one_and_a_half_seconds() {
    let node = Deployment::new().node().await;
    let mut slow = Trouble::NONE;
    slow.delay = Duration::from_millis(1_500);
    node.faults.set(slow);
    for _ in 0..600 {
        time::sleep(Duration::from_millis(100)).await;
        assert!(node.relay.is_ready());
    }
}
