//! What the bus promises beyond what every bus does.

use std::time::Duration;

use futures::StreamExt;
use signaling_core::{
    bus::{BusError, Delivery, Envelope, Inbox, MessageBus},
    id::NodeId,
};
use signaling_redis::{Redis, RedisBus, Settings, testing::Server};
use tokio::{sync::mpsc, time};

use crate::harness::until;

const INBOX: &str = "session:inbox:reader";
/// How many entries it has, times 2^36, and how many bytes are not read yet.
const HOLDS: &str = "session:inbox-holds:{session:inbox:reader}";
/// One entry is always left.
const NOTHING: i64 = 1 << 36;

fn reader() -> NodeId {
    NodeId::new("reader").unwrap()
}

fn envelope(number: u64) -> Envelope {
    signaling_core::testing::bus::envelope(&reader(), number)
}

async fn connect(server: &Server, capacity: usize) -> (Redis, RedisBus) {
    connect_with(Settings::url(&server.url()).unwrap().inbox_capacity(capacity)).await
}

async fn connect_with(settings: Settings) -> (Redis, RedisBus) {
    let redis = Redis::connect(settings).await.unwrap();
    let bus = (*redis.bus()).clone();
    (redis, bus)
}

async fn next(inbox: &mut Inbox) -> Delivery {
    time::timeout(Duration::from_secs(5), inbox.next()).await.unwrap().unwrap()
}

