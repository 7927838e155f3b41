//! What the store promises beyond what every store does.

mod lifetimes;
mod sweeps;
mod unreadable;

use std::time::Duration;

use signaling_core::{
    id::{ConnectionId, NodeId, SessionId, UserId},
    session::{Place, Role, SessionRecord},
    store::{
        Accepted, Connect, Connected, Counts, Heartbeat, Joined, Lease, Replace, SessionStore,
        StoreError, Written,
    },
    time::{Clock, SystemClock, Timestamp},
};
use signaling_redis::{Redis, RedisStore, Settings, testing::Server};
use tokio::time;

use crate::harness::{until, user};

async fn connect(server: &Server) -> (Redis, RedisStore) {
    let redis = Redis::connect(Settings::url(&server.url()).unwrap()).await.unwrap();
    let store = (*redis.store()).clone();
    (redis, store)
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn session(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

fn connection(node: &str, number: u64) -> ConnectionId {
    ConnectionId::new(NodeId::new(node).unwrap(), number)
}

fn opened(name: &str, until: Timestamp) -> SessionRecord {
    SessionRecord::open(session(name), 1, user("ann"), user("bob"), until).unwrap()
}

/// The user is on this connection, whichever it was on.
async fn come(store: &RedisStore, user: &UserId, connection: &ConnectionId) -> Connected {
    let now = SystemClock.now();
    let latest = now.after(Duration::from_millis(1));
    let accepted = Accepted { earliest: now, latest, ..Accepted::UNKNOWN };
    match store.connect(user, connection, accepted, Replace::Older).await.unwrap() {
        Connect::Done(connected) => connected,
        other => panic!("it was not done: {other:?}"),
    }
}

async fn renew(store: &RedisStore, node: &NodeId, lease: Duration) -> Result<Lease, StoreError> {
    store.renew_lease(node, lease, Counts::default(), &[]).await
}

async fn create(store: &RedisStore, name: &str, until: Timestamp) -> SessionRecord {
    let record = opened(name, until);
    assert_eq!(store.put(&record, None).await.unwrap(), Written::Done);
    record
}

/// The initiator on `connection`, for the first time.
async fn attach(
    store: &RedisStore,
    record: &SessionRecord,
    connection: &ConnectionId,
) -> SessionRecord {
    let attached = record.attach(Role::Initiator, connection, 1, None, 1).unwrap();
    replace(store, record, attached).await
}

async fn replace(
    store: &RedisStore,
    before: &SessionRecord,
    record: SessionRecord,
) -> SessionRecord {
    assert_eq!(store.put(&record, Some(before)).await.unwrap(), Written::Done);
    record
}

fn lifetime(server: &Server, key: &str) -> i64 {
    server.cli(&["pttl", key]).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_delete_whose_answer_was_lost_is_done_when_it_is_asked_again() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let record = create(&store, "s", now().after(Duration::from_secs(60))).await;
    let (delete, other) = (deleted_by("1"), deleted_by("2"));
    let ask = |args: &[&str]| server.cli(args);
    assert_eq!(ask(&delete.each_ref().map(String::as_str)), "1");
    assert_eq!(ask(&delete.each_ref().map(String::as_str)), "1", "the same asks again");
    assert_eq!(ask(&other.each_ref().map(String::as_str)), "0", "another one");
    assert_eq!(store.delete(&record).await.unwrap(), Written::Missing);
}

/// The command that the store sends to delete session `s` at its first revision.
fn deleted_by(asker: &str) -> [String; 9] {
    let keys = ["session:active:s", "session:ended:{session:active:s}"];
    let script = include_str!("../../src/lua/delete_session.lua");
    ["eval", script, "2", keys[0], keys[1], "1", "0", asker, "30000"].map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_one_of_many_heartbeats_is_answered() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let beat = |n| Heartbeat {
        user: user(&format!("user-{n}")),
        connection: connection("a", n),
        at: now(),
        places: vec![],
    };
    let beats: Vec<_> = (0..2_500).map(beat).collect();
    assert_eq!(store.record_heartbeats(&beats).await.unwrap().len(), 2_500);
    // Also where they are all in one session, which is not there.
    let session = SessionId::new("s").unwrap();
    let place = Place { session, role: Role::Initiator, opening: 1, revision: 1 };
    let beats = beats.into_iter().take(100);
    let beats: Vec<_> =
        beats.map(|beat| Heartbeat { places: vec![place.clone()], ..beat }).collect();
    assert_eq!(store.record_heartbeats(&beats).await.unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_database_that_lost_its_records_is_of_another_generation() {
    let mut server = Server::start();
    let (_redis, store) = connect(&server).await;
    let node = NodeId::new("a").unwrap();
    let lease = async || renew(&store, &node, Duration::from_secs(9)).await;
    let first = lease().await.unwrap().generation;
    assert_eq!(lease().await.unwrap().generation, first);
    assert!(lifetime(&server, "session:{nodes}:marker") <= 1_800_000, "before any record is gone");
    server.cli(&["flushall"]);
    let second = lease().await.unwrap().generation;
    assert_ne!(second, first);
    // A server that took over has the marker, but may lack what came last.
    let marker = server.cli(&["get", "session:{nodes}:marker"]);
    server.restart();
    server.cli(&["set", "session:{nodes}:marker", &marker]);
    until("the server is back", async || lease().await.is_ok()).await;
    assert_ne!(lease().await.unwrap().generation, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn numbers_of_connections_rise_also_when_the_clock_goes_back_or_the_user_is_forgotten() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let ann = user("ann");
    let first = come(&store, &ann, &connection("a", 1)).await.epoch;
    server.cli(&["del", "session:user:ann"]);
    let second = come(&store, &ann, &connection("a", 2)).await.epoch;
    assert!(second > first, "{second} after {first}");
    let ahead = second + 1_000_000_000_000;
    server.cli(&["hset", "session:user:ann", "epoch", &ahead.to_string()]);
    let third = come(&store, &ann, &connection("a", 3)).await.epoch;
    assert_eq!(third, ahead + 1);
    assert!(store.disconnect(&ann, &connection("a", 3)).await.unwrap());
    let fourth = come(&store, &ann, &connection("a", 4)).await.epoch;
    assert_eq!(fourth, ahead + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_forgot_the_scripts_is_taught_them() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    create(&store, "first", now()).await;
    server.cli(&["script", "flush"]);
    create(&store, "second", now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_bridges_a_connection_that_is_cut() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    for n in 0..20 {
        server.cut_clients();
        create(&store, &format!("s-{n}"), now()).await;
    }
    let ends = time::timeout(Duration::from_secs(5), store.overdue(99)).await;
    assert_eq!(ends.unwrap().unwrap().len(), 20);
}
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_waits_for_a_server_that_comes_back_and_is_not_made_when_it_was_given_up() {
    let mut server = Server::start();
    let (_redis, store) = connect(&server).await;
    server.kill();
    let id = session("s");
    until("the loss is noticed", async || store.load(&id).await.is_err()).await;
    assert!(store.put(&opened("s", now()), None).await.is_err());
    let back = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    });
    let (loaded, server) = tokio::join!(store.load(&id), back);
    assert_eq!(loaded.unwrap(), None, "what was given up was done");
    assert_eq!(server.unwrap().cli(&["keys", "*"]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lease_that_has_run_out_is_not_held() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let node = NodeId::new("a").unwrap();
    let held = async |lease| renew(&store, &node, lease).await.unwrap().held;
    assert!(!held(Duration::ZERO).await);
    assert!(!held(Duration::from_secs(60)).await);
    assert!(held(Duration::ZERO).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_takes_no_place_among_memberships() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let ann = user("ann");
    come(&store, &ann, &connection("a", 1)).await;
    let joined = store.join(&ann, &session("s"), 1).await.unwrap();
    assert!(matches!(joined, Joined::Done(_)));
    let second = store.join(&ann, &session("t"), 1).await.unwrap();
    assert!(matches!(second, Joined::Full(_)), "{second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_ends_is_none_of_its_nodes_any_more() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let ann = user("ann");
    for number in 1..=2 {
        come(&store, &ann, &connection("a", number)).await;
    }
    for (number, newest) in [(1, false), (2, true)] {
        assert_eq!(store.disconnect(&ann, &connection("a", number)).await.unwrap(), newest);
    }
    assert_eq!(server.cli(&["exists", "session:connections:a"]), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_is_in_the_way_goes_with_its_node_also_when_the_list_of_that_was_lost() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let (ann, there, newcomer) = (user("ann"), connection("a", 1), connection("b", 2));
    come(&store, &ann, &there).await;
    server.cli(&["del", "session:connections:a"]);
    let refused =
        async || store.connect(&ann, &newcomer, Accepted::UNKNOWN, Replace::Nothing).await.unwrap();
    assert_eq!(refused().await, Connect::Taken(there.clone()));
    assert!(!store.disconnect(&ann, &newcomer).await.unwrap());
    assert_eq!(server.cli(&["exists", "session:connections:b"]), "0");
    store.forget_node(there.node()).await.unwrap();
    assert!(matches!(refused().await, Connect::Done(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_dropped_closes_its_connections() {
    let server = Server::start();
    let connected = connect(&server).await;
    let clients = || server.cli(&["client", "list", "type", "normal"]).lines().count();
    assert_eq!(clients(), 3, "ours, that for heartbeats, and the one that asks");
    drop(connected);
    until("the connections are closed", async || clients() == 1).await;
}
