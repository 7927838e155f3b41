//! What pairs say to each other.

use std::sync::LazyLock;

use crate::contender::session;

/// How large a signal is, in bytes of payload: what browsers send.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Payload {
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

/// The signal number 0 of `room`. Its number is in its last field.
pub(super) fn signal(room: usize, payload: Payload) -> String {
    let (kind, field, size) = payload.kind();
    let session = session(room);
    let head = format!(r#"{{"type":"{kind}","sessionId":"{session}","{field}":"#);
    // An object, as browsers make it of a candidate; all in it is opaque to a server.
    let tail = r#"","n":100000000}}"#;
    let start = r#"{"usernameFragment":""#;
    let filling = &FILLING[..size - head.len() - start.len() - tail.len()];
    [&head, start, filling, tail].concat()
}

static FILLING: LazyLock<String> =
    LazyLock::new(|| "candidate 1 udp 2122260223 192.0.2.7 54400 typ host ".repeat(120));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_as_long_as_it_says() {
        for payload in [Payload::Candidate, Payload::Description, Payload::Offer] {
            let text = signal(7, payload);
            assert_eq!(text.len(), payload.kind().2, "{text}");
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }
}
