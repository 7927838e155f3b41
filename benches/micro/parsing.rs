//! Reading what clients say.

use divan::{Bencher, counter::BytesCount};
use signaling_core::{id::SessionId, protocol::ClientMessage};

use crate::texts;

/// Bytes of an offer's or an answer's message: audio and video.
const DESCRIPTION: usize = 6000;

/// A session description of [`DESCRIPTION`] bytes, of the type `kind`.
fn description(kind: &str, session: &SessionId) -> String {
    let head = format!(
        r#"{{"type":"{kind}","sessionId":"{session}","sdp":"v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"#
    );
    texts::filled(head, r"a=rtpmap:111 opus/48000/2\r\n", r#""}"#, DESCRIPTION)
}

#[divan::bench(args = ["offer", "answer", "ice-candidate", "heartbeat", "leave"])]
fn parse(bencher: Bencher<'_, '_>, kind: &str) {
    let session = texts::session(0);
    let text = match kind {
        "ice-candidate" => texts::candidate(&session),
        "heartbeat" => texts::heartbeat(&session),
        "leave" => texts::leave(&session),
        kind => description(kind, &session),
    };
    bencher
        .counter(BytesCount::of_str(&text))
        .bench(|| ClientMessage::parse(divan::black_box(&text)).is_ok_and(|_| true));
}
