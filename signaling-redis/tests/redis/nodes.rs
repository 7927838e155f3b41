//! A node is killed, or cut off from Redis alone.

use std::time::Duration;

use signaling_core::{
    frame::CloseReason,
    testing::{
        simulation::{Loss, Simulation, Summary},
        wire::Received,
    },
};
use signaling_redis::{Redis, Settings, fred::interfaces::ClientLike, testing::Server};
use tokio::time;

use crate::{
    harness::{
        Node, is_active_on, matched, next_but_losses, now, pair, talk, talk_again, until, user,
    },
    proxy::{Mode, Proxy},
};

/// In which partners are told of a node's death.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn partners_of_a_killed_node_are_told_in_time_and_once() {
    let server = Server::start();
    let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
    let c = Node::start(&server.url()).await;
    let mut pairs = Vec::new();
    for n in 0..50 {
        pairs.push(pair(&a, &b, [&format!("ann-{n}"), &format!("bob-{n}")]).await);
    }
    let mut local = pair(&b, &b, ["cat", "dan"]).await;
    // The tests' own guests of the node vanish with it.
    let killed = now();
    a.kill();
    let (mut eve, mut fay, new) = pair(&b, &c, ["eve", "fay"]).await;
    talk(&mut eve, &mut fay, &new, "meanwhile").await;
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    let mut bobs = Vec::new();
    for (ann, mut bob, session) in pairs {
        bob.expect("partner-disconnected").await;
        bobs.push((bob, session));
        drop(ann);
    }
    let last = killed.elapsed();
    println!("the last of 50 was told after {last:?}");
    assert!(last < LIMIT, "{last:?}");
    talk(&mut local.0, &mut local.1, &local.2, "still here").await;
    time::sleep(Duration::from_secs(10)).await;
    for (bob, session) in &mut bobs {
        bob.settled().await;
        let record = c.record(session).await.unwrap();
        assert_eq!(record.participants[0].connection(), None);
    }
    assert!(server.cli(&["zcard", "session:{nodes}:leases"]) == "2", "the dead one is forgotten");
    let (bob, session) = &mut bobs[0];
    let mut ann = c.connect("ann-0");
    ann.expect_match(session, "bob-0", true).await;
    bob.expect_match(session, "ann-0", false).await;
    talk(&mut ann, bob, session, "again").await;
}

/// Node a is behind a proxy, node b is not.
async fn behind_a_proxy() -> (Server, Proxy, Node, Node) {
    let server = Server::start();
    let proxy = Proxy::before(server.port()).await;
    let (a, b) = (Node::start(&proxy.url()).await, Node::start(&server.url()).await);
    (server, proxy, a, b)
}

