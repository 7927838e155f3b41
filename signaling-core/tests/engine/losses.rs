//! A store that loses what it holds: all of it, or the last writes.

use std::time::Duration;

use signaling_core::{
    id::SessionId,
    reason::PartnerReason,
    session::{SessionRecord, Status},
    store::{Joined, SessionStore, Written},
    testing::bus::changed,
    time::{Clock, SystemClock},
};
use tokio::time::{self, Instant};

use crate::harness::{Deployment, Guest, Node, matched, user};

/// Which of the two are attached.
async fn attached(deployment: &Deployment, session: &SessionId) -> [bool; 2] {
    let record = deployment.store.load(session).await.unwrap().expect("a record");
    record.participants.map(|participant| participant.connection().is_some())
}

/// The store has what `before` says again, ahead of all that was made of it.
async fn bring_back(deployment: &Deployment, before: SessionRecord) {
    let now = deployment.store.load(&before.id).await.unwrap().unwrap();
    let SessionRecord { id, opening, participants, .. } = before;
    let ahead = SessionRecord::stored(id, opening, now.revision + 1, participants);
    assert_eq!(deployment.store.put(&ahead, Some(&now)).await.unwrap(), Written::Done);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_the_store_lost_are_opened_again_and_nobody_notices() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    ann.signal(&session, "offer", "1").await;
    bob.expect("offer 1").await;
    deployment.store.lose_everything();
    assert_eq!(a.relay.session(&session).await.unwrap(), None);
    time::sleep(Duration::from_secs(7)).await;
    let record = a.relay.session(&session).await.unwrap().expect("the record is back");
    assert_eq!(record.status(), Status::Active);
    assert!(a.relay.is_connected(&user("bob")).await.unwrap());
    ann.signal(&session, "offer", "2").await;
    bob.expect("offer 2").await;
    ann.expect_nothing().await;
    bob.expect_nothing().await;
    drop(bob);
    ann.expect("partner-disconnected").await;
}

