use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::{Nodes, node, support::Server, waiting};

#[tokio::test]
async fn two_users_on_two_nodes_have_a_call() {
    let nodes = Nodes::start().await;
    let [one, two] = &nodes.nodes;
    let (mut ann, mut bob) = (one.connect("ann").await, two.connect("bob").await);
    let answer = nodes.enter(0, "ann").await;
    assert_eq!((answer.status, answer.json()), waiting());
    let answer = nodes.enter(1, "bob").await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id = answer.json()["sessionId"].as_str().unwrap().to_owned();
    let found = |partner: &str, is_initiator: bool| json!({"type": "match-found", "sessionId": id, "partnerId": partner, "isInitiator": is_initiator});
    assert_eq!(ann.next().await, found("bob", true));
    assert_eq!(bob.next().await, found("ann", false));

    for (kind, field, value) in [
        ("offer", "sdp", json!("v=0 offer")),
        ("ice-candidate", "candidate", json!({"candidate": "candidate:1", "sdpMLineIndex": 0})),
        ("ice-candidate", "candidate", Value::Null),
    ] {
        let signal = json!({"type": kind, "sessionId": id, field: value});
        ann.send(&signal).await;
        assert_eq!(bob.next().await, signal);
    }
    let signal = json!({"type": "answer", "sessionId": id, "sdp": "v=0 answer"});
    bob.send(&signal).await;
    assert_eq!(ann.next().await, signal);

    // Any node answers for all.
    let session = one.api("GET", &format!("/api/sessions/{id}"), None).await.json();
    assert_eq!(session["status"], "active");
    assert_eq!(session, two.api("GET", &format!("/api/sessions/{id}"), None).await.json());
    let on = |field| nodes.redis.cli(&["hget", &format!("session:active:{id}"), field]);
    assert!(on("participant1Ws").starts_with("one."), "{}", on("participant1Ws"));
    assert!(on("participant2Ws").starts_with("two."), "{}", on("participant2Ws"));

    let gone = two.api("DELETE", "/api/users/ann/connection", None).await;
    assert_eq!(gone.status, 204);
    assert_eq!(ann.closed().await, 1000);
    assert_eq!(bob.next().await, json!({"type": "partner-disconnected", "sessionId": id}));
}

#[tokio::test]
async fn who_comes_back_to_another_node_goes_on_there() {
    let nodes = Nodes::start().await;
    let [one, two] = &nodes.nodes;
    let body = json!({"initiatorId": "ann", "partnerId": "bob", "sessionId": "s"});
    assert_eq!(one.api("POST", "/api/sessions", Some(body.clone())).await.status, 201);
    assert_eq!(two.api("POST", "/api/sessions", Some(body)).await.status, 200);
    let (mut ann, mut bob) = (one.connect("ann").await, two.connect("bob").await);
    assert_eq!(ann.next().await["type"], "match-found");
    assert_eq!(bob.next().await["type"], "match-found");

    let mut again = two.connect("ann").await;
    assert_eq!(ann.closed().await, 4409);
    assert_eq!(bob.next().await["type"], "partner-disconnected");
    for (client, partner) in [(&mut again, "bob"), (&mut bob, "ann")] {
        let found = client.next().await;
        assert_eq!((&found["type"], &found["partnerId"]), (&json!("match-found"), &json!(partner)));
    }
}

/// The page's own queue is shared as well.
#[tokio::test]
async fn visitors_of_two_nodes_meet() {
    let nodes = Nodes::start_on(signaling_redis::testing::Server::start(), &["--dev"]).await;
    let mut visitors = Vec::new();
    for (node, name) in nodes.nodes.iter().zip(["ann", "bob"]) {
        let json_type = "Content-Type: application/json\r\n";
        let body = json!({"name": name}).to_string();
        let made = node.request("POST", "/demo/token", json_type, &body).await.json();
        let token = made["token"].as_str().unwrap().to_owned();
        visitors.push((node.connect_with(&token).await, token, made["userId"].clone()));
    }
    let enter = async |node: &Server, token: &str| {
        node.request("POST", "/demo/queue", &format!("Authorization: Bearer {token}\r\n"), "").await
    };
    assert_eq!(enter(&nodes.nodes[0], &visitors[0].1).await.status, 202);
    assert_eq!(enter(&nodes.nodes[1], &visitors[1].1).await.status, 201);
    let (ann, bob) = (visitors[0].2.clone(), visitors[1].2.clone());
    assert_eq!(visitors[0].0.next().await["partnerId"], bob);
    assert_eq!(visitors[1].0.next().await["partnerId"], ann);
}

/// A rolling restart: the users of the node that ends go to another one.
#[tokio::test]
async fn a_node_that_ends_hands_its_users_over() {
    let Nodes { redis, nodes: [one, two] } = Nodes::start().await;
    let body = json!({"initiatorId": "ann", "partnerId": "bob", "sessionId": "s"});
    assert_eq!(one.api("POST", "/api/sessions", Some(body)).await.status, 201);
    let (ann, mut bob) = (one.connect("ann").await, two.connect("bob").await);
    assert_eq!(bob.next().await["type"], "match-found");
    one.signal("TERM").await;
    assert_eq!(ann.closed().await, 1001);
    assert_eq!(one.ended().await.0, 0);
    let told = Instant::now();
    assert_eq!(bob.next().await["type"], "partner-disconnected");
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());

    let three = node(&redis.url(), &["--node-id", "three"]).await;
    let mut ann = three.connect("ann").await;
    assert_eq!(ann.next().await["isInitiator"], true);
    assert_eq!(bob.next().await["isInitiator"], false);
}
