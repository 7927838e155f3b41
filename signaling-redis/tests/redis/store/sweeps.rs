//! What is looked for now and then: sessions that are over, and what lost nodes left.

use std::{collections::BTreeSet, time::Duration};

use signaling_core::{
    id::NodeId,
    reason::PartnerReason,
    session::{Participant, Role, SessionRecord},
    store::{Joined, SessionStore, StoreError, Written},
    time::Timestamp,
};
use signaling_redis::testing::Server;

use super::{attach, come, connect, connection, create, now, opened, replace, session};
use crate::harness::user;

fn a_minute_ago() -> Timestamp {
    Timestamp::from_millis(now().as_millis() - 60_000)
}

fn ids(records: &[SessionRecord]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

/// Lists a time for a session whose record does not have it, or is not there.
fn list(server: &Server, at: Timestamp, session: &str) {
    let at = at.as_millis().to_string();
    server.cli(&["zadd", "session:deadlines", &at, &format!("{at}:{session}")]);
}

fn listed(server: &Server) -> usize {
    server.cli(&["zcard", "session:deadlines"]).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_overdue_session_behind_pages_of_void_deadlines_is_found() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let past = a_minute_ago();
    for n in 0..25 {
        list(&server, past, &format!("gone-{n}"));
    }
    create(&store, "due", past.after(Duration::from_secs(1))).await;
    create(&store, "later", past.after(Duration::from_secs(2))).await;
    create(&store, "not-due", now().after(Duration::from_secs(60))).await;
    assert_eq!(ids(&store.overdue(1).await.unwrap()), ["due"]);
    assert_eq!(listed(&server), 3, "what is void is not looked at again");
    for n in 0..4 {
        list(&server, past, &format!("gone-{n}"));
    }
    create(&store, "last", past.after(Duration::from_secs(3))).await;
    assert_eq!(ids(&store.overdue(5).await.unwrap()), ["later", "last"]);
    assert_eq!(listed(&server), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nodes_that_look_at_the_same_time_get_different_sessions() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let past = a_minute_ago();
    for n in 0..100 {
        create(&store, &format!("s-{n}"), past).await;
    }
    let (_other, other) = connect(&server).await;
    let (ours, theirs) = tokio::join!(store.overdue(50), other.overdue(50));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    let all: BTreeSet<_> = ours.iter().chain(&theirs).map(|record| &record.id).collect();
    assert_eq!((ours.len(), theirs.len(), all.len()), (50, 50, 100));
    assert_eq!(store.overdue(100).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_node_got_and_did_not_end_comes_again() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let record = create(&store, "s", a_minute_ago()).await;
    assert_eq!(ids(&store.overdue(9).await.unwrap()), ["s"]);
    assert_eq!(store.overdue(9).await.unwrap(), []);
    let listed_for = || {
        let scores = server.cli(&["zrange", "session:deadlines", "0", "-1", "withscores"]);
        let score: u64 = scores.lines().last().unwrap().parse().unwrap();
        Timestamp::from_millis(score)
    };
    let put_off = listed_for().since(now());
    assert!(put_off > Duration::ZERO && put_off <= Duration::from_secs(10), "{put_off:?}");
    // As when that time has passed.
    list(&server, record.deadline().unwrap(), "s");
    assert_eq!(ids(&store.overdue(9).await.unwrap()), ["s"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn overdue_sessions_are_found_and_removed_where_redis_has_no_memory_left() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let record = create(&store, "s", a_minute_ago()).await;
    server.cli(&["config", "set", "maxmemory", "1"]);
    assert!(store.put(&opened("t", now()), None).await.is_err());
    assert_eq!(ids(&store.overdue(9).await.unwrap()), ["s"]);
    assert_eq!(store.delete(&record).await.unwrap(), Written::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_with_two_past_deadlines_is_listed_once_and_does_not_hide_the_next() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let past = a_minute_ago();
    create(&store, "twice", past).await;
    for n in 1..=4 {
        list(&server, past.after(Duration::from_secs(n)), "twice");
    }
    create(&store, "next", past.after(Duration::from_secs(9))).await;
    assert_eq!(ids(&store.overdue(2).await.unwrap()), ["twice", "next"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deadline_that_was_put_off_does_not_make_a_session_the_first() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let past = a_minute_ago();
    list(&server, past, "put-off");
    create(&store, "put-off", past.after(Duration::from_secs(30))).await;
    create(&store, "first", past.after(Duration::from_secs(20))).await;
    assert_eq!(ids(&store.overdue(9).await.unwrap()), ["first", "put-off"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_changes_that_set_a_deadline_list_one() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let opened = create(&store, "s", now().after(Duration::from_secs(60))).await;
    server.cli(&["del", "session:deadlines"]);
    let attached = attach(&store, &opened, &connection("a", 1)).await;
    assert_eq!(listed(&server), 0);
    let (id, reason, abandon_after) =
        (connection("a", 1), PartnerReason::Left, Duration::from_secs(5));
    let left = attached.detach(&id, reason, now(), abandon_after).unwrap();
    replace(&store, &attached, left).await;
    assert!(listed(&server) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn records_that_cannot_be_read_stop_neither_the_sweep_nor_the_next() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let past = a_minute_ago();
    let due = create(&store, "due", past).await;
    server.cli(&["hset", "session:active:nonsense", "revision", "?"]);
    server.cli(&["set", "session:active:no-hash", "what"]);
    server.cli(&["zadd", "session:deadlines", "1", "what is this"]);
    for name in ["nonsense", "no-hash"] {
        list(&server, past, name);
        let error = store.load(&session(name)).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
        let joined = store.join(&user("ann"), &session(name), 9).await.unwrap();
        assert!(matches!(joined, Joined::Done(_)));
    }
    assert_eq!(ids(&store.overdue(9).await.unwrap()), ["due"]);
    assert_eq!(listed(&server), 1);

    let ann = connection("a", 1);
    come(&store, &user("ann"), &ann).await;
    let joined = store.join(&user("ann"), &due.id, 9).await.unwrap();
    assert!(matches!(joined, Joined::Done(_)));
    attach(&store, &due, &ann).await;
    assert_eq!(ids(&store.attached_to(ann.node(), 9).await.unwrap()), ["due"]);
}

/// As a node does that detaches what another one left.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn all_that_a_lost_node_left_is_found_some_at_a_time_until_nothing_is() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let (lost, far) = (NodeId::new("lost").unwrap(), now().after(Duration::from_secs(60)));
    // Ann is in all of them, so that one user has more than fits.
    let mut left = BTreeSet::new();
    for n in 0..23_u64 {
        let (ann, bob) = (user("ann"), user(&format!("bob-{n}")));
        let id = session(&format!("s-{n}"));
        let ends = [&ann, &bob].map(|user| (user.clone(), id.clone()));
        for (user, id) in ends {
            assert!(matches!(store.join(&user, &id, 99).await.unwrap(), Joined::Done(_)));
        }
        come(&store, &ann, &connection("lost", 1)).await;
        come(&store, &bob, &connection("lost", 100 + n)).await;
        let record = SessionRecord::open(id, 1, ann, bob, far).unwrap();
        assert_eq!(store.put(&record, None).await.unwrap(), Written::Done);
        let one = attach(&store, &record, &connection("lost", 1)).await;
        let bobs = connection("lost", 100 + n);
        let both = one.attach(Role::Responder, &bobs, 2, None, 2).unwrap();
        left.insert(replace(&store, &one, both).await.id);
    }
    assert_eq!(store.attached_to(&lost, 99).await.unwrap().len(), left.len());
    let mut calls = 0;
    loop {
        let found = store.attached_to(&lost, 5).await.unwrap();
        if found.is_empty() {
            break;
        }
        calls += 1;
        assert!(found.len() <= 5 && calls < 50, "{} in call {calls}", found.len());
        let once: BTreeSet<_> = found.iter().map(|record| &record.id).collect();
        assert_eq!(once.len(), found.len(), "one of them twice");
        for record in found {
            let own = |p: &Participant| p.connection().cloned();
            let connections = record.participants.iter().filter_map(own).collect::<Vec<_>>();
            let mut record = record;
            for connection in connections {
                let next = record
                    .detach(&connection, PartnerReason::Lost, now(), Duration::from_secs(9))
                    .unwrap();
                record = replace(&store, &record, next).await;
            }
            assert!(left.remove(&record.id), "{} was found before", record.id);
        }
    }
    assert_eq!(left, BTreeSet::new(), "never found");
    store.forget_node(&lost).await.unwrap();
    assert_eq!(server.cli(&["exists", "session:connections:lost"]), "0");
    assert_eq!(store.user(&user("ann")).await.unwrap().connection, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_lost_node_left_is_all_found_also_where_nobody_detaches_it() {
    let server = Server::start();
    let (_redis, store) = connect(&server).await;
    let far = now().after(Duration::from_secs(60));
    for n in 0..23_u64 {
        let (ann, bob, id) = (user(&format!("ann-{n}")), user("bob"), session(&format!("s-{n}")));
        assert!(matches!(store.join(&ann, &id, 1).await.unwrap(), Joined::Done(_)));
        come(&store, &ann, &connection("lost", n)).await;
        let record = SessionRecord::open(id, 1, ann, bob, far).unwrap();
        assert_eq!(store.put(&record, None).await.unwrap(), Written::Done);
        attach(&store, &record, &connection("lost", n)).await;
    }
    let mut all = BTreeSet::new();
    for _ in 0..8 {
        let found = store.attached_to(connection("lost", 0).node(), 5).await.unwrap();
        assert!((1..=5).contains(&found.len()), "{} of them", found.len());
        all.extend(found.into_iter().map(|record| record.id));
    }
    assert_eq!(all.len(), 23);
}
