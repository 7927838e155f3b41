//! Every close code. Those of the transport's rules are in `frames`, those of tokens in `tokens`,
//! those of silence in `alive`.

use serde_json::json;
use tokio::time::{Duration, Instant};

use super::{
    faulty::{Fault, FaultyStore},
    stage::{Host, heartbeat, offer},
};
use crate::{
    config::Config,
    frame::CloseCode,
    protocol::ErrorCode,
    testing::client::{Incoming, Opcode, RawFrame},
};

pub(super) async fn the_host_disconnects_with_1000(host: &Host) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    assert!(!stage.disconnect("nobody").await);
    assert!(stage.disconnect("ann").await);
    ann.expect_close(CloseCode::Normal).await;
    stage.client("ann").await.expect_nothing().await;
}

pub(super) async fn a_clients_close_is_answered(host: &Host) {
    let stage = host.start().await;
    let call = stage.call().await;
    call.ann.close().await;
    call.bob.close().await;
}

pub(super) async fn a_clients_close_code_comes_back(host: &Host) {
    let stage = host.start().await;
    let with = |code: u16| RawFrame::new(Opcode::Close, code.to_be_bytes());
    let nothing = RawFrame::new(Opcode::Close, "");
    let normal = [1000, 1001, 1008, 3000, 4000, 4999].map(|code| (with(code), Some(code)));
    // RFC 6455, section 7.4: these are not for the wire, or stand for nothing.
    let wrong = [0, 999, 1004, 1005, 1006, 1015, 5000].map(|code| (with(code), Some(1002)));
    for (frame, code) in normal.into_iter().chain(wrong).chain([(nothing, None)]) {
        let mut ann = stage.client("ann").await;
        ann.rename(format!("ann, who closed by {:?}", frame.payload));
        ann.send_frame(&frame).await;
        match ann.next_incoming().await {
            Incoming::Close(answer) => {
                assert_eq!(answer.map(|(code, _)| code), code, "{ann:?}");
            }
            other => panic!("{ann:?} expected a close, got {other:?}"),
        }
        ann.expect_end().await;
    }
}

pub(super) async fn a_close_waits_for_its_answer_and_not_for_ever(host: &Host) {
    let stage = host.start().await;
    let mut polite = stage.client("polite").await;
    let mut silent = stage.client("silent").await;
    let normal = Incoming::Close(Some((1000, CloseCode::Normal.reason().to_owned())));
    for client in [&mut polite, &mut silent] {
        assert!(stage.disconnect(client.name()).await);
        assert_eq!(client.next_incoming().await, normal);
    }
    let since = Instant::now();
    // A peer that is still sending would otherwise lose the code with the connection.
    let early = polite.sense(Duration::from_millis(500)).await;
    assert!(!early, "the end came before the answer");
    polite.expect_end().await;
    assert!(since.elapsed() < Duration::from_millis(1500));
    let ended = silent.sense(Duration::from_secs(10)).await;
    assert!(ended, "the end never came without an answer");
    let waited = since.elapsed();
    assert!(waited > Duration::from_secs(1), "only {waited:?}");
}

pub(super) async fn a_shutdown_closes_with_1001(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    let mut carl = stage.client("carl").await;
    host.no_checkup();
    let clients = async {
        // One of two may still see that the other went first.
        call.ann.expect_close_in_the_end(CloseCode::GoingAway).await;
        call.bob.expect_close_in_the_end(CloseCode::GoingAway).await;
        carl.expect_close(CloseCode::GoingAway).await;
    };
    futures::join!(stage.shutdown(), clients);
    // Nobody is let in any more, if anybody is listening at all.
    if let Ok(mut late) = stage.dial("late").try_connect().await {
        late.expect_close(CloseCode::GoingAway).await;
    }
}

pub(super) async fn a_corrupt_store_closes_with_1011(host: &Host) {
    let store = FaultyStore::new();
    let Some(stage) = host.start_on(store.clone()).await else {
        return;
    };
    store.set(Fault::Corrupt);
    let mut ann = stage.connect("ann").await;
    ann.expect_close(CloseCode::Internal).await;
    store.set(Fault::None);
}

pub(super) async fn without_the_store_a_connection_closes_with_4503(host: &Host) {
    let store = FaultyStore::new();
    let Some(stage) = host.start_on(store.clone()).await else {
        return;
    };
    let mut call = stage.call().await;
    store.set(Fault::Unavailable);
    let mut carl = stage.connect("carl").await;
    carl.expect_close(CloseCode::Unavailable).await;
    call.talk().await;
    store.set(Fault::None);
    stage.client("carl").await.expect_nothing().await;
}

pub(super) async fn one_connection_too_many_closes_with_4503(host: &Host) {
    let stage = host.start_with(|c| c.max_connections = Some(2)).await;
    let mut call = stage.call().await;
    host.no_checkup();
    for _ in 0..3 {
        let mut carl = stage.connect("carl").await;
        carl.expect_close(CloseCode::Unavailable).await;
    }
    call.talk().await;
    call.bob.close().await;
    call.ann.expect_partner_disconnected(&call.session).await;
    stage.client("carl").await.expect_nothing().await;
}

