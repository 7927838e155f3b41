//! Tokens that the host revokes, on any node, and what becomes of their connections.

use std::time::Duration;

use signaling_core::{
    auth::{Client, Identity},
    protocol::Dialect,
    reason::DisconnectReason,
    testing::{fault::Trouble, wire},
    time::Timestamp,
};
use tokio::time::{self, Instant};

use crate::harness::{Deployment, Guest, Node, user};

/// A client of `name` with a token that was issued at that second; none if the token does not say so.
fn connect(node: &Node, name: &str, issued_at: Option<u64>) -> Guest {
    let mut identity = Identity::new(user(name));
    identity.issued_at = issued_at.map(at);
    Guest::connect_as(&node.relay, Client::new(identity).speaking(Dialect::V1))
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

#[tokio::test(start_paused = true)]
async fn who_is_revoked_is_closed_on_any_node_and_does_not_come_back() {
    let deployment = Deployment::new();
    let (a, b, c) = (deployment.node().await, deployment.node().await, deployment.node().await);
    let (mut ann, mut bob) = (connect(&b, "ann", Some(10)), connect(&c, "bob", Some(10)));
    let session = a.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    let start = Instant::now();
    a.relay.revoke(&user("ann"), at(11)).await.unwrap();
    ann.expect_close(4403).await;
    bob.expect("partner-disconnected ended").await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    for node in [&a, &b, &c] {
        for issued_at in [None, Some(0), Some(10)] {
            connect(node, "ann", issued_at).expect_close(4403).await;
        }
    }
    let mut ann = connect(&c, "ann", Some(11));
    ann.expect_match(&session, "bob", true).await;
    // An earlier revocation changes nothing.
    b.relay.revoke(&user("ann"), at(5)).await.unwrap();
    ann.settled().await;
    connect(&a, "ann", Some(10)).expect_close(4403).await;
    // One that is refused has replaced nobody.
    ann.settled().await;
    b.relay.revoke(&user("ann"), at(12)).await.unwrap();
    ann.expect_close(4403).await;
}

#[tokio::test(start_paused = true)]
async fn the_host_sees_why_a_revoked_connection_ended() {
    let node = Deployment::new().node().await;
    let (server, _client) = wire::wire(16);
    let relay = node.relay.clone();
    let served = tokio::spawn(async move { relay.serve(server, Identity::new(user("ann"))).await });
    time::sleep(Duration::from_millis(1)).await;
    node.relay.revoke(&user("ann"), at(1)).await.unwrap();
    assert_eq!(served.await.unwrap(), DisconnectReason::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_found_out_where_the_news_of_it_is_lost() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let mut ann = connect(&b, "ann", Some(10));
    ann.settled().await;
    let mut lossy = Trouble::NONE;
    lossy.losses = 1.0;
    b.faults.set(lossy);
    a.relay.revoke(&user("ann"), at(11)).await.unwrap();
    ann.expect_close(4403).await;
}

#[tokio::test(start_paused = true)]
async fn a_revocation_outlives_a_loss_of_the_store() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    a.relay.revoke(&user("ann"), at(11)).await.unwrap();
    deployment.store.lose_everything();
    time::sleep(Duration::from_secs(1)).await;
    connect(&b, "ann", Some(10)).expect_close(4403).await;
    connect(&b, "ann", Some(11)).settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_revocation_ends_with_its_time() {
    let deployment =
        Deployment::with(|config| config.revocation_lifetime = Duration::from_secs(60));
    let node = deployment.node().await;
    node.relay.revoke(&user("ann"), at(11)).await.unwrap();
    time::sleep(Duration::from_secs(59)).await;
    connect(&node, "ann", Some(10)).expect_close(4403).await;
    time::sleep(Duration::from_secs(2)).await;
    connect(&node, "ann", Some(10)).settled().await;
}
