//! A call across nodes, as Redis and other services see it.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use signaling_redis::{Settings, testing::Server};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time,
};

use crate::harness::{Node, matched, pair, talk, until};

/// A session's hash, read as any other service would.
fn hash(server: &Server, key: &str) -> BTreeMap<String, String> {
    let lines = server.cli(&["--no-raw", "--json", "hgetall", key]);
    serde_json::from_str(&lines).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stranger_follows_a_call_with_hgetall() {
    let server = Server::start();
    let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
    let mut ann = a.connect("ann");
    ann.settled().await;
    let (ann_id, bob_id) = (crate::harness::user("ann"), crate::harness::user("bob"));
    let session = b.relay.open_session(&ann_id, &bob_id).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    let key = format!("session:active:{session}");
    let waiting = hash(&server, &key);
    assert_eq!(waiting["participant1Id"], "ann");
    assert_eq!(waiting["participant2Id"], "bob");
    assert!(waiting["participant1Ws"].starts_with(a.relay.node_id().as_str()), "{waiting:?}");
    assert_eq!(waiting["participant2Ws"], "");
    assert_eq!(waiting["lastHeartbeat2"], "");
    assert_eq!(waiting["status"], "waiting");

    let mut bob = b.connect("bob");
    bob.expect_match(&session, "ann", false).await;
    let active = hash(&server, &key);
    assert_eq!(active["status"], "active");
    assert!(active["participant2Ws"].starts_with(b.relay.node_id().as_str()), "{active:?}");

    // A node knows the server's clock to a few milliseconds.
    let before = Duration::from_millis(server_millis(&server) - 10);
    ann.settled().await;
    let beat = |field: &'static str| {
        let (server, key) = (&server, &key);
        move || hash(server, key)[field].parse().map_or(Duration::ZERO, Duration::from_millis)
    };
    let first = beat("lastHeartbeat1");
    let late = until("the heartbeat is written", async || first() >= before).await;
    assert!(late < Duration::from_secs(1), "{late:?}");

    talk(&mut ann, &mut bob, &session, "hello").await;
    drop(ann);
    bob.expect("partner-disconnected").await;
    let left = hash(&server, &key);
    assert_eq!((left["status"].as_str(), left["participant1Ws"].as_str()), ("waiting", ""));
    let mut ann = b.connect("ann");
    ann.expect_match(&session, "bob", true).await;
    assert_eq!(hash(&server, &key)["status"], "active");
    bob.expect_match(&session, "ann", false).await;
    bob.send(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)).await;
    ann.expect("partner-disconnected").await;
    assert_eq!(server.cli(&["exists", &key]), "0");
}

