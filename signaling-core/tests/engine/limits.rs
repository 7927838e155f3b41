//! What one user may use up, however often it connects.

use std::time::Duration;

use signaling_core::{
    auth::Identity,
    event::Event,
    id::SessionId,
    reason::DisconnectReason,
    testing::wire::{Received, wire},
};
use tokio::time;

use crate::harness::{Deployment, Guest, Node, matched, user};

/// Sends `count` candidates; how many of them were refused.
async fn say(guest: &mut Guest, session: &SessionId, count: usize, payload: &str) -> usize {
    for _ in 0..count {
        guest.signal(session, "ice-candidate", payload).await;
    }
    let mut refused = 0;
    guest.send(r#"{"type":"heartbeat","id":77}"#).await;
    loop {
        let message = guest.message().await;
        match message["code"].as_str() {
            Some("rate-limited") => refused += 1,
            _ if message["id"] == 77 => return refused,
            _ => panic!("{message}"),
        }
    }
}

/// Whether a connection of the user is admitted; it ends at once.
async fn is_admitted(node: &Node, name: &str) -> bool {
    let mut guest = Guest::connect(node, name);
    guest.send(r#"{"type":"heartbeat","id":1}"#).await;
    match guest.next().await {
        Received::Text(_) => true,
        Received::Closed(Some(close)) if close.code == 4429 => false,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_goes_on_with_the_limit_of_the_last_one() {
    let node = Deployment::new().node().await;
    let (mut ann, mut bob, session) = matched(&node, &node).await;
    assert_eq!(say(&mut ann, &session, 195, "c").await, 0);
    // It is replaced; and once more after its end.
    for _ in 0..2 {
        let old = ann;
        ann = Guest::connect(&node, "ann");
        ann.expect_match(&session, "bob", true).await;
        drop(old);
        assert!(say(&mut ann, &session, 195, "c").await >= 190);
        ann.send(r#"{"type":"heartbeat"}"#).await;
        drop(ann);
        time::sleep(Duration::from_millis(1)).await;
        ann = Guest::connect(&node, "ann");
        ann.expect_match(&session, "bob", true).await;
        time::sleep(Duration::from_secs(60)).await;
        while time::timeout(Duration::from_millis(1), bob.next()).await.is_ok() {}
        assert_eq!(say(&mut ann, &session, 195, "c").await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn signals_beyond_the_bytes_of_a_user_are_refused_to_it_and_harm_nobody() {
    let node = Deployment::new().node().await;
    let (mut ann, mut bob, session) = matched(&node, &node).await;
    let mut cat = Guest::connect(&node, "cat");
    let other = node.relay.open_session(&user("bob"), &user("cat")).await.unwrap();
    bob.expect_match(&other, "cat", true).await;
    cat.expect_match(&other, "bob", false).await;
    assert_eq!(say(&mut ann, &session, 40, &"c".repeat(60_000)).await, 32);
    for _ in 0..8 {
        assert_eq!(bob.message().await["type"], "ice-candidate");
    }
    bob.expect_nothing().await;
    cat.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_user_that_reconnects_over_and_over_is_refused_and_its_partner_left_alone() {
    let node = Deployment::new().node().await;
    let mut events = node.relay.events();
    let (ann, mut bob, _) = matched(&node, &node).await;
    drop(ann);
    let mut admitted = 0;
    for _ in 0..500 {
        admitted += usize::from(is_admitted(&node, "ann").await);
    }
    assert_eq!(admitted, 19);
    // Those of others are not.
    assert!(is_admitted(&node, "cat").await);
    let mut told = 0;
    while time::timeout(Duration::from_millis(10), bob.next()).await.is_ok() {
        told += 1;
    }
    assert!(told <= 2 * admitted + 1, "{told}");
    time::sleep(Duration::from_millis(200)).await;
    assert!(!is_admitted(&node, "ann").await);
    let (mut refused, mut events_of_it) = (0, 0);
    while let Ok(event) = time::timeout(Duration::from_millis(1), events.next()).await {
        if let Ok(Some(Event::ConnectionRefused { reason, suppressed, .. })) = event {
            assert_eq!(reason, DisconnectReason::RateLimited);
            (refused, events_of_it) = (refused + 1 + suppressed, events_of_it + 1);
        }
    }
    assert_eq!(refused, 501 - 19, "each is counted");
    assert!((2..50).contains(&events_of_it), "{events_of_it}");
    time::sleep(Duration::from_secs(3)).await;
    assert!(is_admitted(&node, "ann").await);
}

#[tokio::test(start_paused = true)]
async fn connections_that_do_not_answer_their_close_count_until_they_are_gone() {
    let node = Deployment::with(|config| config.max_connections = Some(2)).node().await;
    let mut silent = Vec::new();
    for name in ["ann", "bob"] {
        let (server, client) = wire(16);
        let relay = node.relay.clone();
        let identity = Identity::new(user(name));
        tokio::spawn(async move { relay.serve(server, identity).await });
        silent.push(client);
    }
    time::sleep(Duration::from_millis(1)).await;
    for name in ["ann", "bob"] {
        node.relay.disconnect(&user(name), Default::default()).await.unwrap();
    }
    time::sleep(Duration::from_millis(100)).await;
    assert_eq!(node.relay.connections(), 0);
    Guest::connect(&node, "cat").expect_close(4503).await;
    time::sleep(Duration::from_secs(2)).await;
    Guest::connect(&node, "cat").settled().await;
}

#[tokio::test(start_paused = true)]
async fn signals_are_kept_up_to_a_total_for_all_sessions_of_a_connection() {
    let node = Deployment::with(|config| config.max_kept_signals = 10).node().await;
    let mut ann = Guest::connect(&node, "ann");
    let mut sessions = Vec::new();
    for partner in ["bob", "cat", "dan"] {
        let session = node.relay.open_session(&user("ann"), &user(partner)).await.unwrap();
        ann.expect_match(&session, partner, true).await;
        sessions.push(session);
    }
    for session in &sessions {
        for _ in 0..4 {
            ann.signal(session, "ice-candidate", "c").await;
        }
    }
    for _ in 0..2 {
        ann.expect("error partner-absent").await;
    }
    ann.settled().await;
    let mut cat = Guest::connect(&node, "cat");
    cat.expect_match(&sessions[1], "ann", false).await;
    for _ in 0..4 {
        cat.expect("ice-candidate c").await;
    }
    cat.settled().await;
}
