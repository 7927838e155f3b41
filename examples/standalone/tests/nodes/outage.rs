use std::{process::Stdio, time::Duration};

use futures::future::join_all;
use serde_json::json;
use signaling_core::{frame::CloseCode, testing::client::Dial};
use signaling_redis::testing::Server as Redis;
use tokio::time::{Instant, sleep};

use crate::{
    Nodes,
    support::{KEYS, PATIENCE, Server, Unread, command, reserve_address, token},
    waiting,
};

/// Until a request is answered: as long as one call to Redis may take, and a slow machine.
const ANSWERED: Duration = Duration::from_millis(2_500);
/// From the return of Redis until all is well.
const HEALED: Duration = Duration::from_secs(2);

async fn is_ready(node: &Server) -> bool {
    match node.request("GET", "/readyz", "", "").await {
        answer if answer.status == 200 => true,
        answer => {
            assert_eq!(answer.error(), (503, "unavailable".to_owned()));
            false
        }
    }
}

/// Until both nodes are, or are not; how long it took.
async fn until_ready(nodes: &Nodes, ready: bool, at_most: Duration) -> Duration {
    let start = Instant::now();
    for node in &nodes.nodes {
        while is_ready(node).await != ready {
            assert!(start.elapsed() < at_most, "not {ready} within {at_most:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    start.elapsed()
}

/// What cannot be done is answered, in time.
async fn all_is_unavailable(nodes: &Nodes) {
    let unavailable = (503, "unavailable".to_owned());
    let pair = json!({"initiatorId": "x", "partnerId": "y"});
    let asks = [
        ("POST", "/api/sessions", Some(pair)),
        ("GET", "/api/sessions/s", None),
        ("POST", "/api/queue", Some(json!({"userId": "bob"}))),
        ("POST", "/api/queue", Some(json!({"userId": "bob"}))),
        ("POST", "/api/queue", Some(json!({"userId": "cy"}))),
        ("DELETE", "/api/queue/ann", None),
        ("DELETE", "/api/users/ann/connection", None),
    ];
    let asked = nodes.nodes.iter().flat_map(|node| asks.iter().map(move |ask| (node, ask)));
    let unavailable = &unavailable;
    let answers = asked.map(|(node, (method, path, body))| async move {
        let start = Instant::now();
        let answer = node.api(method, path, body.clone()).await;
        assert_eq!(answer.error(), *unavailable, "{method} {path}");
        assert!(start.elapsed() < ANSWERED, "{method} {path}: {:?}", start.elapsed());
        assert_eq!(node.request("GET", "/healthz", "", "").await.status, 200);
    });
    join_all(answers).await;
    let closed = nodes.nodes.iter().map(|node| async {
        let url = format!("ws://{}/ws/signaling", node.address);
        let mut client = Dial::to(url).named("dan").query_token(&token("dan")).connect().await;
        client.expect_close(CloseCode::Unavailable).await;
    });
    join_all(closed).await;
}

/// Who waited before is matched, once; who asked meanwhile asks again.
async fn all_is_well(nodes: &Nodes) {
    // Those who asked in vain are not in the line, and would be behind `ann` if they were.
    let answer = nodes.enter(1, "bob").await;
    assert_eq!(answer.json()["partnerId"], "ann", "{}", answer.body);
    assert_eq!(nodes.waiting(), (0, 0));
    let answer = nodes.enter(0, "cy").await;
    assert_eq!((answer.status, answer.json()), waiting());
    let partners = nodes.partners();
    assert_eq!(partners.len(), 2, "no other sessions: {partners:?}");
    assert_eq!((&*partners["ann"], &*partners["bob"]), (&["bob".into()][..], &["ann".into()][..]));
}

#[tokio::test]
async fn a_redis_that_is_frozen_is_said_and_survived() {
    let nodes = Nodes::start().await;
    let (ann, dora) = (nodes.nodes[0].connect("ann").await, nodes.nodes[0].connect("dora").await);
    let answer = nodes.enter(0, "ann").await;
    assert_eq!((answer.status, answer.json()), waiting());

    nodes.redis.freeze();
    // Before anybody knows, and when everybody does.
    all_is_unavailable(&nodes).await;
    let noticed = until_ready(&nodes, false, Duration::from_secs(8)).await;
    all_is_unavailable(&nodes).await;
    nodes.redis.thaw();
    let healed = until_ready(&nodes, true, HEALED).await;
    println!("noticed after {noticed:?}, healed after {healed:?}");
    all_is_well(&nodes).await;
    drop((ann, dora));
}

#[tokio::test]
async fn a_redis_that_is_down_is_said_and_survived() {
    // What it is told is on its disk before it answers.
    let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut nodes = Nodes::start_on(redis, &[]).await;
    let answer = nodes.enter(0, "ann").await;
    assert_eq!((answer.status, answer.json()), waiting());

    nodes.redis.kill();
    all_is_unavailable(&nodes).await;
    let noticed = until_ready(&nodes, false, Duration::from_secs(8)).await;
    all_is_unavailable(&nodes).await;
    nodes.redis.restart();
    let healed = until_ready(&nodes, true, HEALED).await;
    println!("noticed after {noticed:?}, healed after {healed:?}");
    all_is_well(&nodes).await;
}

/// Both halves of a pair are in Redis when it goes away before their session is open.
#[tokio::test]
async fn a_pair_that_an_outage_left_behind_is_matched_by_itself_and_once() {
    let nodes = Nodes::start().await;
    let mut ann = nodes.nodes[0].connect("ann").await;
    // A node that died between the two: its pair is all that is left of it.
    let pair = json!({
        "session": "left-behind", "users": ["ann", "bob"], "till": "1",
        "arrivals": ["1", "2"], "patience": ["99999999999999", "99999999999999"], "asks": ["all", "all"],
    });
    let start = Instant::now();
    nodes.redis.cli(&["hset", "matching:{api}:pairs", "dead", &pair.to_string()]);
    let found = ann.next().await;
    assert!(start.elapsed() < HEALED, "{:?}", start.elapsed());
    assert_eq!(found["sessionId"], "left-behind");
    let mut bob = nodes.nodes[1].connect("bob").await;
    assert_eq!(bob.next().await["sessionId"], "left-behind");
    while nodes.waiting() != (0, 0) {
        assert!(start.elapsed() < HEALED);
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(nodes.partners().len(), 2);
}

/// An empty Redis has forgotten who waited: whoever asks again is in line again.
#[tokio::test]
async fn a_redis_that_comes_back_empty_starts_a_new_line() {
    let mut nodes = Nodes::start().await;
    let answer = nodes.enter(0, "ann").await;
    assert_eq!((answer.status, answer.json()), waiting());
    nodes.redis.kill();
    nodes.redis.restart();
    until_ready(&nodes, true, HEALED).await;
    let answer = nodes.enter(1, "bob").await;
    assert_eq!((answer.status, answer.json()), waiting());
    let answer = nodes.enter(0, "ann").await;
    assert_eq!(answer.json()["partnerId"], "bob");
}

/// The log of an outage goes nowhere, and everything works again after it.
#[tokio::test]
async fn an_outage_is_survived_by_nodes_whose_log_nobody_can_read() {
    let kinds = [Unread::Gone, Unread::Stuck];
    join_all(kinds.map(|unread| async move {
        let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let ((one, _keep_one), (two, _keep_two)) =
            (Unread::stdio(Some(unread)), Unread::stdio(Some(unread)));
        let nodes = [silent_node(&redis.url(), one).await, silent_node(&redis.url(), two).await];
        let mut nodes = Nodes { redis, nodes };
        let answer = nodes.enter(0, "ann").await;
        assert_eq!((answer.status, answer.json()), waiting());
        nodes.redis.kill();
        until_ready(&nodes, false, Duration::from_secs(8)).await;
        nodes.redis.restart();
        until_ready(&nodes, true, HEALED).await;
        all_is_well(&nodes).await;

        let [one, two] = &nodes.nodes;
        let (mut eve, mut fay) = (one.connect("eve").await, two.connect("fay").await);
        let pair = json!({"initiatorId": "eve", "partnerId": "fay", "sessionId": "after"});
        assert_eq!(two.api("POST", "/api/sessions", Some(pair)).await.status, 201);
        assert_eq!(eve.next().await["sessionId"], "after");
        assert_eq!(fay.next().await["sessionId"], "after");
        eve.send(&json!({"type": "offer", "sessionId": "after", "sdp": "v=0"})).await;
        assert_eq!(fay.next().await["sdp"], "v=0");
        fay.send(&json!({"type": "heartbeat"})).await;
        let start = Instant::now();
        while two.api("GET", "/api/sessions/after", None).await.json()["participants"][1]
            ["lastHeartbeat"]
            .is_null()
        {
            assert!(start.elapsed() < PATIENCE, "heartbeats are written again");
            sleep(Duration::from_millis(20)).await;
        }
        for node in &nodes.nodes {
            node.signal("TERM").await;
        }
        assert_eq!(futures::join!(eve.closed(), fay.closed()), (1001, 1001));
        for node in nodes.nodes {
            assert_eq!(node.ended().await.0, 0);
        }
    }))
    .await;
}

async fn silent_node(url: &str, stderr: Stdio) -> Server {
    let (_reserved, listen) = reserve_address();
    let env =
        [&KEYS[..], &[("SIGNALING_REDIS_URL", url), ("SIGNALING_DRAIN_DELAY", "0s")]].concat();
    let mut command = command(&["--listen", &listen], &env);
    command.stdout(Stdio::null()).stderr(stderr);
    Server::start_silent(command, &listen).await
}