pub(super) async fn malformed_messages_in_a_row_close_with_4400(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    let ann = &mut call.ann;
    // Fifteen, one that is good, and fifteen more are no sixteen in a row.
    for _ in 0..2 {
        for _ in 0..15 {
            ann.send("{").await;
            ann.expect_error(ErrorCode::Malformed, None).await;
        }
        ann.expect_nothing().await;
    }
    for _ in 0..16 {
        ann.send("{").await;
    }
    for _ in 0..16 {
        ann.expect_error(ErrorCode::Malformed, None).await;
    }
    ann.expect_close(CloseCode::Malformed).await;
    call.bob.expect_partner_disconnected(&call.session).await;
    call.bob.expect_nothing().await;
}

pub(super) async fn a_replaced_connection_closes_with_4409(host: &Host) {
    let stage = host.start().await;
    let mut old = stage.client("ann").await;
    let mut new = stage.client("ann").await;
    old.expect_close(CloseCode::Replaced).await;
    new.expect_nothing().await;
}

pub(super) async fn a_client_that_does_not_read_closes_with_4413(host: &Host) {
    let change = |c: &mut Config| {
        (c.max_signal_bytes_per_second, c.write_timeout) = (0, Duration::from_secs(1));
    };
    let stage = host.start_with(change).await;
    let mut ann = stage.client("ann").await;
    let mut bob = stage.dial("bob").receive_buffer(4096).connect().await;
    let s = stage.open_new("ann", "bob").await;
    ann.expect_match(&s, "bob", true).await;
    bob.expect_match(&s, "ann", false).await;
    // More than a session's share of the queue and the buffers of two sockets hold.
    let large = offer(&s, &"x".repeat(60_000));
    for _ in 0..190 {
        ann.send(&large).await;
    }
    // She is refused what there is no room for, before he is given up.
    let mut refused = 0;
    loop {
        let told = ann.next_text().await;
        if told.contains("partner-disconnected") {
            break;
        }
        assert!(told.contains("rate-limited"), "{told}");
        refused += 1;
    }
    assert!(refused > 0);
    let read = bob.expect_close_in_the_end(CloseCode::TooSlow).await;
    assert!(read < 190, "he got all of it");
    for told in ann.drain().await {
        assert!(told.contains("partner-absent"), "{told}");
    }
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    ann.expect_match(&s, "bob", true).await;
}

pub(super) async fn signals_far_beyond_the_rate_close_with_4429(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    let s = call.session.clone();
    let began = Instant::now();
    let texts: Vec<_> = (0..1000).map(|n| offer(&s, &n.to_string())).collect();
    for text in &texts {
        if !call.ann.send_if_possible(text).await {
            break;
        }
    }
    let refused = call.ann.expect_close_in_the_end(CloseCode::RateLimited).await;
    // A burst of 200 and as much again refused, and what the time in between brings.
    let brought = 50 * (began.elapsed().as_secs() as usize + 1);
    assert!((200..200 + brought).contains(&refused), "{refused}");
    let mut delivered = call.bob.drain().await;
    let told = delivered.pop().expect("Bob is told of the end");
    let expected = json!({"type": "partner-disconnected", "sessionId": s});
    assert_eq!(serde_json::from_str(&told).ok(), Some(expected));
    assert!((200..200 + brought).contains(&delivered.len()));
    assert_eq!(delivered[..200], texts[..200]);
    assert!(delivered.is_sorted_by_key(|text| texts.iter().position(|sent| sent == text)));
    // A flood of anything else is one as well.
    let mut eve = stage.client("eve").await;
    for _ in 0..1000 {
        if !eve.send_if_possible(heartbeat()).await {
            break;
        }
    }
    let refused = eve.expect_close_in_the_end(CloseCode::RateLimited).await;
    assert!(refused >= 200, "{refused}");
}

pub(super) async fn a_user_that_reconnects_over_and_over_closes_with_4429(host: &Host) {
    let stage = host.start_with(|c| (c.max_connects_per_minute, c.connect_burst) = (1, 5)).await;
    let mut call = stage.call().await;
    for _ in 0..4 {
        stage.client("eve").await.expect_nothing().await;
    }
    let mut eve = stage.client("eve").await;
    for _ in 0..3 {
        stage.connect("eve").await.expect_close(CloseCode::RateLimited).await;
    }
    // What is refused replaces nothing, and others are not refused for it.
    eve.expect_nothing().await;
    stage.client("fay").await.expect_nothing().await;
    call.talk().await;
}

pub(super) async fn control_frames_far_beyond_the_rate_close_with_4429(host: &Host) {
    let stage = host.start().await;
    for (opcode, ann, bob) in [(Opcode::Ping, "ann", "bob"), (Opcode::Pong, "ada", "ben")] {
        let mut call = stage.call_of(ann, bob).await;
        // Two bursts of 200 are let through, and what the time in between brings.
        let flood = RawFrame::new(opcode, "x").to_bytes().repeat(2000);
        call.ann.send_bytes(&flood).await;
        call.ann.expect_close_in_the_end(CloseCode::RateLimited).await;
        call.bob.expect_partner_disconnected(&call.session).await;
        // What a client may well send is no flood.
        for _ in 0..150 {
            call.bob.send_frame(&RawFrame::new(opcode, "")).await;
        }
        call.bob.expect_nothing().await;
    }
}
