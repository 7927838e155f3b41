//! Redis is slow, frozen, cut off, or restarted empty. One row each of the fault table in the README.

use std::time::Duration;

use signaling_core::{
    id::SessionId,
    session::Role,
    testing::{guest::Guest, wire::Received},
    time::{Clock, SystemClock, Timestamp},
};
use signaling_redis::testing::Server;
use tokio::time;

use crate::harness::{
    Node, is_active_on, matched, next_but_losses, now, pair, talk, talk_again, until, user,
};

/// The longest that anybody waits for Redis, and a little.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(2_500);
/// In which all is well again when Redis is back.
const HEALED: Duration = Duration::from_secs(2);

/// Two nodes, a pair on one of them and a pair across both.
struct Scene {
    server: Server,
    a: Node,
    b: Node,
    local: (Guest, Guest, SessionId),
    across: (Guest, Guest, SessionId),
}

impl Scene {
    async fn new() -> Self {
        let server = Server::start();
        let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
        let local = pair(&a, &a, ["cat", "dan"]).await;
        let across = matched(&a, &b).await;
        Self { server, a, b, local, across }
    }

    /// The pair on one node goes on as if nothing was: one signal that waited for Redis would take
    /// the command timeout.
    async fn local_pair_talks(&mut self, what: &str) {
        let (cat, dan, session) = &mut self.local;
        let started = now();
        for n in 0..20 {
            talk(cat, dan, session, &format!("{what} {n}")).await;
        }
        assert!(started.elapsed() < COMMAND_TIMEOUT, "{:?}", started.elapsed());
    }

    /// While Redis is away: who speaks across is told, newcomers and new sessions are refused, and
    /// nobody waits for longer than the command timeout.
    async fn what_needs_redis_is_unavailable(&mut self) {
        let (ann, _, session) = &mut self.across;
        let started = now();
        ann.signal(session, "offer", "lost").await;
        ann.expect("error unavailable").await;
        assert!(started.elapsed() < COMMAND_TIMEOUT, "signal: {:?}", started.elapsed());

        let started = now();
        let mut eve = self.a.connect("eve");
        eve.expect_close(4503).await;
        assert!(started.elapsed() < COMMAND_TIMEOUT, "connect: {:?}", started.elapsed());

        let started = now();
        assert!(self.a.relay.open_session(&user("eve"), &user("fay")).await.is_err());
        assert!(started.elapsed() < COMMAND_TIMEOUT, "open: {:?}", started.elapsed());
    }

