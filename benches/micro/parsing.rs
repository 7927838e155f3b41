//! Reading what clients say.

use divan::{Bencher, counter::BytesCount};
use signaling_core::protocol::ClientMessage;

use crate::texts;

#[divan::bench(args = ["offer", "answer", "ice-candidate", "heartbeat", "leave"])]
fn parse(bencher: Bencher<'_, '_>, kind: &str) {
    let session = texts::session(0);
    let text = match kind {
        "ice-candidate" => texts::candidate(&session),
        "heartbeat" => texts::heartbeat(&session),
        "leave" => texts::leave(&session),
        kind => texts::description(kind, &session),
    };
    bencher
        .counter(BytesCount::of_str(&text))
        .bench(|| ClientMessage::parse(divan::black_box(&text)).is_ok_and(|_| true));
}
