//! Somebody else writes into our keys: what users see. The store's own test tries every field.

use std::time::Duration;

use signaling_core::{id::SessionId, testing::guest::Guest};
use signaling_redis::testing::Server;
use tokio::time;

use crate::harness::{Node, matched, now, pair, talk, until, user};

/// Within which a record is written again that is read and whose connections send heartbeats.
const LIMIT: Duration = Duration::from_secs(10);

fn spoil(server: &Server, key: &str, script: &str) {
    let done = server.cli(&["eval", script, "1", key]);
    assert!(!done.contains("ERR"), "{script}: {done}");
}

/// Scripts that make a session's record unreadable.
const RECORDS: [&str; 9] = [
    "redis.call('HSET', KEYS[1], 'revision', '?')",
    "redis.call('HSET', KEYS[1], 'revision', '007')",
    "redis.call('HSET', KEYS[1], 'opening', '')",
    "redis.call('HSET', KEYS[1], 'epoch1', '99999999999999999999')",
    r"redis.call('HSET', KEYS[1], 'participant2Ws', '\255:1')",
    "redis.call('HSET', KEYS[1], 'participant1Id', '')",
    "redis.call('HDEL', KEYS[1], 'negotiation1')",
    "redis.call('SET', KEYS[1], 'what')",
    "redis.call('DEL', KEYS[1]) redis.call('ZADD', KEYS[1], 1, 'what')",
];