    /// All is as it was, and whoever was there has been told of nobody's loss.
    async fn all_is_well(&mut self) {
        let Self { a, b, local, across, .. } = self;
        let (cat, dan, local) = local;
        let (ann, bob, session) = across;
        let back = now();
        for node in [&*a, &*b] {
            node.until_ready(true).await;
        }
        assert!(back.elapsed() < HEALED, "ready after {:?}", back.elapsed());
        let true_again =
            async || is_active_on(a, session, a, b).await && is_active_on(b, local, a, a).await;
        until("the records are true", true_again).await;
        assert!(back.elapsed() < HEALED, "true after {:?}", back.elapsed());
        talk_again(ann, bob, session, HEALED).await;
        talk(cat, dan, local, "well").await;
        // What was asked for her while Redis was away may have been done, and was undone.
        let gone = async || !a.relay.is_connected(&user("eve")).await.unwrap();
        until("who was refused is not connected", gone).await;
        b.connect("iris").settled().await;
        // A node goes by the store's clock, which it knows to a few milliseconds.
        let before = Timestamp::from_millis(SystemClock.now().as_millis() - 10);
        ann.settled().await;
        let beat = async || {
            let record = b.record(session).await.unwrap();
            record.participant(Role::Initiator).last_heartbeat >= Some(before)
        };
        let late = until("the heartbeat is written", beat).await;
        assert!(late < Duration::from_secs(1), "{late:?}");
        let _new = pair(a, b, ["jan", "kim"]).await;
        for guest in [ann, bob, cat, dan] {
            guest.settled().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn slow() {
    let mut scene = Scene::new().await;
    for n in 0..5 {
        scene.server.cli(&["client", "pause", "700", "all"]);
        scene.local_pair_talks(&format!("slow {n}")).await;
        let (ann, bob, session) = &mut scene.across;
        let started = now();
        talk(ann, bob, session, "slow").await;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        let mut eve = scene.b.connect("eve");
        eve.settled().await;
        assert!(scene.a.relay.is_ready());
    }
    scene.all_is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn frozen_for_fifteen_seconds() {
    let mut scene = Scene::new().await;
    scene.server.freeze();
    let frozen = now();
    scene.local_pair_talks("frozen").await;
    scene.what_needs_redis_is_unavailable().await;
    for node in [&scene.a, &scene.b] {
        node.until_ready(false).await;
    }
    assert!(frozen.elapsed() < Duration::from_secs(12), "{:?}", frozen.elapsed());
    while frozen.elapsed() < Duration::from_secs(15) {
        scene.local_pair_talks("still frozen").await;
        time::sleep(Duration::from_millis(500)).await;
    }
    scene.server.thaw();
    scene.all_is_well().await;
    // Nobody is given up later for what could not be written meanwhile.
    time::sleep(Duration::from_secs(12)).await;
    scene.all_is_well_without_newcomers().await;
}

impl Scene {
    async fn all_is_well_without_newcomers(&mut self) {
        let (ann, bob, session) = &mut self.across;
        talk(ann, bob, session, "later").await;
        assert!(is_active_on(&self.a, session, &self.a, &self.b).await);
        self.local_pair_talks("later").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn cut() {
    let mut scene = Scene::new().await;
    for n in 0..5 {
        scene.server.cut_clients();
        let cut = now();
        let (ann, bob, session) = &mut scene.across;
        talk(ann, bob, session, "cut").await;
        assert!(cut.elapsed() < HEALED, "{:?}", cut.elapsed());
        scene.local_pair_talks(&format!("cut {n}")).await;
        let mut eve = scene.b.connect("eve");
        eve.settled().await;
        let names = [format!("hal-{n}"), format!("ida-{n}")];
        let _new = pair(&scene.a, &scene.b, names.each_ref().map(String::as_str)).await;
    }
    scene.all_is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn killed_and_restarted_empty() {
    let mut scene = Scene::new().await;
    // One participant was absent before.
    let (mut gus, hal, absent) = pair(&scene.a, &scene.b, ["gus", "hal"]).await;
    drop(hal);
    gus.expect("partner-disconnected").await;
    scene.server.kill();
    let killed = now();
    scene.local_pair_talks("killed").await;
    scene.what_needs_redis_is_unavailable().await;
    for node in [&scene.a, &scene.b] {
        node.until_ready(false).await;
    }
    while killed.elapsed() < Duration::from_secs(6) {
        scene.local_pair_talks("still away").await;
        time::sleep(Duration::from_millis(500)).await;
    }
    scene.server.restart();
    scene.all_is_well().await;
    let mut hal = scene.b.connect("hal");
    hal.expect_match(&absent, "gus", false).await;
    gus.expect_match(&absent, "hal", true).await;
    time::sleep(Duration::from_secs(12)).await;
    scene.all_is_well_without_newcomers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn emptied_without_a_restart() {
    let mut scene = Scene::new().await;
    scene.server.cli(&["flushall"]);
    scene.local_pair_talks("emptied").await;
    let (a, b, (_, _, session)) = (&scene.a, &scene.b, &scene.across);
    let reopened =
        until("the session is open again", async || is_active_on(a, session, a, b).await).await;
    assert!(reopened < Duration::from_secs(8), "{reopened:?}");
    scene.all_is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_is_lost_while_redis_is_away_is_told_of() {
    let mut scene = Scene::new().await;
    scene.server.kill();
    let (cat, dan, _) = scene.local;
    drop(dan);
    let mut cat = cat;
    let lost = now();
    cat.expect("partner-disconnected").await;
    assert!(lost.elapsed() < Duration::from_secs(1), "{:?}", lost.elapsed());
    let (mut ann, bob, session) = scene.across;
    drop(bob);
    time::sleep(Duration::from_secs(4)).await;
    scene.server.restart();
    let back = now();
    assert_eq!(next_but_losses(&mut ann).await["type"], "partner-disconnected");
    println!("told {:?} after the return", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(30), "{:?}", back.elapsed());
    let gone = async || {
        let record = scene.a.record(&session).await;
        record.is_some_and(|record| record.participant(Role::Responder).connection().is_none())
    };
    until("the record is true", gone).await;
    let mut bob = scene.b.connect("bob");
    bob.expect_match(&session, "ann", false).await;
    ann.expect_match(&session, "bob", true).await;
    talk_again(&mut ann, &mut bob, &session, HEALED).await;
    assert!(!matches!(
        time::timeout(Duration::from_secs(1), cat.next()).await,
        Ok(Received::Text(_))
    ));
}
