//! Why a partner is gone, as clients that negotiated `signaling.v1` are told: on one node and across
//! two.

use std::time::Duration;

use signaling_core::{
    Relay,
    auth::Identity,
    event::Event,
    frame::CloseReason,
    id::SessionId,
    reason::DisconnectReason,
    testing::{
        fault::Trouble,
        guest::Guest,
        wire::{self, Received},
    },
};

use tokio::time;

use crate::harness::{Deployment, Node, user};

/// Ann on one node; Bob is to come on the same, and then on another.
struct Place {
    ann: Guest,
    near: Relay,
    far: Relay,
    session: SessionId,
}

impl Place {
    /// Bob is connected, and both know of each other.
    async fn bob(&mut self) -> Guest {
        let mut bob = Guest::connect(&self.far, "bob");
        bob.expect_match(&self.session, "ann", false).await;
        self.ann.expect_match(&self.session, "bob", true).await;
        bob
    }

    async fn told(&mut self, reason: &str) {
        self.ann.expect(&format!("partner-disconnected {reason}")).await;
    }
}

/// Plays `case` with both on one node, and with both on nodes of their own.
async fn near_and_far(case: impl AsyncFn(Place)) {
    for nodes in [1, 2] {
        let deployment = Deployment::new();
        let near = deployment.node().await.relay;
        let far = if nodes == 1 { near.clone() } else { deployment.node().await.relay };
        let mut ann = Guest::connect_v1(&near, "ann");
        let session = near.open_session(&user("ann"), &user("bob")).await.unwrap();
        ann.expect_match(&session, "bob", true).await;
        let mut bob = Guest::connect(&far, "bob");
        bob.expect_match(&session, "ann", false).await;
        drop(bob);
        ann.expect("partner-disconnected lost").await;
        case(Place { ann, near, far, session }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_closes_or_hangs_up_has_left() {
    near_and_far(async |mut place| {
        drop(place.bob().await);
        place.told("lost").await;
        let (server, client) = wire::wire(16);
        let relay = place.far.clone();
        tokio::spawn(async move { relay.serve(server, Identity::new(user("bob"))).await });
        place.ann.expect_match(&place.session, "bob", true).await;
        client.close().await;
        place.told("left").await;
        let bob = place.bob().await;
        bob.send(format!(r#"{{"type":"leave","sessionId":"{}"}}"#, place.session)).await;
        place.told("left").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_falls_silent_timed_out() {
    near_and_far(async |mut place| {
        let mut quiet = Guest::connect_quiet(&place.far, "bob");
        quiet.expect_match(&place.session, "ann", false).await;
        place.ann.expect_match(&place.session, "bob", true).await;
        place.told("timeout").await;
        quiet.expect_close(4408).await;
        // A client from which nothing comes, not even pongs.
        let (server, _client) = wire::wire(16);
        let relay = place.far.clone();
        tokio::spawn(async move { relay.serve(server, Identity::new(user("bob"))).await });
        place.ann.expect_match(&place.session, "bob", true).await;
        place.told("timeout").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_never_comes_timed_out() {
    let node = Deployment::new().node().await;
    let mut ann = Guest::connect_v1(&node, "ann");
    let session = node.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    ann.expect("partner-disconnected timeout").await;
    assert_eq!(node.relay.session(&session).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_partner_on_a_newer_connection_was_replaced() {
    near_and_far(async |mut place| {
        let _old = place.bob().await;
        for relay in [place.near.clone(), place.far.clone()] {
            let mut newer = Guest::connect(&relay, "bob");
            newer.expect_match(&place.session, "ann", false).await;
            place.told("replaced").await;
            place.ann.expect_match(&place.session, "bob", true).await;
            std::mem::forget(newer);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_host_ends_has_ended() {
    near_and_far(async |mut place| {
        let _bob = place.bob().await;
        let said = CloseReason::new("enough").unwrap();
        assert!(place.near.disconnect(&user("bob"), said.clone()).await.unwrap());
        place.told("ended").await;
        let _bob = place.bob().await;
        assert!(place.far.close_session(&place.session, said).await.unwrap());
        place.told("ended").await;
        place.ann.expect_nothing().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_partner_whose_node_dies_or_shuts_down_is_lost() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let mut ann = Guest::connect_v1(&a, "ann");
    let session = a.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    let mut bob = Guest::connect(&b, "bob");
    bob.expect_match(&session, "ann", false).await;
    b.kill();
    ann.expect("partner-disconnected lost").await;
    let c: Node = deployment.node().await;
    let _bob = Guest::connect(&c, "bob");
    ann.expect_match(&session, "bob", true).await;
    let _ = c.relay.shutdown(Duration::from_secs(5)).await;
    ann.expect("partner-disconnected lost").await;
    ann.expect_nothing().await;
}

/// All that the bus brings is lost; a look-up finds out, and the record says why.
#[tokio::test(start_paused = true)]
async fn a_reason_outlives_the_news_of_it() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let mut ann = Guest::connect_v1(&a, "ann");
    let session = a.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    let (server, mut bob) = wire::wire(16);
    let relay = b.relay.clone();
    tokio::spawn(async move { relay.serve(server, Identity::new(user("bob"))).await });
    assert!(matches!(bob.receive().await, Received::Text(_)), "his match");
    let mut lossy = Trouble::NONE;
    lossy.losses = 1.0;
    a.faults.set(lossy);
    bob.close().await;
    ann.expect("partner-disconnected left").await;
    let record = a.relay.session(&session).await.unwrap().unwrap();
    assert_eq!(record.participants[1].connection(), None);
}

#[tokio::test(start_paused = true)]
async fn who_left_without_hearing_of_it_is_not_told_that_its_partner_did() {
    let node = Deployment::new().node().await;
    let mut failing = Trouble::NONE;
    failing.failures = 1.0;
    let mut ended = 0;
    for _ in 0..20 {
        let (mut ann, mut bob) = (Guest::connect_v1(&node, "ann"), Guest::connect_v1(&node, "bob"));
        let session = node.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
        ann.expect_match(&session, "bob", true).await;
        bob.expect_match(&session, "ann", false).await;
        node.faults.set(failing);
        ann.send(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)).await;
        ann.expect("error unavailable").await;
        node.faults.set(Trouble::NONE);
        if node.relay.session(&session).await.unwrap().is_none() {
            ended += 1;
            ann.expect("partner-disconnected ended").await;
            bob.expect("partner-disconnected left").await;
        }
        drop((ann, bob));
        node.relay.close_session(&session, CloseReason::default()).await.unwrap();
    }
    assert!(ended > 0);
}

/// Ann's node is busy with her when she leaves, and learns from Bob's node that he takes her for present.
#[tokio::test(start_paused = true)]
async fn what_else_is_done_for_a_connection_does_not_change_why_it_ended() {
    for round in 0..40 {
        let deployment = Deployment::new();
        let (a, b) = (deployment.node().await, deployment.node().await);
        let (server, ann) = wire::wire(16);
        let relay = a.relay.clone();
        tokio::spawn(async move { relay.serve(server, Identity::new(user("ann"))).await });
        let mut bob = Guest::connect(&b, "bob");
        bob.settled().await;
        let session = a.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
        bob.expect_match(&session, "ann", false).await;
        let mut events = a.relay.events();
        let mut trouble = Trouble::NONE;
        (trouble.delay, trouble.losses) = (Duration::from_secs(1), 1.0);
        a.faults.set(trouble);
        bob.signal(&session, "ice-candidate", "lost").await;
        time::sleep(Duration::from_millis(50 * round)).await;
        trouble.losses = 0.0;
        a.faults.set(trouble);
        ann.close().await;
        let _bob = Guest::connect(&b, "bob");
        let mut told = 0;
        while told < 2 {
            let event = time::timeout(Duration::from_secs(60), events.next()).await;
            match event.expect("an event").unwrap().unwrap() {
                Event::UserDisconnected { user, reason, .. }
                | Event::ParticipantDisconnected { user, reason, .. }
                    if user.as_str() == "ann" =>
                {
                    assert_eq!(reason, DisconnectReason::Left, "round {round}");
                    told += 1;
                }
                _ => {}
            }
        }
    }
}
