//! Heartbeats, pings and silence.

use std::{ops::Range, time::Duration};

use serde_json::json;
use tokio::time::{self, Instant};

use super::stage::{Host, candidate, heartbeat};
use crate::{
    config::Config,
    frame::CloseCode,
    protocol::ErrorCode,
    testing::client::{Client, Incoming},
    time::{Clock, SystemClock, Timestamp},
};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Small limits; a heartbeat is asked for more seldom than any other sound.
fn brisk(config: &mut Config) {
    config.ping_interval = seconds(1);
    config.silence_timeout = seconds(2);
    config.heartbeat_timeout = seconds(4);
}

fn assert_within(what: &str, since: Instant, span: Range<u64>) {
    let elapsed = since.elapsed();
    let expected = seconds(span.start)..seconds(span.end);
    assert!(expected.contains(&elapsed), "{what} after {elapsed:?}");
}

/// Answers pings and sends a heartbeat whenever nothing came for `every`, until a message comes.
async fn beating(client: &mut Client, every: Duration) -> String {
    loop {
        match time::timeout(every, client.next_incoming()).await {
            Err(_) => client.send(heartbeat()).await,
            Ok(Incoming::Ping) => {}
            Ok(Incoming::Text(text)) => return text,
            Ok(other) => panic!("{client:?} expected a message, got {other:?}"),
        }
    }
}

/// Answers pings until the close; how many there were.
async fn pings_until_close(client: &mut Client, code: CloseCode) -> usize {
    let mut pings = 0;
    loop {
        match client.next_incoming().await {
            Incoming::Ping => pings += 1,
            Incoming::Close(Some((got, _))) if got == code.code() => return pings,
            other => panic!("{client:?} expected pings and {code:?}, got {other:?}"),
        }
    }
}

pub(super) async fn a_client_is_gone_after_25_s_of_silence_or_30_s_without_heartbeats(host: &Host) {
    let stage = host.start().await;
    let vanishes = async {
        let mut call = stage.call_of("vanishing", "told").await;
        // The last heartbeat came just now; nothing, not even a pong, comes from here on.
        call.ann.expect_nothing().await;
        let since = Instant::now();
        let text = beating(&mut call.bob, seconds(5)).await;
        assert!(text.contains("partner-disconnected"), "{text}");
        assert_within("the partner was told", since, 20..30);
    };
    let forgets = async {
        let since = Instant::now();
        let mut client = stage.connect("forgetful").await;
        client.set_patience(seconds(35));
        let pings = pings_until_close(&mut client, CloseCode::HeartbeatTimeout).await;
        assert_within("disconnected", since, 30..33);
        assert!((2..=3).contains(&pings), "{pings} pings in 30 s");
    };
    futures::join!(vanishes, forgets);
}

pub(super) async fn a_client_without_heartbeats_is_disconnected(host: &Host) {
    let stage = host
        .start_with(|config| {
            config.ping_interval = seconds(1);
            config.heartbeat_timeout = seconds(2);
        })
        .await;
    let s = stage.open_new("ann", "bob").await;
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    let since = Instant::now();
    let mut ann = stage.connect("ann").await;
    ann.expect_match(&s, "bob", true).await;
    let partner = async {
        let text = beating(&mut bob, seconds(1) / 2).await;
        assert!(text.contains("partner-disconnected"), "{text}");
        bob.expect_nothing().await;
    };
    let disconnected = async {
        let pings = pings_until_close(&mut ann, CloseCode::HeartbeatTimeout).await;
        assert_within("disconnected", since, 2..4);
        assert!((1..=2).contains(&pings), "{pings} pings in 2 s");
    };
    futures::join!(partner, disconnected);
}

pub(super) async fn heartbeats_keep_a_connection(host: &Host) {
    let stage = host.start_with(|config| config.heartbeat_timeout = seconds(2)).await;
    let mut ann = stage.client("ann").await;
    for _ in 0..3 {
        ann.idle_for(seconds(1)).await;
        ann.send(heartbeat()).await;
    }
    ann.expect_nothing().await;
}

pub(super) async fn other_messages_are_no_heartbeats(host: &Host) {
    let stage = host.start_with(|config| config.heartbeat_timeout = seconds(2)).await;
    let mut ann = stage.client("ann").await;
    let s = stage.open_new("ann", "bob").await;
    ann.expect_match(&s, "bob", true).await;
    let since = Instant::now();
    for n in 0..40 {
        if !ann.send_if_possible(candidate(&s, &n.to_string())).await {
            break;
        }
        match time::timeout(seconds(1) / 4, ann.next_incoming()).await {
            Err(_) => {}
            Ok(Incoming::Close(Some((4408, _)))) => {
                return assert_within("disconnected", since, 1..4);
            }
            Ok(other) => panic!("{ann:?} expected 4408, got {other:?}"),
        }
    }
    panic!("signals alone kept the connection");
}

pub(super) async fn heartbeats_that_name_a_strange_session_count(host: &Host) {
    let stage = host.start_with(|config| config.heartbeat_timeout = seconds(2)).await;
    let mut ann = stage.client("ann").await;
    for _ in 0..3 {
        ann.idle_for(seconds(1)).await;
        ann.send_json(json!({"type": "heartbeat", "sessionId": "none"})).await;
        ann.expect_error(ErrorCode::UnknownSession, Some("none")).await;
    }
    ann.expect_nothing().await;
}

pub(super) async fn pongs_keep_a_connection_between_heartbeats(host: &Host) {
    let stage = host.start_with(brisk).await;
    let mut ann = stage.client("ann").await;
    // Longer than the silence limit, and nothing but pongs.
    ann.expect_ping().await;
    ann.expect_ping().await;
    ann.expect_ping().await;
    ann.expect_nothing().await;
}

pub(super) async fn a_client_that_answers_no_ping_is_disconnected(host: &Host) {
    let stage = host
        .start_with(|config| {
            brisk(config);
            config.heartbeat_timeout = seconds(30);
        })
        .await;
    let mut call = stage.call().await;
    call.talk().await;
    let since = Instant::now();
    let text = beating(&mut call.bob, seconds(1) / 2).await;
    assert!(text.contains("partner-disconnected"), "{text}");
    assert_within("the partner was told", since, 1..5);
    call.bob.expect_nothing().await;
    stage.until_absent(&call.session, 0).await;
    // It was closed as it should be, though nobody was seen to be there.
    call.ann.expect_close(CloseCode::HeartbeatTimeout).await;
    let mut ann = stage.connect("ann").await;
    ann.expect_match(&call.session, "bob", true).await;
    call.bob.expect_match(&call.session, "ann", false).await;
}

pub(super) async fn a_heartbeat_is_in_the_record_within_a_second(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    let s = call.session.clone();
    // A node goes by the store's clock, which it knows to a few milliseconds.
    let clocks_differ = Duration::from_millis(10);
    let before = Timestamp::from_millis(SystemClock.now().as_millis() - 10);
    call.ann.send_json(json!({"type": "heartbeat", "sessionId": s})).await;
    call.ann.expect_nothing().await;
    let (since, after) = (Instant::now(), SystemClock.now().after(clocks_differ));
    let state = stage
        .session_when(&s, "heard from", |state| {
            state.participants[0].last_heartbeat >= Some(before)
        })
        .await;
    assert_within("the heartbeat was written", since, 0..2);
    let [ann, bob] = state.participants.map(|one| one.last_heartbeat);
    assert!(ann <= Some(after), "{ann:?} is after {after:?}");
    assert!(bob <= Some(before), "{bob:?} is after {before:?}");
}
