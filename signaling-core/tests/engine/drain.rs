//! Nodes that are about to end, and move their clients to others.

use std::time::Duration;

use signaling_core::{
    Relay,
    auth::{Client, Identity},
    protocol::{Continue, Dialect},
    relay::{RelayBuilder, SecondConnection},
};
use tokio::time::{self, Instant};

use crate::harness::{Deployment, Guest, user};

const DELAY: Duration = Duration::from_secs(5);
const OVER: Duration = Duration::from_secs(10);

fn drain(relay: &Relay) -> tokio::task::JoinHandle<Duration> {
    let relay = relay.clone();
    tokio::spawn(async move {
        let start = Instant::now();
        relay.drain(DELAY, OVER).await;
        start.elapsed()
    })
}

#[tokio::test(start_paused = true)]
async fn for_a_while_a_draining_node_is_not_ready_and_serves_all_the_same() {
    let node = Deployment::new().node().await;
    let (mut ann, mut bob) = (Guest::connect(&node, "ann"), Guest::connect(&node, "bob"));
    assert!(node.relay.is_ready());
    let draining = drain(&node.relay);
    time::sleep(DELAY - Duration::from_millis(1)).await;
    assert!(!node.relay.is_ready());
    let session = node.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    let mut cat = Guest::connect(&node, "cat");
    cat.settled().await;
    // After that, nobody new comes, and who is here goes one after the other.
    ann.expect_close(1001).await;
    let mut late = Guest::connect(&node, "late");
    late.expect_close(1001).await;
    bob.expect("partner-disconnected").await;
    bob.expect_close(1001).await;
    cat.expect_close(1001).await;
    // A third of four fifths of the time each, and the first at once.
    assert_eq!(
        draining.await.unwrap().as_millis() / 100,
        (DELAY + OVER * 8 / 15).as_millis() / 100
    );
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_to_move_evenly() {
    let node = Deployment::new().node().await;
    let mut clients: Vec<_> =
        (0..8).map(|n| Guest::connect_v1(&node, &format!("user-{n}"))).collect();
    for client in &mut clients {
        client.settled().await;
    }
    let draining = drain(&node.relay);
    for (client, after) in clients.iter_mut().zip((0..).step_by(1000)) {
        let told = serde_json::json!({"type": "move", "afterMs": after});
        assert_eq!(client.message().await, told);
    }
    // They stay, and are waited for.
    assert_eq!(draining.await.unwrap(), DELAY + OVER);
    assert_eq!(node.relay.connections(), 8);
    let _ = node.relay.shutdown(Duration::from_secs(5)).await;
    clients[0].expect_close(1001).await;
}

#[tokio::test(start_paused = true)]
async fn partners_of_clients_that_move_are_told_nothing() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob) = (Guest::connect_v1(&a, "ann"), Guest::connect_v1(&b, "bob"));
    let session = a.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    let negotiation = ann.expect_match(&session, "bob", true).await.unwrap().parse().unwrap();
    bob.expect_match(&session, "ann", false).await;
    let draining = drain(&a.relay);
    ann.expect("move").await;
    let named = vec![Continue { session, negotiation, seq: 0 }];
    let client = Client::new(Identity::new(user("ann"))).speaking(Dialect::V1).continuing(named);
    let mut newer = Guest::connect_as(&b.relay, client);
    newer.expect("continued").await;
    ann.expect_close(4409).await;
    let took = draining.await.unwrap();
    assert!(took < DELAY + Duration::from_secs(1), "{took:?}");
    let _ = a.relay.shutdown(Duration::from_secs(5)).await;
    bob.expect("received").await;
    bob.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn where_second_connections_are_refused_idle_clients_are_closed_in_their_time() {
    let refusing = |builder: RelayBuilder| builder.second_connection(SecondConnection::Refuse);
    let node = Deployment::new().node_with(refusing).await;
    let (mut ann, mut bob) = (Guest::connect_v1(&node, "ann"), Guest::connect_v1(&node, "bob"));
    let mut idle = Guest::connect_v1(&node, "idle");
    let session = node.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    idle.settled().await;
    let draining = drain(&node.relay);
    ann.expect("move").await;
    bob.expect("move").await;
    idle.expect_close(1001).await;
    draining.await.unwrap();
}
