//! What pairs say to each other.

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::contender::session;

/// How large a signal is, in bytes of payload: what browsers send.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload {
    /// 300 bytes with all around it.
    Candidate,
    /// 3.7 KB.
    Description,
    /// 6 KB: audio and video.
    Offer,
}

impl Payload {
    const fn kind(self) -> (&'static str, &'static str, usize) {
        match self {
            Self::Candidate => ("ice-candidate", "candidate", 300),
            Self::Description => ("offer", "sdp", 3700),
            Self::Offer => ("offer", "sdp", 6000),
        }
    }
}

/// The number of a signal stands at the end of its text, where it costs nothing to find.
const DIGITS: usize = 9;

/// The signal number `number` of `room`.
pub(super) fn signal(room: usize, payload: Payload, number: u32) -> Utf8Bytes {
    let (kind, field, size) = payload.kind();
    let session = session(room);
    let head = format!(r#"{{"type":"{kind}","sessionId":"{session}","{field}":"#);
    // An object, as browsers make it of a candidate; all in it is opaque to a server.
    let frame = head.len() + r#"{"usernameFragment":"","n":}}"#.len() + DIGITS;
    let filling = "candidate 1 udp 2122260223 192.0.2.7 54400 typ host ".chars().cycle();
    let filling = filling.take(size.saturating_sub(frame)).collect::<String>();
    let number = 100_000_000 + number;
    format!(r#"{head}{{"usernameFragment":"{filling}","n":{number}}}}}"#).into()
}

/// The number of a signal that arrived.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = text.len().checked_sub(DIGITS + 2).and_then(|from| text.get(from..))?;
    digits.get(..DIGITS)?.parse::<u32>().ok()?.checked_sub(100_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_as_long_as_it_says_and_has_its_number() {
        for payload in [Payload::Candidate, Payload::Description, Payload::Offer] {
            let text = signal(7, payload, 123);
            assert_eq!((text.len(), number(&text)), (payload.kind().2, Some(123)), "{text}");
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }
}
