//! What the bus promises beyond what every bus does.

use std::time::Duration;

use futures::StreamExt;
use signaling_core::{
    bus::{BusError, Delivery, Envelope, Inbox, MessageBus},
    id::{ConnectionId, NodeId},
    notice::Notice,
};
use signaling_redis::{Redis, RedisBus, Settings, testing::Server};
use tokio::time;

use crate::harness::until;

const INBOX: &str = "session:inbox:reader";

fn reader() -> NodeId {
    NodeId::new("reader").unwrap()
}

fn envelope(number: u64) -> Envelope {
    Envelope::Notice { to: ConnectionId::new(reader(), number), notice: Notice::Replaced }
}

async fn connect(server: &Server, capacity: usize) -> (Redis, RedisBus) {
    let settings = Settings::url(&server.url()).unwrap().inbox_capacity(capacity);
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