async fn is_readable(node: &Node, session: &SessionId) -> bool {
    node.relay.session(session).await.is_ok_and(|record| record.is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_record_that_is_spoilt_under_a_call_is_written_again_and_nobody_notices() {
    let server = Server::start();
    let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    let key = format!("session:active:{session}");
    for script in RECORDS {
        let found = || a.redis.unreadable() + b.redis.unreadable();
        let before = found();
        spoil(&server, &key, script);
        talk(&mut ann, &mut bob, &session, "meanwhile").await;
        let started = now();
        while !is_readable(&b, &session).await {
            assert!(started.elapsed() < LIMIT, "{script}: unreadable for {:?}", started.elapsed());
            ann.settled().await;
            bob.settled().await;
            time::sleep(Duration::from_millis(200)).await;
        }
        assert!(found() > before, "{script}: not noticed");
        talk(&mut ann, &mut bob, &session, script.split('\'').nth(3).unwrap()).await;
        let left: i64 = server.cli(&["pttl", &key]).parse().unwrap();
        assert!(left > 60_000, "{script}: {left} ms");
    }
    for node in [&a, &b] {
        assert!(node.redis.unreadable() < 200, "{} were found", node.redis.unreadable());
    }
}

/// Waits until `match-found` has come for each of `sessions`, and then until nothing comes for a while.
async fn found(guest: &mut Guest, sessions: &[&SessionId], script: &str) {
    let (started, mut missing, mut heard) = (now(), sessions.to_vec(), Vec::new());
    loop {
        let quiet = Duration::from_millis(if missing.is_empty() { 300 } else { 2_000 });
        match time::timeout(quiet, guest.message()).await {
            Ok(message) => {
                let id = message["sessionId"].clone();
                missing.retain(|one| message["type"] != "match-found" || id != one.as_str());
                heard.push(message);
            }
            Err(_) if missing.is_empty() => return,
            Err(_) => {}
        }
        assert!(started.elapsed() < LIMIT, "{script}: not in {missing:?}: {heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_user_of_a_spoilt_session_comes_back_to_it_and_to_its_others() {
    for script in RECORDS {
        let server = Server::start();
        let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
        let (mut old, mut bob, spoilt) = matched(&a, &b).await;
        let mut eve = b.connect("eve");
        eve.settled().await;
        let other = b.relay.open_session(&user("ann"), &user("eve")).await.unwrap();
        old.expect_match(&other, "eve", true).await;
        eve.expect_match(&other, "ann", false).await;
        // Then each knows of the other.
        talk(&mut old, &mut eve, &other, "hello").await;
        spoil(&server, &format!("session:active:{spoilt}"), script);
        let mut ann = b.connect("ann");
        old.expect_close(4409).await;
        found(&mut eve, &[&other], script).await;
        // New ones work as well, and Bob's next heartbeat brings the spoilt one back.
        let new = a.relay.open_session(&user("ann"), &user("fay")).await.unwrap();
        bob.send(r#"{"type":"heartbeat"}"#).await;
        found(&mut ann, &[&other, &new, &spoilt], script).await;
        found(&mut bob, &[&spoilt], script).await;
        talk(&mut ann, &mut eve, &other, "back").await;
        talk(&mut ann, &mut bob, &spoilt, "back").await;
    }
}

/// Scripts that spoil a key of a node or of one of its users, of which the first argument is part.
const OF_A_NODE: [(&str, &str); 10] = [
    ("session:connections:NODE", "redis.call('SET', KEYS[1], 'what')"),
    ("session:connections:NODE", "redis.call('HSET', KEYS[1], '1', 'a b')"),
    ("session:connections:NODE", r"redis.call('HSET', KEYS[1], '1', '\255')"),
    ("session:connections:NODE", "redis.call('HSET', KEYS[1], 'what', 'ever')"),
    ("session:user:USER", "redis.call('SET', KEYS[1], 'what')"),
    ("session:user:USER", "redis.call('HSET', KEYS[1], 'connection', '?')"),
    ("session:user:USER", "redis.call('HSET', KEYS[1], 'session:a b', '?')"),
    ("session:{nodes}:leases", "redis.call('ZADD', KEYS[1], 1, 'a b')"),
    ("session:{nodes}:counts", "redis.call('SET', KEYS[1], 'what')"),
    ("session:deadlines", "redis.call('SET', KEYS[1], 'what')"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn partners_of_a_dead_node_are_told_whatever_its_keys_hold() {
    let server = Server::start();
    let survivor = Node::start_with_short_lease(&server.url()).await;
    let mut dead = Vec::new();
    for (n, (key, script)) in OF_A_NODE.iter().enumerate() {
        let node = Node::start_with_short_lease(&server.url()).await;
        let names = |what| [format!("{what}-{n}"), format!("{what}-partner-{n}")];
        let mut pairs = Vec::new();
        for names in [names("one"), names("other")] {
            let names = names.each_ref().map(String::as_str);
            pairs.push(pair(&node, &survivor, names).await);
        }
        let key = key.replace("NODE", node.relay.node_id().as_str());
        spoil(&server, &key.replace("USER", &format!("one-{n}")), script);
        // Nodes let new connections in.
        let mut newcomer = survivor.connect(&format!("newcomer-{n}"));
        newcomer.settled().await;
        dead.push((node, pairs, script, newcomer));
    }
    let killed = now();
    let mut partners = Vec::new();
    for (node, pairs, script, newcomer) in dead {
        node.kill();
        partners.extend(pairs.into_iter().map(|(_gone, partner, _)| (partner, script)));
        drop(newcomer);
    }
    for (mut partner, script) in partners {
        let told = time::timeout(Duration::from_secs(20), partner.message()).await;
        let told = told.unwrap_or_else(|_| panic!("never told: {script}"));
        assert_eq!(told["type"], "partner-disconnected", "{script}");
    }
    println!("the last was told after {:?}", killed.elapsed());
    let forgotten = async || server.cli(&["zcard", "session:{nodes}:leases"]) == "1";
    until("the dead nodes are forgotten", forgotten).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn partners_of_a_node_that_died_are_told_also_when_the_leases_are_spoilt() {
    let server = Server::start();
    let survivor = Node::start_with_short_lease(&server.url()).await;
    let node = Node::start_with_short_lease(&server.url()).await;
    let (_ann, mut bob, _) = matched(&node, &survivor).await;
    node.kill();
    spoil(&server, "session:{nodes}:leases", "redis.call('SET', KEYS[1], 'what')");
    let mut newcomer = survivor.connect("newcomer");
    newcomer.settled().await;
    let told = time::timeout(Duration::from_secs(20), bob.message()).await.expect("in time");
    assert_eq!(told["type"], "partner-disconnected");
}
