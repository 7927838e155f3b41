//! Sentinel: the primary fails, and the replica takes over.

use std::time::Duration;

use signaling_core::{testing::wire::Received, time::Timestamp};
use signaling_redis::testing::Sentinel;
use tokio::time;

use crate::harness::{
    Node, is_active_on, matched, nothing_left, now, pair, talk, talk_again, until, user,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn failed_over() {
    let mut sentinel = Sentinel::start();
    let (a, b) = (Node::start(&sentinel.url()).await, Node::start(&sentinel.url()).await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    let (mut cat, mut dan, local) = pair(&a, &a, ["cat", "dan"]).await;
    sentinel.servers[0].wait_until_replicated();
    sentinel.servers[0].kill();
    let killed = now();
    talk(&mut cat, &mut dan, &local, "no primary").await;
    sentinel.wait_until_failed_over();
    let taken_over = now();
    for node in [&a, &b] {
        node.until_ready(true).await;
    }
    println!("taken over after {:?}, ready {:?} later", taken_over - killed, taken_over.elapsed());
    let well =
        async || is_active_on(&a, &session, &a, &b).await && is_active_on(&b, &local, &a, &a).await;
    until("the records are true", well).await;
    assert!(taken_over.elapsed() < Duration::from_secs(4), "{:?}", taken_over.elapsed());
    talk_again(&mut ann, &mut bob, &session, Duration::from_secs(2)).await;
    talk(&mut cat, &mut dan, &local, "failed over").await;
    let _new = pair(&a, &b, ["hal", "ida"]).await;
    time::sleep(Duration::from_secs(12)).await;
    for guest in [&mut ann, &mut bob, &mut cat, &mut dan] {
        // A bus may deliver twice, and so also that something was lost.
        nothing_left(guest).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_revoked_stays_so_when_redis_fails_over() {
    let mut sentinel = Sentinel::start();
    let url = sentinel.url();
    let [a, b, c] = [Node::start(&url).await, Node::start(&url).await, Node::start(&url).await];
    // Nobody says when their tokens were issued, which counts as before any revocation.
    let (mut ann, mut bob) = (b.connect("ann"), c.connect("bob"));
    ann.settled().await;
    bob.settled().await;
    let revoked = now();
    for name in ["ann", "bob"] {
        a.relay.revoke(&user(name), Timestamp::from_millis(1)).await.unwrap();
    }
    ann.expect_close(4403).await;
    bob.expect_close(4403).await;
    println!("closed after {:?}", revoked.elapsed());
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    // The replica may not have it yet.
    sentinel.servers[0].kill();
    sentinel.wait_until_failed_over();
    for node in [&a, &b, &c] {
        node.until_ready(true).await;
    }
    let is_refused = async |node: &Node, name: &str| {
        let mut guest = node.connect(name);
        let next = time::timeout(Duration::from_millis(500), guest.next()).await;
        matches!(next, Ok(Received::Closed(Some(close))) if close.code == 4403)
    };
    until("both are refused", async || is_refused(&b, "ann").await && is_refused(&c, "bob").await)
        .await;
    for node in [&a, &b, &c] {
        assert!(is_refused(node, "ann").await && is_refused(node, "bob").await);
    }
}