fn server_millis(server: &Server) -> u64 {
    let time = server.cli(&["time"]);
    let mut parts = time.lines().map(|part| part.parse::<u64>().unwrap());
    parts.next().unwrap() * 1000 + parts.next().unwrap() / 1000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_key_expires() {
    let server = Server::start();
    let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    talk(&mut ann, &mut bob, &session, "hello").await;
    let (mut cat, _dan, other) = pair(&b, &a, ["cat", "dan"]).await;
    cat.send(format!(r#"{{"type":"leave","sessionId":"{other}"}}"#)).await;
    cat.settled().await;
    drop(bob);
    ann.expect("partner-disconnected").await;
    let left = async || server.cli(&["keys", "*"]).contains("ended:");
    until("the other session has ended", left).await;
    let keys = server.cli(&["keys", "*"]);
    let kinds = [
        "active:",
        "user:",
        "deadlines",
        ":leases",
        ":counts",
        ":marker",
        "connections:",
        "inbox:",
        "inbox-holds:",
    ];
    for kind in kinds.into_iter().chain(["ended:"]) {
        assert!(keys.contains(kind), "no {kind} among {keys}");
    }
    for key in keys.lines() {
        let left: i64 = server.cli(&["pttl", key]).parse().unwrap();
        assert!((1..=3_600_000).contains(&left), "{key} lives for {left} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn deployments_with_prefixes_of_their_own_share_a_database() {
    let server = Server::start();
    let settings = |prefix: &str| Settings::url(&server.url()).unwrap().prefix(prefix);
    let (a, b) = (Node::start_with(settings("a:")).await, Node::start_with(settings("b:")).await);
    let (mut ann, mut bob) = (a.connect("ann"), b.connect("ann"));
    ann.settled().await;
    bob.settled().await;
    let (_cat, _dan, session) = pair(&a, &a, ["cat", "dan"]).await;
    assert_eq!(b.record(&session).await, None);
    assert_eq!(server.cli(&["exists", &format!("a:session:active:{session}")]), "1");
    let keys = server.cli(&["keys", "*"]);
    assert!(keys.lines().all(|key| key.starts_with("a:") || key.starts_with("b:")), "{keys}");
    ann.settled().await;
}

/// The commands of one call, from the match to the leave, without those of heartbeats, leases and
/// the bus. The crate's documentation lists them.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_costs_ten_commands_at_most() {
    let server = Server::start();
    let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
    // The scripts are known from then on.
    let (cat, mut dan, first) = pair(&a, &b, ["cat", "dan"]).await;
    cat.send(format!(r#"{{"type":"leave","sessionId":"{first}"}}"#)).await;
    dan.expect("partner-disconnected").await;
    let (mut ann, mut bob) = (a.connect_quiet("ann"), b.connect_quiet("bob"));
    let (ann_id, bob_id) = (crate::harness::user("ann"), crate::harness::user("bob"));
    for user in [&ann_id, &bob_id] {
        let connected = async || a.relay.is_connected(user).await.unwrap();
        until("both are connected", connected).await;
    }
    let mut monitor = Command::new("redis-cli")
        .args(["-p", &server.port().to_string(), "monitor"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
    let mut next_line = async || {
        let line = time::timeout(Duration::from_secs(20), lines.next_line()).await;
        line.expect("a line of the monitor").unwrap().expect("the monitor runs")
    };
    assert_eq!(next_line().await, "OK");
    let session = a.relay.open_session(&ann_id, &bob_id).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    talk(&mut ann, &mut bob, &session, "hello").await;
    ann.send(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)).await;
    bob.expect("partner-disconnected").await;
    let (mut calls, mut withdrawals) = (Vec::new(), 0);
    loop {
        let line = next_line().await;
        if line.contains("\"ping\"") {
            break;
        }
        let from_script = line.split(']').next().unwrap().ends_with("lua");
        // With the second withdrawal the call is over; whatever else comes by then counts as well.
        let withdrawal =
            from_script && line.contains("\"HDEL\"") && line.contains(session.as_str());
        withdrawals += u32::from(withdrawal);
        if withdrawal && withdrawals == 2 {
            server.cli(&["ping"]);
        }
        if from_script {
            continue;
        }
        // The sweep's look at the list is not of the call.
        let of_call = line.contains("session:user:ann")
            || line.contains("session:user:bob")
            || line.contains(session.as_str()) && !line.contains("session:inbox:");
        if !of_call {
            continue;
        }
        calls.push(line);
    }
    println!("{}", calls.join("\n"));
    assert!((9..=10).contains(&calls.len()), "{} commands: {calls:#?}", calls.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn local_relaying_asks_nothing_of_redis() {
    let server = Server::start();
    let a = Node::start(&server.url()).await;
    let (mut ann, mut bob, session) = matched(&a, &a).await;
    let calls = |server: &Server| {
        let stats = server.cli(&["info", "commandstats"]);
        let of = |name: &str| {
            let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:")));
            let calls = line.and_then(|line| line.split("calls=").nth(1)?.split(',').next());
            calls.map_or(0, |calls| calls.parse::<u64>().unwrap())
        };
        of("evalsha") + of("xadd") + of("hgetall") + of("hget")
    };
    let before = calls(&server);
    let started = crate::harness::now();
    for n in 0..2_000 {
        talk(&mut ann, &mut bob, &session, &n.to_string()).await;
    }
    // What heartbeats and the monitor do meanwhile.
    let allowed = 20 + 20 * started.elapsed().as_secs();
    let asked = calls(&server) - before;
    assert!(asked <= allowed, "{asked} commands in {:?} for 4,000 signals", started.elapsed());
}