async fn nothing_more(inbox: &mut Inbox) {
    let more = time::timeout(Duration::from_millis(2_500), inbox.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_inbox_holds_so_many_and_no_part_of_what_does_not_fit() {
    let server = Server::start();
    let (_redis, bus) = connect(&server, 5).await;
    let nobody = bus.publish(&reader(), &[envelope(0)]).await;
    assert!(matches!(nobody, Err(BusError::NoInbox(_))), "{nobody:?}");
    let mut inbox = bus.subscribe(&reader()).await.unwrap();
    // The entry that opened it is one of the five, and each has up to sixteen envelopes.
    let too_many: Vec<_> = (100..165).map(envelope).collect();
    let full = bus.publish(&reader(), &too_many).await;
    assert!(matches!(full, Err(BusError::Full(_))), "{full:?}");
    let fits: Vec<_> = (0..64).map(envelope).collect();
    bus.publish(&reader(), &fits).await.unwrap();
    let full = bus.publish(&reader(), &[envelope(64)]).await;
    assert!(matches!(full, Err(BusError::Full(_))), "{full:?}");
    for n in 0..64 {
        assert_eq!(next(&mut inbox).await, Delivery::Envelope(envelope(n)));
    }
    nothing_more(&mut inbox).await;
    bus.publish(&reader(), &[envelope(65)]).await.unwrap();
    assert_eq!(next(&mut inbox).await, Delivery::Envelope(envelope(65)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_read_is_removed_in_a_burst_as_when_idle() {
    let server = Server::start();
    let (_redis, bus) = connect(&server, 2_000).await;
    let mut inbox = bus.subscribe(&reader()).await.unwrap();
    let length = || server.cli(&["xlen", INBOX]).parse::<usize>().unwrap();
    for n in 0..1_400 {
        bus.publish(&reader(), &[envelope(n)]).await.unwrap();
    }
    let started = crate::harness::now();
    for n in 0..1_400 {
        assert_eq!(next(&mut inbox).await, Delivery::Envelope(envelope(n)));
    }
    let read = started.elapsed();
    if read < Duration::from_millis(500) {
        assert!(length() < 700, "{} are left after {read:?}", length());
    }
    let reading = tokio::spawn(async move { inbox.next().await });
    until("only the last one is left", async || length() <= 1).await;
    reading.abort();
}

/// Once, and what is published after it arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_inbox_that_was_lost_is_one_gap() {
    let server = Server::start();
    let (_redis, bus) = connect(&server, 99).await;
    let mut inbox = bus.subscribe(&reader()).await.unwrap();
    for what in [
        // The script that opens it again ran twice, since its first answer was lost.
        "redis.call('DEL', KEYS[1]) redis.call('XADD', KEYS[1], '*', 'opened', '')",
        // By a server whose clock is behind.
        "redis.call('DEL', KEYS[1]) redis.call('XADD', KEYS[1], '1-1', 'opened', '')",
        "redis.call('DEL', KEYS[1])",
    ] {
        server.cli(&["eval", what, "1", INBOX]);
        assert_eq!(next(&mut inbox).await, Delivery::Gap, "{what}");
        nothing_more(&mut inbox).await;
        bus.publish(&reader(), &[envelope(1)]).await.unwrap();
        assert_eq!(next(&mut inbox).await, Delivery::Envelope(envelope(1)), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_with_another_history_is_one_gap() {
    let mut server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (_redis, bus) = connect(&server, 99).await;
    let mut inbox = bus.subscribe(&reader()).await.unwrap();
    bus.publish(&reader(), &[envelope(1)]).await.unwrap();
    assert_eq!(next(&mut inbox).await, Delivery::Envelope(envelope(1)));
    let reading = tokio::spawn(async move { (next(&mut inbox).await, inbox) });
    server.restart();
    assert_eq!(server.cli(&["exists", INBOX]), "1");
    let (first, mut inbox) = reading.await.unwrap();
    assert_eq!(first, Delivery::Gap);
    nothing_more(&mut inbox).await;
    bus.publish(&reader(), &[envelope(2)]).await.unwrap();
    assert_eq!(next(&mut inbox).await, Delivery::Envelope(envelope(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_inbox_lives_as_long_as_its_reader() {
    let server = Server::start();
    let (_redis, bus) = connect(&server, 99).await;
    let mut inbox = bus.subscribe(&reader()).await.unwrap();
    assert_eq!(server.cli(&["pexpire", INBOX, "3000"]), "1");
    nothing_more(&mut inbox).await;
    let left: u64 = server.cli(&["pttl", INBOX]).parse().unwrap();
    assert!(left > 50_000, "{left} ms");
}

fn holds(server: &Server) -> i64 {
    server.cli(&["get", HOLDS]).parse().unwrap()
}

fn unread(server: &Server) -> i64 {
    holds(server) % (1 << 36)
}

/// What one task publishes together, as long as a busy node does.
fn batch(from: u64) -> Vec<Envelope> {
    (from..from + 128).map(envelope).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_does_not_read_takes_no_more_than_so_many_bytes() {
    const BOUND: i64 = 256 * 1024;
    let server = Server::start();
    let settings = Settings::url(&server.url()).unwrap().inbox_bytes(BOUND as usize);
    let (_redis, bus) = connect_with(settings).await;
    // Nothing is read before it is asked for.
    let mut inbox = bus.subscribe(&reader()).await.unwrap();
    let before = used_memory(&server);
    let mut number = 0;
    let full = loop {
        match bus.publish(&reader(), &batch(number)).await {
            Ok(()) => number += 128,
            Err(full) => break full,
        }
    };
    assert!(matches!(full, BusError::Full(_)), "{full:?}");
    assert!((BOUND - 8 * 1024..=BOUND).contains(&unread(&server)), "{}", unread(&server));
    let taken = used_memory(&server) - before;
    assert!(taken < 2 * BOUND, "{taken} bytes for {BOUND}");
    // What does not fit leaves no trace, and what is read makes room.
    let refused = bus.publish(&reader(), &batch(number)).await;
    assert!(matches!(refused, Err(BusError::Full(_))), "{refused:?}");
    for n in 0..number {
        assert_eq!(next(&mut inbox).await, Delivery::Envelope(envelope(n)));
    }
    nothing_more(&mut inbox).await;
    until("it is empty", async || holds(&server) == NOTHING).await;
    bus.publish(&reader(), &batch(number)).await.unwrap();
    assert!(server.cli(&["pttl", HOLDS]).parse::<i64>().unwrap() > 30_000);
}

fn used_memory(server: &Server) -> i64 {
    let info = server.cli(&["info", "memory"]);
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    used.unwrap().trim().parse().unwrap()
}

/// A reader that passes on what it reads, as a node does.
fn read_on(mut inbox: Inbox) -> mpsc::Receiver<Delivery> {
    let (read, deliveries) = mpsc::channel(100_000);
    tokio::spawn(async move {
        while let Some(delivery) = inbox.next().await {
            let _ = read.send(delivery).await;
        }
    });
    deliveries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_bytes_are_counted_once_while_connections_are_cut() {
    let server = Server::start();
    let (_redis, bus) = connect(&server, 10_000).await;
    let mut deliveries = read_on(bus.subscribe(&reader()).await.unwrap());
    let mut published = 0;
    for round in 0..30 {
        for _ in 0..10 {
            if bus.publish(&reader(), &batch(0)).await.is_ok() {
                published += 128;
            }
        }
        if round % 3 == 0 {
            server.cut_clients();
        }
        let count = unread(&server);
        assert!((0..=6_000_000).contains(&count), "{count} in round {round}");
    }
    for _ in 0..published {
        time::timeout(Duration::from_secs(5), deliveries.recv()).await.unwrap().unwrap();
    }
    until("all is counted as read", async || holds(&server) == NOTHING).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_inbox_is_read_and_counted_while_the_server_has_no_memory() {
    let server = Server::start();
    let (_redis, bus) = connect(&server, 10_000).await;
    let inbox = bus.subscribe(&reader()).await.unwrap();
    for n in 0..400 {
        bus.publish(&reader(), &[envelope(n)]).await.unwrap();
    }
    server.cli(&["config", "set", "maxmemory", "1"]);
    let mut deliveries = read_on(inbox);
    for n in 0..400 {
        let next = time::timeout(Duration::from_secs(5), deliveries.recv()).await.unwrap();
        assert_eq!(next, Some(Delivery::Envelope(envelope(n))));
    }
    let refused = bus.publish(&reader(), &[envelope(400)]).await;
    assert!(matches!(refused, Err(BusError::Refused(_))), "{refused:?}");
    // The reader has looked after its inbox meanwhile.
    let more = time::timeout(Duration::from_millis(2_500), deliveries.recv()).await;
    assert!(more.is_err(), "{more:?}");
    server.cli(&["config", "set", "maxmemory", "0"]);
    bus.publish(&reader(), &[envelope(400)]).await.unwrap();
    let next = time::timeout(Duration::from_secs(5), deliveries.recv()).await.unwrap();
    assert_eq!(next, Some(Delivery::Envelope(envelope(400))));
    until("the count is true", async || holds(&server) == NOTHING).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn garbage_in_an_inbox_is_a_gap_and_what_follows_it_arrives() {
    let server = Server::start();
    let (redis, bus) = connect(&server, 99).await;
    let mut deliveries = read_on(bus.subscribe(&reader()).await.unwrap());
    let good = serde_json::to_string(&envelope(7)).unwrap();
    let entry = |text: &str| format!("redis.call('XADD', KEYS[1], '*', 'envelopes', '{text}')");
    let mixed = entry(&format!("[1, {good}, {{\"what\":{{}}}}, [], {good}]"));
    for (script, delivered) in [
        (mixed, 2),
        (entry(""), 0),
        (entry("what"), 0),
        (entry("[[[["), 0),
        (entry(r"\\255"), 0),
        (entry(&"[".repeat(10_000)), 0),
        ("redis.call('XADD', KEYS[1], '*', 'what', 'ever')".to_owned(), 0),
        (r"redis.call('XADD', KEYS[1], '*', '\255', '\255', '', '')".to_owned(), 0),
        ("redis.call('XADD', KEYS[1], '*', 'opened', '')".to_owned(), 0),
        ("redis.call('SET', KEYS[1], 'what')".to_owned(), 0),
        ("redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 'what')".to_owned(), 0),
        ("redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)".to_owned(), 0),
        (
            "redis.call('XADD', KEYS[1], '18446744073709551615-18446744073709551615', 'a', 'b')"
                .to_owned(),
            0,
        ),
    ] {
        server.cli(&["eval", &script, "1", INBOX]);
        let mut got = 0;
        let gap = async {
            loop {
                match deliveries.recv().await.unwrap() {
                    Delivery::Gap => break,
                    Delivery::Envelope(other) => assert_eq!(other, envelope(7), "{script}"),
                }
                got += 1;
            }
        };
        time::timeout(Duration::from_secs(5), gap).await.expect(&script);
        until("publishing works", async || bus.publish(&reader(), &[envelope(1)]).await.is_ok())
            .await;
        while let Some(delivery) = deliveries.recv().await {
            match delivery {
                Delivery::Gap => {}
                Delivery::Envelope(one) if one == envelope(7) => got += 1,
                Delivery::Envelope(one) => {
                    assert_eq!(one, envelope(1), "{script}");
                    break;
                }
            }
        }
        assert_eq!(got, delivered, "{script}");
    }
    assert!(redis.unreadable() >= 8, "{} were found", redis.unreadable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_count_of_bytes_that_is_none_is_made_true_again() {
    let server = Server::start();
    let (_redis, bus) = connect(&server, 99).await;
    let mut deliveries = read_on(bus.subscribe(&reader()).await.unwrap());
    for script in [
        "redis.call('DEL', KEYS[1])",
        "redis.call('SET', KEYS[1], '?')",
        "redis.call('SET', KEYS[1], '9223372036854775807')",
        "redis.call('SET', KEYS[1], '99999999999999999999')",
        "redis.call('SET', KEYS[1], '-5')",
        "redis.call('SET', KEYS[1], '1000000000')",
        "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 'what')",
    ] {
        server.cli(&["eval", script, "1", HOLDS]);
        until("publishing works", async || bus.publish(&reader(), &[envelope(1)]).await.is_ok())
            .await;
        let got = time::timeout(Duration::from_secs(5), deliveries.recv()).await.unwrap();
        assert_eq!(got, Some(Delivery::Envelope(envelope(1))), "{script}");
        until("the count is true", async || server.cli(&["get", HOLDS]) == NOTHING.to_string())
            .await;
        assert!(server.cli(&["pttl", HOLDS]).parse::<i64>().unwrap() > 30_000, "{script}");
    }
}
