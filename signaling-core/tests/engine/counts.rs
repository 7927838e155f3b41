//! What a host may count, and a user's sessions.

use std::time::Duration;

use signaling_core::{
    frame::CloseReason,
    id::SessionId,
    relay::{NewSession, OpenError},
    store::{Counts, SessionStore},
};
use tokio::time;

use crate::harness::{Deployment, Guest, Node, matched, user};

fn counts(connections: u64, sessions: u64) -> Counts {
    Counts { connections, sessions }
}

/// What both nodes say, after the time that it takes them to say it at most.
async fn in_all(nodes: [&Node; 2]) -> Counts {
    time::sleep(Duration::from_secs(6)).await;
    let all = nodes[0].relay.counts().await.unwrap();
    assert_eq!(nodes[1].relay.counts().await.unwrap(), all);
    all
}

#[tokio::test(start_paused = true)]
async fn each_session_counts_once_while_anybody_is_there() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let here = || [&a, &b].map(|node| node.relay.counts_here());
    assert_eq!(in_all([&a, &b]).await, counts(0, 0));
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    let (mut cat, mut dan) = (Guest::connect(&b, "cat"), Guest::connect(&b, "dan"));
    let second = a.relay.open_session(&user("cat"), &user("dan")).await.unwrap();
    cat.expect_match(&second, "dan", true).await;
    dan.expect_match(&second, "cat", false).await;
    // One in which nobody is there.
    let third = a.relay.open_session(&user("eve"), &user("fay")).await.unwrap();
    assert_eq!(here(), [counts(1, 1), counts(3, 1)]);
    assert_eq!(in_all([&a, &b]).await, counts(4, 2));

    // Its responder counts it from then on.
    drop(ann);
    bob.expect("partner-disconnected").await;
    time::sleep(Duration::from_millis(10)).await;
    assert_eq!(here(), [counts(0, 0), counts(3, 2)]);
    assert_eq!(in_all([&a, &b]).await, counts(3, 2));
    ann = Guest::connect(&a, "ann");
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    let mut eve = Guest::connect(&a, "eve");
    eve.expect_match(&third, "fay", true).await;
    assert_eq!(here(), [counts(2, 2), counts(3, 1)]);
    assert_eq!(in_all([&a, &b]).await, counts(5, 3));

    cat.send(format!(r#"{{"type":"leave","sessionId":"{second}"}}"#)).await;
    dan.expect("partner-disconnected").await;
    cat.settled().await;
    assert!(b.relay.close_session(&session, CloseReason::default()).await.unwrap());
    bob.expect("partner-disconnected").await;
    ann.expect("partner-disconnected").await;
    assert_eq!(here(), [counts(2, 1), counts(3, 0)]);
    assert_eq!(in_all([&a, &b]).await, counts(5, 1));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_died_counts_until_its_lease_has_run_out() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (_ann, mut bob, _) = matched(&a, &b).await;
    assert_eq!(in_all([&a, &b]).await, counts(2, 1));
    a.kill();
    time::sleep(Duration::from_secs(5)).await;
    assert_eq!(b.relay.counts().await.unwrap(), counts(2, 1));
    bob.expect("partner-disconnected").await;
    // The last that its lease may have had, and what the survivor says after that.
    time::sleep(Duration::from_secs(6)).await;
    assert_eq!(b.relay.counts().await.unwrap(), counts(1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_nodes_own_share_is_always_current() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (ann, mut bob, _) = matched(&a, &a).await;
    assert_eq!(a.relay.counts().await.unwrap(), counts(2, 1));
    // The other one hears of it with the next lease.
    assert_eq!(b.relay.counts().await.unwrap(), counts(0, 0));
    assert_eq!(in_all([&a, &b]).await, counts(2, 1));
    let _cat = Guest::connect(&b, "cat");
    assert_eq!(in_all([&a, &b]).await, counts(3, 1));
    drop(ann);
    bob.expect("partner-disconnected").await;
    drop(bob);
    time::sleep(Duration::from_millis(10)).await;
    assert_eq!(a.relay.counts().await.unwrap(), counts(1, 0));
    assert_eq!(in_all([&a, &b]).await, counts(1, 0));
}

#[tokio::test(start_paused = true)]
async fn counts_need_the_store() {
    let node = Deployment::new().node().await;
    let _ann = Guest::connect(&node, "ann");
    time::sleep(Duration::from_millis(10)).await;
    node.faults.cut(true);
    assert!(node.relay.counts().await.is_err());
    assert!(node.relay.sessions_of(&user("ann")).await.is_err());
    assert_eq!(node.relay.counts_here(), counts(1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_users_sessions_are_known_on_every_node_the_oldest_first() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let of = async |node: &Node, name: &str| {
        let sessions = node.relay.sessions_of(&user(name)).await.unwrap();
        sessions.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    let mut opened = Vec::new();
    for partner in ["bob", "cat", "dan"] {
        opened.push(a.relay.open_session(&user(partner), &user("ann")).await.unwrap());
        time::sleep(Duration::from_millis(10)).await;
    }
    for node in [&a, &b] {
        assert_eq!(of(node, "ann").await, opened);
        assert_eq!(of(node, "cat").await, [opened[1].clone()]);
        assert_eq!(of(node, "nobody").await, []);
    }
    assert!(b.relay.close_session(&opened[1], CloseReason::default()).await.unwrap());
    assert_eq!(of(&b, "ann").await, [opened[0].clone(), opened[2].clone()]);
    // A membership that leads nowhere, as an opening that failed midway leaves it, is none.
    let stray = SessionId::new("stray").unwrap();
    let _ = deployment.store.join(&user("cat"), &stray, 8).await.unwrap();
    assert_eq!(of(&a, "cat").await, []);
    let conflict =
        a.relay.open(NewSession::between(&user("ann"), &user("bob")).id(&opened[0])).await;
    assert!(matches!(conflict, Err(OpenError::Conflict)));
    assert_eq!(of(&a, "bob").await, [opened[0].clone()]);
}
