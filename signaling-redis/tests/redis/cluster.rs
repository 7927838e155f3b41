//! Redis Cluster: a failed primary, and a moved slot.

use std::time::Duration;

use signaling_redis::testing::Cluster;

use crate::harness::{Node, is_active_on, now, pair, talk, talk_again, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_go_on_while_slots_move() {
    let cluster = Cluster::start(false);
    let (a, b) = (Node::start(&cluster.url()).await, Node::start(&cluster.url()).await);
    let mut pairs = Vec::new();
    for n in 0..12 {
        pairs.push(pair(&a, &b, [&format!("ann-{n}"), &format!("bob-{n}")]).await);
    }
    let (_, _, session) = &pairs[0];
    let inbox = format!("session:inbox:{}", b.relay.node_id());
    let leases = "session:{nodes}:leases";
    let record = format!("session:active:{session}");
    for key in [&*record, &*inbox, leases, "session:user:ann-0"] {
        let to = (cluster.primary_of(key) + 1) % 3;
        cluster.move_slot(key, to);
        assert_eq!(cluster.primary_of(key), to);
        if key == inbox {
            // On a server with another history an inbox may lack entries: word of lost signals, say.
            for (_, bob, _) in &mut pairs {
                bob.expect("error unavailable").await;
            }
        }
        for (ann, bob, session) in &mut pairs {
            talk_again(ann, bob, session, Duration::from_secs(2)).await;
        }
    }
    let (mut ann, mut bob, session) = pairs.swap_remove(0);
    until("it is as it was", async || is_active_on(&a, &session, &a, &b).await).await;
    drop(ann);
    bob.expect("partner-disconnected").await;
    ann = b.connect("ann-0");
    ann.expect_match(&session, "bob-0", true).await;
    bob.expect_match(&session, "ann-0", false).await;
    let _new = pair(&a, &b, ["cat", "dan"]).await;
}

/// A primary is killed for good; its replica takes over with what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_go_on_when_a_primary_fails() {
    let mut cluster = Cluster::start(true);
    let (a, b) = (Node::start(&cluster.url()).await, Node::start(&cluster.url()).await);
    let mut pairs = Vec::new();
    for n in 0..12 {
        pairs.push(pair(&a, &b, [&format!("ann-{n}"), &format!("bob-{n}")]).await);
    }
    let (mut cat, mut dan, local) = pair(&a, &a, ["cat", "dan"]).await;
    for primary in &cluster.servers[..3] {
        primary.wait_until_replicated();
    }
    let failed = cluster.primary_of("session:{nodes}:leases");
    cluster.servers[failed].kill();
    let killed = now();
    talk(&mut cat, &mut dan, &local, "no primary").await;
    let (_, _, session) = &pairs[0];
    let session = session.clone();
    cluster.wait_until_taken_over(failed);
    let taken_over = killed.elapsed();
    for node in [&a, &b] {
        node.until_ready(true).await;
    }
    println!("taken over after {taken_over:?}, ready after {:?}", killed.elapsed());
    let ready = async || {
        let mut all = is_active_on(&a, &local, &a, &a).await;
        for (_, _, session) in &pairs {
            all &= is_active_on(&a, session, &a, &b).await;
        }
        all
    };
    until("all records are true", ready).await;
    for (ann, bob, session) in &mut pairs {
        talk_again(ann, bob, session, Duration::from_secs(2)).await;
    }
    let _new = pair(&a, &b, ["eve", "fay"]).await;
    assert!(a.record(&session).await.is_some());
}