async fn cut_off_alone(mode: Mode) {
    let (_server, proxy, a, b) = behind_a_proxy().await;
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    let (mut cat, mut dan, local) = pair(&a, &a, ["cat", "dan"]).await;
    let mut gus = a.connect("gus");
    gus.settled().await;
    proxy.set(mode);
    let cut = now();
    let mut moved = b.connect("gus");
    moved.settled().await;
    talk(&mut cat, &mut dan, &local, "cut off").await;
    a.connect("eve").expect_close(4503).await;
    assert!(a.relay.open_session(&user("eve"), &user("fay")).await.is_err());
    let _new = pair(&b, &b, ["hal", "ida"]).await;
    assert!(cut.elapsed() < Duration::from_secs(6), "{:?}", cut.elapsed());
    ann.signal(&session, "offer", "lost").await;
    ann.expect("error unavailable").await;
    a.until_ready(false).await;
    assert!(b.relay.is_ready());
    bob.expect("partner-disconnected").await;
    assert!(cut.elapsed() < LIMIT, "{:?}", cut.elapsed());
    talk(&mut cat, &mut dan, &local, "still cut off").await;
    proxy.set(Mode::Pass);
    let healed = a.until_ready(true).await;
    // An attempt that was swallowed takes the command timeout to be given up.
    assert!(healed < Duration::from_millis(4_500), "{healed:?}");
    let started = now();
    assert_eq!(next_but_losses(&mut ann).await["type"], "match-found");
    bob.expect_match(&session, "ann", false).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    talk_again(&mut ann, &mut bob, &session, Duration::from_secs(2)).await;
    assert!(is_active_on(&b, &session, &a, &b).await);
    gus.expect_close(4409).await;
    moved.settled().await;
    let there =
        until("the local pair is there again", async || is_active_on(&b, &local, &a, &a).await);
    there.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_cut_off_alone_finds_out_and_comes_back() {
    cut_off_alone(Mode::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_whose_packets_are_swallowed_finds_out_and_comes_back() {
    cut_off_alone(Mode::Swallow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_published_while_a_reader_is_away_arrives_when_it_is_back() {
    use futures::StreamExt;
    use signaling_core::{
        bus::{Delivery, MessageBus},
        id::NodeId,
        testing::bus::envelope,
    };
    let server = Server::start();
    let proxy = Proxy::before(server.port()).await;
    let connect = async |url: String| Redis::connect(Settings::url(&url).unwrap()).await.unwrap();
    let (reader, writer) = (connect(proxy.url()).await, connect(server.url()).await);
    let node = NodeId::new("reader").unwrap();
    let mut inbox = reader.bus().subscribe(&node).await.unwrap();
    let mut number = 0;
    for mode in [Mode::Cut, Mode::Swallow, Mode::Cut] {
        proxy.set(mode);
        for _ in 0..100 {
            writer.bus().publish(&node, &[envelope(&node, number)]).await.unwrap();
            number += 1;
        }
        time::sleep(Duration::from_secs(1)).await;
        proxy.set(Mode::Pass);
        let back = now();
        for expected in number - 100..number {
            let next = time::timeout(Duration::from_secs(20), inbox.next()).await.unwrap();
            assert_eq!(next, Some(Delivery::Envelope(envelope(&node, expected))), "{mode:?}");
        }
        println!("{mode:?}: all there {:?} after the return", back.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lost_stream_is_a_gap() {
    use futures::StreamExt;
    use signaling_core::{
        bus::{BusError, Delivery, MessageBus},
        id::NodeId,
        testing::bus::envelope,
    };
    let mut server = Server::start();
    let redis = Redis::connect(Settings::url(&server.url()).unwrap()).await.unwrap();
    let (bus, node) = (redis.bus(), NodeId::new("reader").unwrap());
    let mut inbox = bus.subscribe(&node).await.unwrap();
    let mut next = async || time::timeout(Duration::from_secs(5), inbox.next()).await.unwrap();
    for n in 0..4 {
        match n {
            0 => drop(server.cli(&["del", "session:inbox:reader"])),
            1 => drop(server.cli(&["flushall"])),
            2 => server.restart(),
            _ => drop(server.cli(&["xadd", "session:inbox:reader", "*", "what", "is this"])),
        }
        if n == 0 {
            let nobody = bus.publish(&node, &[envelope(&node, n)]).await;
            assert!(matches!(nobody, Err(BusError::NoInbox(_))), "{nobody:?}");
        }
        assert_eq!(next().await, Some(Delivery::Gap), "case {n}");
        bus.publish(&node, &[envelope(&node, n)]).await.unwrap();
        assert_eq!(next().await, Some(Delivery::Envelope(envelope(&node, n))), "case {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_ends_leaves_nothing_of_itself() {
    let server = Server::start();
    let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
    let (mut ann, mut bob, _) = matched(&a, &b).await;
    let _ = a.relay.shutdown(Duration::from_secs(5)).await;
    ann.expect_close(1001).await;
    bob.expect("partner-disconnected").await;
    let id = a.relay.node_id().to_string();
    a.kill();
    let keys = server.cli(&["keys", "*"]);
    assert!(!keys.contains(&id), "{keys}");
    assert!(!server.cli(&["zrange", "session:{nodes}:leases", "0", "-1"]).contains(&id));
    let clients = async || {
        let clients = server.cli(&["client", "list", "type", "normal"]);
        // Three of node b, and the one that asks.
        clients.lines().count() == 4
    };
    until("the connections are closed", clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_deployment_answers_for_who_is_connected() {
    let server = Server::start();
    let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
    let mut ann = a.connect("ann");
    ann.settled().await;
    assert!(b.relay.is_connected(&user("ann")).await.unwrap());
    assert!(b.relay.disconnect(&user("ann"), CloseReason::default()).await.unwrap());
    match ann.next().await {
        Received::Closed(Some(close)) => assert_eq!(close.code, 1000),
        other => panic!("{other:?}"),
    }
    until("ann is gone", async || !b.relay.is_connected(&user("ann")).await.unwrap()).await;
}

/// The engine's own simulation, on real Redis and in real time, all seeds at once. In every other
/// one, Redis is emptied now and then; in two of three, clients go on with their negotiations.
#[tokio::test]
async fn promises_of_the_engine_hold() {
    let seeds = std::env::var("SIMULATION_SEEDS").map_or(6, |seeds| seeds.parse().unwrap());
    let runs = (0..seeds).map(|seed| std::thread::spawn(move || simulate(seed)));
    let mut delivered = 0;
    for run in runs.collect::<Vec<_>>() {
        let summary = run.join().expect("the promises hold");
        println!("{summary:?}");
        delivered += summary.delivered;
    }
    assert!(delivered > 0, "hardly anything happened");
}

fn simulate(seed: u64) -> Summary {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let redis = Redis::connect(Settings::url(&server.url()).unwrap()).await.unwrap();
        let mut simulation = Simulation::new(seed);
        simulation.continuing = !seed.is_multiple_of(3);
        (simulation.steps, simulation.users) = (40, 3);
        if seed % 2 == 1 {
            let client = redis.client().clone();
            simulation.loss = Some(Loss::by(move || {
                let client = client.clone();
                async move { client.flushall::<()>(false).await.unwrap() }
            }));
        }
        simulation.run(redis.store(), redis.bus()).await
    })
}
