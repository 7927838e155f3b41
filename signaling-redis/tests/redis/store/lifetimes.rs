//! Every key expires, and what is in use does not.

use std::time::Duration;

use signaling_core::{
    session::{Place, Role},
    store::{Heartbeat, Joined, SessionStore, Written},
};
use signaling_redis::testing::Server;

use super::{attach, come, connect, connection, create, lifetime, now, renew, session};
use crate::harness::user;

/// In ms, far below what the store gives.
const DYING: &str = "20000";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_write_gives_its_key_a_lifetime() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let lives = |key: &str| {
        let left = lifetime(&server, &format!("session:{key}"));
        assert!((1..=3_600_000).contains(&left), "{key} lives for {left} ms");
        left
    };
    let (ann, lease) = (connection("a", 1), Duration::from_secs(9));
    let record = create(&store, "s", now().after(Duration::from_secs(60))).await;
    lives("active:s");
    lives("deadlines");
    come(&store, &user("ann"), &ann).await;
    lives("user:ann");
    lives("connections:a");
    let joined = store.join(&user("bob"), &record.id, 9).await.unwrap();
    assert!(matches!(joined, Joined::Done(_)));
    lives("user:bob");
    renew(&store, ann.node(), lease).await.unwrap();
    lives("{nodes}:leases");
    server.cli(&["persist", "session:{nodes}:leases"]);
    renew(&store, ann.node(), lease).await.unwrap();
    lives("{nodes}:leases");
    lives("{nodes}:marker");
    lives("{nodes}:counts");
    server.cli(&["pexpire", "session:active:s", DYING]);
    let record = attach(&store, &record, &ann).await;
    assert!(lives("active:s") > 3_000_000);
    assert_eq!(store.delete(&record).await.unwrap(), Written::Done);
    assert!(lives("ended:{session:active:s}") <= 30_000);
}

/// Its number is needed while the server's clock may go back, and its sessions for as long as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_user_is_soon_forgotten_and_no_other() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let (ann, here, id) = (user("ann"), connection("a", 1), session("s"));
    let lives = || lifetime(&server, "session:user:ann");
    for session_ends_first in [true, false] {
        come(&store, &ann, &here).await;
        let joined = store.join(&ann, &id, 9).await.unwrap();
        assert_eq!(joined, Joined::Done(Some(here.clone())));
        for first in [true, false] {
            assert!(lives() > 3_000_000, "{} ms", lives());
            if first == session_ends_first {
                store.leave(&ann, &id, None).await.unwrap();
            } else {
                assert!(store.disconnect(&ann, &here).await.unwrap());
            }
        }
        assert!((1..=30_000).contains(&lives()), "{} ms", lives());
    }
}

/// One call in so many lets what it touches live on: after so many, one has.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_in_use_lives_on() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let record = create(&store, "s", now().after(Duration::from_secs(60))).await;
    let ann = connection("a", 1);
    come(&store, &user("ann"), &ann).await;
    attach(&store, &record, &ann).await;
    let keys = ["active:s", "user:ann", "connections:a", "deadlines"];
    let keys = keys.map(|key| format!("session:{key}"));
    for key in &keys {
        assert_eq!(server.cli(&["pexpire", key, DYING]), "1", "{key}");
    }
    let place = Place { session: record.id, role: Role::Initiator, opening: 1, revision: 1 };
    let beat = Heartbeat { user: user("ann"), connection: ann, at: now(), places: vec![place] };
    for _ in 0..400 {
        assert_eq!(store.record_heartbeats(std::slice::from_ref(&beat)).await.unwrap(), []);
        assert_eq!(store.overdue(9).await.unwrap(), []);
    }
    for key in &keys {
        assert!(lifetime(&server, key) > 3_000_000, "{key}: {} ms", lifetime(&server, key));
    }
}
