//! What clients say, as browsers write it.

use signaling_core::id::{SessionId, UserId};

/// Bytes of a candidate's message.
const CANDIDATE: usize = 300;
/// Bytes of an offer's or an answer's message: audio and video.
const DESCRIPTION: usize = 6000;

/// Session number `number`; its id is as long as one that is generated.
pub(crate) fn session(number: usize) -> SessionId {
    SessionId::new(&format!("{number:032x}")).expect("a session id")
}

/// User number `number`; its id is as long as a UUID.
pub(crate) fn user(number: usize) -> UserId {
    UserId::new(&format!("00000000-0000-4000-8000-{number:012x}")).expect("a user id")
}

/// An ICE candidate of [`CANDIDATE`] bytes.
pub(crate) fn candidate(session: &SessionId) -> String {
    let head = format!(
        r#"{{"type":"ice-candidate","sessionId":"{session}","candidate":{{"candidate":"candidate:842163049 1 udp 1677729535 192.0.2.7 46154 typ srflx raddr 10.0.0.7 rport 46154","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":""#
    );
    filled(head, "xQ3v", r#""}}"#, CANDIDATE)
}

/// A session description of [`DESCRIPTION`] bytes, of the type `kind`.
pub(crate) fn description(kind: &str, session: &SessionId) -> String {
    let head = format!(
        r#"{{"type":"{kind}","sessionId":"{session}","sdp":"v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"#
    );
    filled(head, r"a=rtpmap:111 opus/48000/2\r\n", r#""}"#, DESCRIPTION)
}

/// A heartbeat that asks for an answer.
pub(crate) fn heartbeat(session: &SessionId) -> String {
    format!(r#"{{"type":"heartbeat","id":1,"sessionId":"{session}"}}"#)
}

pub(crate) fn leave(session: &SessionId) -> String {
    format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)
}

/// `text`, then `line` again and again and what is left in `x`, then `tail`: `bytes` in all.
fn filled(mut text: String, line: &str, tail: &str, bytes: usize) -> String {
    while text.len() + line.len() + tail.len() <= bytes {
        text.push_str(line);
    }
    while text.len() + tail.len() < bytes {
        text.push('x');
    }
    text + tail
}
