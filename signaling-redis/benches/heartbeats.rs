//! What heartbeats cost Redis and the node: 10,000 a second, each in one session, in batches of half a
//! second as the relay writes them. `cargo bench --package signaling-redis --bench heartbeats`

use std::{fs, time::Duration};

use signaling_core::{
    id::{ConnectionId, NodeId, SessionId, UserId},
    session::{Place, Role, SessionRecord},
    store::{Accepted, Connect, Connected, Heartbeat, Replace, SessionStore, Written},
    time::{Clock, SystemClock, Timestamp},
};
use signaling_redis::{Redis, RedisStore, Settings, testing::Server};
use tokio::time;

const PER_SECOND: usize = 10_000;
const BATCH: Duration = Duration::from_millis(500);
const ROUNDS: usize = 3;
const BATCHES: u32 = 20;

#[tokio::main]
async fn main() {
    let server = Server::start();
    let settings = Settings::url(&server.url()).expect("a URL");
    let redis = Redis::connect(settings).await.expect("a server");
    let store = redis.store();
    // As many connections as send one heartbeat in ten seconds.
    let beats = populate(&store, 10 * PER_SECOND).await;
    println!("{} connections in {} sessions", beats.len(), beats.len() / 2);
    let mut next = beats.chunks(PER_SECOND / 2).cycle();
    for round in 1..=ROUNDS {
        let (redis_before, own_before) = (redis_cpu(&server), own_cpu());
        let mut ticks = time::interval(BATCH);
        for _ in 0..BATCHES {
            ticks.tick().await;
            let at = SystemClock.now();
            let batch: Vec<_> = next.next().expect("a cycle").to_vec();
            let batch: Vec<_> = batch.into_iter().map(|beat| Heartbeat { at, ..beat }).collect();
            let doubtful = store.record_heartbeats(&batch).await.expect("written in time");
            assert!(doubtful.is_empty(), "all are as they believe");
        }
        let seconds = (BATCH * BATCHES).as_secs_f64();
        let (redis, own) = (redis_cpu(&server) - redis_before, own_cpu() - own_before);
        println!(
            "round {round}: {PER_SECOND} heartbeats/s; Redis {:.1} % of a core ({:.1} µs each), node {:.1} %",
            100.0 * redis / seconds,
            1e6 * redis / (seconds * PER_SECOND as f64),
            100.0 * own / seconds,
        );
    }
}

/// Two connections of one node in each session.
async fn populate(store: &RedisStore, connections: usize) -> Vec<Heartbeat> {
    let (node, now) = (NodeId::new("bench").expect("a node id"), SystemClock.now());
    let mut beats = Vec::new();
    for chunk in (0..connections / 2).collect::<Vec<_>>().chunks(64) {
        let opened = chunk.iter().map(|n| open(store, &node, *n, now));
        beats.extend(futures::future::join_all(opened).await.into_iter().flatten());
    }
    // Partners do not beat in step.
    let (initiators, responders): (Vec<_>, Vec<_>) =
        beats.into_iter().partition(|beat| beat.places[0].role == Role::Initiator);
    initiators.into_iter().chain(responders).collect()
}

async fn open(store: &RedisStore, node: &NodeId, n: usize, now: Timestamp) -> [Heartbeat; 2] {
    let session = SessionId::generate().expect("randomness");
    let users = ["ann", "bob"].map(|name| UserId::new(&format!("{name}-{n}")).expect("an id"));
    let until = now.after(Duration::from_secs(60));
    let [ann, bob] = users.clone();
    let mut record = SessionRecord::open(session, 1, ann, bob, until).expect("two users");
    assert_eq!(store.put(&record, None).await.expect("an answer"), Written::Done);
    let mut connections = Vec::new();
    for (role, user) in Role::BOTH.into_iter().zip(&users) {
        let connection = ConnectionId::new(node.clone(), (2 * n + role as usize) as u64);
        let connect = store.connect(user, &connection, Accepted::UNKNOWN, Replace::Older).await;
        let Connect::Done(Connected { epoch, .. }) = connect.expect("an answer") else {
            panic!("not connected, though any may be replaced");
        };
        let before = record;
        record = before.attach(role, &connection, epoch, None, epoch).expect("a newer connection");
        let written = store.put(&record, Some(&before)).await.expect("an answer");
        assert_eq!(written, Written::Done);
        connections.push(connection);
    }
    Role::BOTH.map(|role| Heartbeat {
        user: users[role as usize].clone(),
        connection: connections[role as usize].clone(),
        at: now,
        places: vec![Place {
            session: record.id.clone(),
            role,
            opening: record.opening,
            revision: record.revision,
        }],
    })
}

/// Seconds of CPU time that the server has used.
fn redis_cpu(server: &Server) -> f64 {
    let info = server.cli(&["info", "cpu"]);
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.trim().parse::<f64>().ok()).expect("a number")
    };
    field("used_cpu_sys:") + field("used_cpu_user:")
}

/// Seconds of CPU time that this process has used; 0 where the system does not say.
fn own_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks() + ticks()) / 100.0
}
