//! Signals and reconnects while the connections to Redis are cut again and again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signaling_core::testing::{guest::Guest, wire::Received};
use signaling_redis::testing::Server;
use tokio::{task::JoinHandle, time};

use crate::harness::{Node, is_active_on, matched, now, talk, until, user};

/// Cuts all connections every so often, until it is stopped.
struct Cutter {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u32>,
}

impl Cutter {
    fn start(server: Arc<Server>, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut cuts = 0;
            while !stopped.load(Ordering::SeqCst) {
                time::sleep(every).await;
                let server = server.clone();
                tokio::task::spawn_blocking(move || server.cut_clients()).await.unwrap();
                cuts += 1;
            }
            cuts
        });
        Self { stop, task }
    }

    async fn stop(self) -> u32 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

/// What one side has seen of the other's numbered signals.
#[derive(Default)]
struct Heard {
    numbers: Vec<u32>,
    unavailable: usize,
    disconnected: usize,
}

impl Heard {
    /// Notes all that comes until nothing does for `quiet`.
    async fn listen(&mut self, guest: &mut Guest, quiet: Duration) {
        while let Ok(received) = time::timeout(quiet, guest.next()).await {
            let Received::Text(text) = received else { panic!("{received:?}") };
            let message: serde_json::Value = serde_json::from_str(&text).unwrap();
            match message["type"].as_str().unwrap() {
                "offer" => self.numbers.push(message["sdp"].as_str().unwrap().parse().unwrap()),
                "error" if message["code"] == "unavailable" => self.unavailable += 1,
                "partner-disconnected" => self.disconnected += 1,
                "match-found" => {}
                other => panic!("{other}: {text}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn signals_arrive_once_and_in_order_or_their_sender_is_told() {
    let server = Arc::new(Server::start());
    let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    let cutter = Cutter::start(server.clone(), Duration::from_millis(1_000));
    let (mut told, mut heard) = (Heard::default(), Heard::default());
    for n in 0..400 {
        ann.signal(&session, "offer", &n.to_string()).await;
        told.listen(&mut ann, Duration::from_millis(30)).await;
    }
    let cuts = cutter.stop().await;
    told.listen(&mut ann, Duration::from_secs(3)).await;
    heard.listen(&mut bob, Duration::from_secs(2)).await;
    println!(
        "{cuts} cuts: {} of 400 arrived, sender told of {}",
        heard.numbers.len(),
        told.unavailable
    );
    assert!(cuts >= 10, "{cuts} cuts");
    assert!(heard.numbers.is_sorted_by(|a, b| a < b), "out of order or twice: {:?}", heard.numbers);
    assert!(heard.numbers.len() + told.unavailable >= 400, "lost in silence");
    assert_eq!((told.disconnected, heard.disconnected), (0, 0), "nobody was lost");
    talk(&mut ann, &mut bob, &session, "1000").await;
    assert!(is_active_on(&a, &session, &a, &b).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_user_that_hops_between_nodes_leaves_no_ghost() {
    let server = Arc::new(Server::start());
    let (a, b) = (Node::start(&server.url()).await, Node::start(&server.url()).await);
    let (ann, mut bob, session) = matched(&a, &b).await;
    let cutter = Cutter::start(server.clone(), Duration::from_millis(1_500));
    let (mut last, mut admitted) = (ann, 0);
    let started = now();
    for n in 0..1_000 {
        let node = if n % 2 == 0 { &b } else { &a };
        let next = node.connect("ann");
        // Some come before the one before them is through, some after.
        if n % 3 == 0 {
            time::sleep(Duration::from_millis(n % 40)).await;
        } else {
            admitted += 1;
            let waited = time::timeout(Duration::from_secs(5), async {
                let mut next = next;
                let first = next.next().await;
                (next, first)
            });
            last = match waited.await {
                Ok((next, Received::Text(_))) => next,
                // Refused while Redis was away; the user tries again.
                Ok((next, _)) => next,
                Err(_) => panic!("number {n} heard nothing for 5 s"),
            };
            continue;
        }
        last = next;
    }
    let cuts = cutter.stop().await;
    drop(last);
    let mut ann = a.connect("ann");
    println!("{admitted} of 1,000 waited, {cuts} cuts, {:?}", started.elapsed());
    ann.expect_match(&session, "bob", true).await;
    let one_left = async || a.relay.connections() + b.relay.connections() == 2;
    until("only ann and bob are left", one_left).await;
    let well = until("the hash is true", async || is_active_on(&a, &session, &a, &b).await).await;
    println!("true after {well:?}");
    let connection = a.redis.store();
    let known =
        signaling_core::store::SessionStore::user(&*connection, &user("ann")).await.unwrap();
    assert_eq!(known.connection.unwrap().node(), a.relay.node_id());
    let mut heard = Heard::default();
    heard.listen(&mut bob, Duration::from_secs(1)).await;
    talk(&mut ann, &mut bob, &session, "7").await;
    ann.settled().await;
    bob.settled().await;
}