#[tokio::test(start_paused = true)]
async fn who_dies_with_its_node_while_the_store_is_emptied_is_missed_within_thirty_seconds() {
    for (phase, node_first) in [(0, true), (1_300, false), (4_900, true)] {
        let deployment = Deployment::new();
        let (a, b) = (deployment.node().await, deployment.node().await);
        let (_ann, mut bob, session) = matched(&a, &b).await;
        time::sleep(Duration::from_millis(phase)).await;
        let died = Instant::now();
        if node_first {
            a.kill();
            deployment.store.lose_everything();
        } else {
            deployment.store.lose_everything();
            a.kill();
        }
        bob.expect("partner-disconnected").await;
        assert!(died.elapsed() < Duration::from_secs(30), "{:?}", died.elapsed());
        assert_eq!(attached(&deployment, &session).await, [false, true]);
        assert!(!b.relay.is_connected(&user("ann")).await.unwrap());
        let mut ann = Guest::connect(&b, "ann");
        ann.expect_match(&session, "bob", true).await;
        bob.expect_match(&session, "ann", false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_the_store_is_empty_is_missed_once() {
    for reopened_by_then in [false, true] {
        let deployment = Deployment::new();
        let (a, b) = (deployment.node().await, deployment.node().await);
        let (ann, mut bob, session) = matched(&a, &b).await;
        deployment.store.lose_everything();
        if reopened_by_then {
            time::sleep(Duration::from_secs(7)).await;
        }
        let left = Instant::now();
        drop(ann);
        bob.expect("partner-disconnected").await;
        assert!(left.elapsed() < Duration::from_millis(10), "{:?}", left.elapsed());
        time::sleep(Duration::from_secs(7)).await;
        bob.settled().await;
        assert_eq!(attached(&deployment, &session).await, [false, true]);
        bob.expect_nothing().await;
        let mut ann = Guest::connect(&b, "ann");
        ann.expect_match(&session, "bob", true).await;
        bob.expect_match(&session, "ann", false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_left_unheard_while_the_store_was_empty_is_missed_when_the_record_is_back() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (ann, mut bob, session) = matched(&a, &b).await;
    // Bob's node neither hears of it nor opens anything again until Ann's has forgotten her.
    b.faults.cut(true);
    deployment.store.lose_everything();
    drop(ann);
    time::sleep(Duration::from_secs(12)).await;
    b.faults.cut(false);
    bob.expect("partner-disconnected").await;
    bob.expect_nothing().await;
    assert_eq!(attached(&deployment, &session).await, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn both_who_left_while_the_store_was_empty_find_each_other_again() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (ann, bob, session) = matched(&a, &b).await;
    deployment.store.lose_everything();
    drop((ann, bob));
    time::sleep(Duration::from_secs(10)).await;
    assert_eq!(attached(&deployment, &session).await, [false, false]);
    let (mut ann, mut bob) = (Guest::connect(&b, "ann"), Guest::connect(&a, "bob"));
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_before_its_session_is_opened_again_finds_it() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (ann, mut bob, session) = matched(&a, &b).await;
    drop(ann);
    bob.expect("partner-disconnected").await;
    deployment.store.lose_everything();
    let mut ann = Guest::connect(&a, "ann");
    ann.settled().await;
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
}

#[tokio::test(start_paused = true)]
async fn an_attachment_that_comes_back_with_a_lost_write_is_not_taken_for_the_old_one() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    let before = deployment.store.load(&session).await.unwrap().unwrap();
    // Ann's node is written off, and then the store has a record from before.
    a.faults.cut(true);
    bob.expect("partner-disconnected").await;
    bring_back(&deployment, before).await;
    a.faults.cut(false);
    bob.expect_match(&session, "ann", false).await;
    ann.expect_match(&session, "bob", true).await;
    ann.signal(&session, "offer", "o").await;
    bob.expect("offer o").await;
    bob.signal(&session, "answer", "a").await;
    ann.expect("answer a").await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_comes_back_with_a_lost_write_is_taken_out_again() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (ann, mut bob, session) = matched(&a, &b).await;
    let before = deployment.store.load(&session).await.unwrap().unwrap();
    drop(ann);
    bob.expect("partner-disconnected").await;
    bring_back(&deployment, before).await;
    bob.expect_match(&session, "ann", false).await;
    bob.expect("partner-disconnected").await;
    assert_eq!(attached(&deployment, &session).await, [false, true]);
    bob.expect_nothing().await;
}

async fn hear_each_other(ann: &mut Guest, bob: &mut Guest, session: &SessionId) {
    hears(bob, ann, session, "from ann").await;
    hears(ann, bob, session, "from bob").await;
}

/// What `from` says comes to `to`, whatever else does before it.
async fn hears(to: &mut Guest, from: &Guest, session: &SessionId, word: &str) {
    from.signal(session, "ice-candidate", word).await;
    while to.message().await["candidate"] != word {}
}

#[tokio::test(start_paused = true)]
async fn what_one_loss_brought_back_is_not_taken_for_what_the_next_one_does() {
    let deployment = Deployment::new();
    let (a, b, c) = (deployment.node().await, deployment.node().await, deployment.node().await);
    let (mut ann, old_bob, session) = matched(&a, &c).await;
    c.faults.cut(true);
    let mut bob = Guest::connect(&b, "bob");
    bob.expect_match(&session, "ann", false).await;
    ann.expect("partner-disconnected").await;
    ann.expect_match(&session, "bob", true).await;
    // The old connection ends without having heard of the new one, and leaves its own end behind.
    b.faults.cut(true);
    drop(old_bob);
    deployment.store.lose_everything();
    c.faults.cut(false);
    ann.expect("partner-disconnected").await;
    assert_eq!(attached(&deployment, &session).await, [true, false]);
    // The new one leads on from the same record, in a store that has lost that again.
    a.faults.cut(true);
    deployment.store.lose_everything();
    b.faults.cut(false);
    time::sleep(Duration::from_secs(6)).await;
    a.faults.cut(false);
    time::sleep(Duration::from_secs(30)).await;
    assert_eq!(attached(&deployment, &session).await, [true, true]);
    hear_each_other(&mut ann, &mut bob, &session).await;
}

/// Bob, on `b`, hears that Ann was detached, which the store knows nothing of.
async fn tell_of_a_lost_write(deployment: &Deployment, b: &Node, record: &SessionRecord) {
    let [ann, bob] = record.participants.each_ref().map(|p| p.connection().unwrap().clone());
    let (now, abandon_after) = (SystemClock.now(), Duration::from_secs(60));
    let lost = record.detach(&ann, PartnerReason::Lost, now, abandon_after).unwrap();
    deployment.bus.publish(b.relay.node_id(), &[changed(&bob, lost)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn news_of_a_write_that_the_store_lost_leaves_nobody_believing_it_alone() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    let record = deployment.store.load(&session).await.unwrap().unwrap();
    tell_of_a_lost_write(&deployment, &b, &record).await;
    bob.expect("partner-disconnected").await;
    time::sleep(Duration::from_secs(25)).await;
    hear_each_other(&mut ann, &mut bob, &session).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_in_the_place_of_a_lost_one_is_not_taken_for_it() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    let record = deployment.store.load(&session).await.unwrap().unwrap();
    tell_of_a_lost_write(&deployment, &b, &record).await;
    bob.expect("partner-disconnected").await;
    let SessionRecord { opening, revision, participants, .. } = record;
    let other = SessionRecord::stored(session.clone(), opening, revision + 1, participants);
    deployment.store.lose_everything();
    assert_eq!(deployment.store.put(&other, None).await.unwrap(), Written::Done);
    time::sleep(Duration::from_secs(25)).await;
    hear_each_other(&mut ann, &mut bob, &session).await;
}

/// As a server does that is restored from the same snapshot twice.
#[tokio::test(start_paused = true)]
async fn an_older_opening_that_comes_back_is_opened_again() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    let before = deployment.store.load(&session).await.unwrap().unwrap();
    for _ in 0..2 {
        deployment.store.lose_everything();
        assert_eq!(deployment.store.put(&before, None).await.unwrap(), Written::Done);
        time::sleep(Duration::from_secs(7)).await;
        deployment.store.lose_everything();
        time::sleep(Duration::from_secs(7)).await;
    }
    assert_eq!(attached(&deployment, &session).await, [true, true]);
    ann.signal(&session, "offer", "o").await;
    bob.expect("offer o").await;
    bob.signal(&session, "answer", "a").await;
    ann.expect("answer a").await;
    drop(ann);
    bob.expect("partner-disconnected").await;
    bob.expect_nothing().await;
}

/// The store was restarted and lost nothing of the session, and a newer connection has attached to it.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_replaced_connection_does_not_open_its_session_again() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut ann, mut older, session) = matched(&a, &b).await;
    let before = deployment.store.load(&session).await.unwrap().unwrap();
    deployment.store.lose_everything();
    assert_eq!(deployment.store.put(&before, None).await.unwrap(), Written::Done);
    for name in ["ann", "bob"] {
        let joined = deployment.store.join(&user(name), &session, 1).await.unwrap();
        assert!(matches!(joined, Joined::Done(_)));
    }
    let mut bob = Guest::connect(&a, "bob");
    bob.expect_match(&session, "ann", false).await;
    ann.expect("partner-disconnected").await;
    ann.expect_match(&session, "bob", true).await;
    older.expect_close(4409).await;
    time::sleep(Duration::from_secs(7)).await;
    ann.expect_nothing().await;
    bob.expect_nothing().await;
    let record = deployment.store.load(&session).await.unwrap().unwrap();
    assert_eq!((record.opening, record.status()), (before.opening, Status::Active));
}
