//! Frames: whole and in pieces, too large, and such as no client may send.

use std::time::Duration;

use tokio::time;

use super::stage::{Host, candidate, heartbeat, offer};
use crate::{
    frame::CloseCode,
    testing::client::{Opcode, RawFrame},
};

fn text(payload: impl Into<Vec<u8>>) -> RawFrame {
    RawFrame::new(Opcode::Text, payload)
}

fn continuation(payload: impl Into<Vec<u8>>) -> RawFrame {
    RawFrame::new(Opcode::Continuation, payload)
}

pub(super) async fn fragments_are_joined_and_a_ping_between_them_is_answered(host: &Host) {
    let mut call = host.start().await.call().await;
    // The cuts go through the escapes and through the bytes of one character.
    let whole = format!(r#"{{"type":"offer","sessionId":"{}","sdp":"\u00e9 é 😀"}}"#, call.session);
    for parts in [2, 3, 7, whole.len()] {
        let bytes = whole.as_bytes();
        let pieces: Vec<_> = bytes.chunks(bytes.len().div_ceil(parts)).collect();
        for (n, piece) in pieces.iter().enumerate() {
            let mut frame = if n == 0 { text(*piece) } else { continuation(*piece) };
            frame.fin = n == pieces.len() - 1;
            call.ann.send_frame(&frame).await;
            if n == 0 {
                call.ann.send_frame(&RawFrame::new(Opcode::Ping, "between")).await;
                call.ann.expect_pong(b"between").await;
            }
        }
        call.bob.expect_text(&whole).await;
    }
    // Empty pieces are pieces too.
    for frame in
        [text("").unfinished(), continuation(whole.as_bytes()).unfinished(), continuation("")]
    {
        call.ann.send_frame(&frame).await;
    }
    call.bob.expect_text(&whole).await;
    call.expect_nothing().await;
}

pub(super) async fn a_message_may_come_byte_by_byte(host: &Host) {
    let mut call = host.start().await.call().await;
    let whole = offer(&call.session, "slowly");
    for byte in text(whole.as_bytes()).to_bytes() {
        call.ann.send_bytes(&[byte]).await;
        time::sleep(Duration::from_millis(1)).await;
    }
    call.bob.expect_text(&whole).await;
    call.expect_nothing().await;
}

pub(super) async fn many_messages_may_come_at_once(host: &Host) {
    let mut call = host.start().await.call().await;
    let texts: Vec<_> = (0..150).map(|n| candidate(&call.session, &n.to_string())).collect();
    let bytes = texts.iter().flat_map(|one| text(one.as_bytes()).to_bytes());
    call.ann.send_bytes(&bytes.collect::<Vec<_>>()).await;
    for one in &texts {
        call.bob.expect_text(one).await;
    }
    call.expect_nothing().await;
}

pub(super) async fn pings_are_answered_and_pongs_ignored(host: &Host) {
    let mut ann = host.start().await.client("ann").await;
    for payload in [&b""[..], b"1", &[0xff; 125]] {
        ann.ping(payload).await;
        ann.expect_pong(payload).await;
        ann.send_frame(&RawFrame::new(Opcode::Pong, payload)).await;
    }
    ann.expect_nothing().await;
}

pub(super) async fn the_largest_frame_is_relayed(host: &Host) {
    const LIMIT: usize = 64 * 1024;
    let mut call = host.start().await.call().await;
    let frame = |length: usize| {
        let around = offer(&call.session, "").len();
        offer(&call.session, &"x".repeat(length - around))
    };
    let (largest, larger) = (frame(LIMIT), frame(LIMIT + 1));
    assert_eq!((largest.len(), larger.len()), (LIMIT, LIMIT + 1));
    call.ann.send(&largest).await;
    call.bob.expect_text(&largest).await;
    for (n, piece) in largest.as_bytes().chunks(LIMIT / 4).enumerate() {
        let mut frame = if n == 0 { text(piece) } else { continuation(piece) };
        frame.fin = n == 3;
        call.ann.send_frame(&frame).await;
    }
    call.bob.expect_text(&largest).await;
    call.expect_nothing().await;
    call.ann.send(&larger).await;
    call.ann.expect_close(CloseCode::TooLarge).await;
    call.bob.expect_partner_disconnected(&call.session).await;
    call.bob.expect_nothing().await;
}

pub(super) async fn a_frame_too_large_closes_with_1009(host: &Host) {
    let stage = host.start().await;
    let lies = |length| RawFrame { declared: Some(length), ..text("{") };
    let cases: Vec<(&str, Vec<RawFrame>)> = vec![
        ("one byte too many", vec![text(vec![b' '; 64 * 1024 + 1])]),
        ("a binary", vec![RawFrame::new(Opcode::Binary, vec![0; 70_000])]),
        ("half a megabyte", vec![text(vec![b' '; 512 * 1024])]),
        (
            "two halves",
            vec![text(vec![b' '; 40_000]).unfinished(), continuation(vec![b' '; 40_000])],
        ),
        (
            "many small pieces",
            std::iter::once(text(" ").unfinished())
                .chain((0..700).map(|_| continuation(vec![b' '; 100]).unfinished()))
                .collect(),
        ),
        ("a header that lies of a gigabyte", vec![lies(1 << 30)]),
        ("a header that lies of an exabyte", vec![lies(1 << 60)]),
    ];
    for (what, frames) in cases {
        let mut client = stage.dial("eve").named(what).connect().await;
        client.expect_nothing().await;
        for frame in frames {
            // It may be closed before all of it is said.
            if client.try_send_frame(&frame).await.is_err() {
                break;
            }
        }
        client.expect_close(CloseCode::TooLarge).await;
    }
}

pub(super) async fn the_close_code_reaches_a_client_that_is_still_sending(host: &Host) {
    let stage = host.start().await;
    let mut client = stage.client("eve").await;
    // As a browser, it reads nothing before all of its message is sent.
    client.send_frame(&text(vec![b' '; 16 * 1024 * 1024])).await;
    client.expect_close(CloseCode::TooLarge).await;
}

pub(super) async fn text_that_is_not_utf8_closes_with_1007(host: &Host) {
    let stage = host.start().await;
    let around = |bytes: &[u8]| [b"{\"type\":\"heartbeat\",\"x\":\"", bytes, b"\"}"].concat();
    let cases: [(&str, Vec<RawFrame>); 9] = [
        ("a byte that is never valid", vec![text(around(&[0xff]))]),
        ("a lone continuation byte", vec![text(around(&[0x80]))]),
        ("Latin-1", vec![text(around(&[0xe9]))]),
        ("an overlong slash", vec![text(around(&[0xc0, 0xaf]))]),
        ("a surrogate", vec![text(around(&[0xed, 0xa0, 0x80]))]),
        ("beyond Unicode", vec![text(around(&[0xf4, 0x90, 0x80, 0x80]))]),
        ("half a character at the end", vec![text([0xf0, 0x9f, 0x98])]),
        ("in the second piece", vec![text("{").unfinished(), continuation([0xff])]),
        (
            "half a character at the end of the pieces",
            vec![text([0xf0, 0x9f]).unfinished(), continuation([0x98])],
        ),
    ];
    for (what, frames) in cases {
        let mut client = stage.dial("eve").named(what).connect().await;
        client.expect_nothing().await;
        for frame in frames {
            client.send_frame(&frame).await;
        }
        client.expect_close(CloseCode::InvalidText).await;
    }
}

pub(super) async fn a_breach_of_the_transports_rules_closes_with_1002(host: &Host) {
    let stage = host.start().await;
    let of = |opcode| RawFrame::new(opcode, heartbeat());
    let unmasked = |frame| RawFrame { masked: false, ..frame };
    let reserved = |reserved| RawFrame { reserved, ..text(heartbeat()) };
    let mut cases = vec![
        ("an unmasked text", vec![unmasked(text(heartbeat()))]),
        ("an unmasked ping", vec![unmasked(RawFrame::new(Opcode::Ping, "x"))]),
        ("the opcode 3", vec![of(Opcode::Other(3))]),
        ("the opcode 7", vec![of(Opcode::Other(7))]),
        ("the opcode 11", vec![of(Opcode::Other(11))]),
        ("the opcode 15", vec![of(Opcode::Other(15))]),
        ("a continuation of nothing", vec![continuation(heartbeat())]),
        ("a text within a text", vec![text("{").unfinished(), text(heartbeat())]),
        ("a binary within a text", vec![text("{").unfinished(), of(Opcode::Binary)]),
        ("a ping in pieces", vec![of(Opcode::Ping).unfinished()]),
        ("a ping of 126 bytes", vec![RawFrame::new(Opcode::Ping, vec![0; 126])]),
        ("a close frame of one byte", vec![RawFrame::new(Opcode::Close, "x")]),
    ];
    cases.extend((1..8).map(|bits| ("reserved bits", vec![reserved(bits)])));
    for (what, frames) in cases {
        let mut client = stage.dial("eve").named(what).connect().await;
        client.expect_nothing().await;
        for frame in frames {
            client.send_frame(&frame).await;
        }
        client.expect_close(CloseCode::ProtocolError).await;
    }
}
