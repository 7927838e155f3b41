//! What the clients of a contender write around a signal, and what they hear beside signals.
//!
//! Envelopes are cut where they are known to begin and end, not parsed: the load generator is to
//! cost less than whom it measures.

use std::ops::Range;

use tokio_tungstenite::tungstenite::{Bytes, Utf8Bytes};

use super::{Done, Unexpected};
use crate::contender::{Place, Side, session, user};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Ours: a signal names its session.
    Signaling,
    /// A signal as it is.
    Bare,
    /// An event of Socket.IO 5 in a message of Engine.IO 4.
    SocketIo,
    /// A message of PeerServer that names whom it is for.
    PeerServer,
    /// A request of matchbox to the partner, whose id must be learned.
    Matchbox,
}

/// A client's dialect, and what it has learned.
pub(super) struct Speech {
    pub(super) dialect: Dialect,
    place: Place,
    /// matchbox's id of the partner.
    partner: Option<String>,
}

/// What answers a ping.
pub(super) const PONG: &str = "3";

/// How long an id of matchbox is: a UUID.
const ID: usize = 36;
const NEW_PEER: &str = r#"{"NewPeer":""#;
const SIGNAL_FROM: &str = r#"{"Signal":{"sender":""#;

/// How an event begins.
const EVENT: &str = r#"42["signal","#;

/// What a message of PeerServer has last.
const PAYLOAD: &str = r#""payload":"#;

impl Speech {
    pub(super) fn new(dialect: Dialect, place: Place) -> Self {
        Self { dialect, place, partner: None }
    }

    /// The way to write a signal.
    pub(super) fn wrap(&self, signal: Utf8Bytes) -> Done<Utf8Bytes> {
        Ok(match self.dialect {
            Dialect::Signaling | Dialect::Bare => signal,
            Dialect::SocketIo => format!("{EVENT}{signal}]").into(),
            Dialect::PeerServer => {
                let is_candidate = signal.starts_with(r#"{"type":"ice-candidate""#);
                let kind = if is_candidate { "CANDIDATE" } else { "OFFER" };
                let to = user(self.place.partner());
                format!(r#"{{"type":"{kind}","dst":"{to}","payload":{signal}}}"#).into()
            }
            Dialect::Matchbox => {
                let partner = self.partner.as_deref();
                let to = partner.ok_or_else(|| Unexpected("no partner is known".to_owned()))?;
                format!(r#"{{"Signal":{{"receiver":"{to}","data":{signal}}}}}"#).into()
            }
        })
    }

    /// What hangs up; None where only the end of the connection does.
    pub(super) fn leave(&self) -> Option<Utf8Bytes> {
        match self.dialect {
            Dialect::Signaling | Dialect::Bare => {
                let session = session(self.place.room);
                Some(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#).into())
            }
            Dialect::SocketIo => Some("41".into()),
            Dialect::PeerServer => {
                let to = user(self.place.partner());
                Some(format!(r#"{{"type":"LEAVE","dst":"{to}"}}"#).into())
            }
            Dialect::Matchbox => None,
        }
    }

    /// What a client sends again and again to stay; None where the server asks, or a ping does it.
    pub(super) fn heartbeat(&self) -> Option<Utf8Bytes> {
        match self.dialect {
            Dialect::Signaling => {
                let session = session(self.place.room);
                Some(format!(r#"{{"type":"heartbeat","sessionId":"{session}"}}"#).into())
            }
            Dialect::PeerServer => Some(r#"{"type":"HEARTBEAT"}"#.into()),
            Dialect::Matchbox => Some(r#""KeepAlive""#.into()),
            Dialect::Bare | Dialect::SocketIo => None,
        }
    }

    /// Whether a match is to come: matchbox says it to who was there first, and the other one learns
    /// from the first signal.
    pub(super) fn has_match(&self) -> bool {
        match self.dialect {
            Dialect::Signaling => true,
            Dialect::Matchbox => self.place.side == Side::A,
            Dialect::Bare | Dialect::SocketIo | Dialect::PeerServer => false,
        }
    }

    /// Whether the text says that the partner is there; whom it names is remembered.
    pub(super) fn is_match(&mut self, text: &str) -> bool {
        match self.dialect {
            Dialect::Signaling => {
                let session = session(self.place.room);
                text.starts_with(&format!(r#"{{"type":"match-found","sessionId":"{session}""#))
            }
            Dialect::Matchbox => {
                let partner = text.strip_prefix(NEW_PEER).and_then(|text| text.get(..ID));
                if let Some(partner) = partner {
                    self.partner = Some(partner.to_owned());
                }
                partner.is_some()
            }
            Dialect::Bare | Dialect::SocketIo | Dialect::PeerServer => false,
        }
    }

    /// Whether the text says that the partner hung up or is gone.
    pub(super) fn is_gone(&self, text: &str) -> bool {
        text.starts_with(match self.dialect {
            Dialect::Signaling => r#"{"type":"partner-disconnected""#,
            Dialect::Bare => r#"{"type":"leave""#,
            Dialect::SocketIo => r#"42["partner-left""#,
            Dialect::PeerServer => r#"{"type":"LEAVE""#,
            Dialect::Matchbox => r#"{"PeerLeft""#,
        })
    }

    /// Whether the text asks for [`PONG`], so that the connection is kept.
    pub(super) fn is_ping(&self, text: &str) -> bool {
        self.dialect == Dialect::SocketIo && text == "2"
    }

    /// The signal in a text; what is none comes as it is.
    pub(super) fn unwrap(&mut self, text: Utf8Bytes) -> Done<Utf8Bytes> {
        let signal = match self.dialect {
            Dialect::Signaling | Dialect::Bare => return Ok(text),
            Dialect::SocketIo => within(&text, EVENT.len(), EVENT, "]"),
            Dialect::PeerServer => {
                // What is before it is short.
                let start = text.find(PAYLOAD).map_or(text.len(), |at| at + PAYLOAD.len());
                within(&text, start, r#"{"type":""#, "}")
            }
            Dialect::Matchbox => {
                let _ = self.is_match(&text);
                let start = SIGNAL_FROM.len() + ID + r#"","data":"#.len();
                let signal = within(&text, start, SIGNAL_FROM, "}}");
                if signal.is_some() {
                    let sender = &text[SIGNAL_FROM.len()..SIGNAL_FROM.len() + ID];
                    if self.partner.as_deref() != Some(sender) {
                        self.partner = Some(sender.to_owned());
                    }
                }
                signal
            }
        };
        let Some(range) = signal else { return Ok(text) };
        // Whoever is measured brings signals to the right one; debug builds look.
        debug_assert!(text[range.clone()].contains(&session(self.place.room)), "{text}");
        let range = to_the_number(&text, range);
        Ok(Utf8Bytes::try_from(Bytes::from(text).slice(range))?)
    }
}

/// From `start` to before `tail`, if the text begins and ends so.
fn within(text: &str, start: usize, head: &str, tail: &str) -> Option<Range<usize>> {
    let range = start..text.len().checked_sub(tail.len())?;
    (text.starts_with(head) && text.ends_with(tail) && range.start <= range.end).then_some(range)
}

/// A signal's number is found from its end. Servers that keep objects by the order of their names
/// put it nearer to the beginning: what is behind it is left out.
fn to_the_number(text: &str, range: Range<usize>) -> Range<usize> {
    const FIELD: &str = r#""n":"#;
    let signal = &text[range.clone()];
    if signal.starts_with(r#"{"type""#) {
        return range;
    }
    let Some(at) = signal.find(FIELD) else { return range };
    let digits = signal[at + FIELD.len()..].bytes().take_while(u8::is_ascii_digit).count();
    // As at the end of a signal, two more.
    let end = at + FIELD.len() + digits + 2;
    range.start..range.start + end.min(signal.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNAL: &str = r#"{"type":"ice-candidate","sessionId":"room-000007","candidate":{"usernameFragment":"x","n":100000123}}"#;
    const SORTED: &str = r#"{"candidate":{"n":100000123,"usernameFragment":"x"},"sessionId":"room-000007","type":"ice-candidate"}"#;
    /// Cut behind its number.
    const CUT: &str = r#"{"candidate":{"n":100000123,""#;
    const A: &str = "00000000-0000-4000-8000-00000000000a";
    const B: &str = "00000000-0000-4000-8000-00000000000b";

    fn speech(dialect: Dialect, side: Side) -> Speech {
        Speech::new(dialect, Place { room: 7, side })
    }

    #[track_caller]
    fn unwraps(speech: &mut Speech, text: &str, signal: &str) {
        assert_eq!(speech.unwrap(text.into()).unwrap(), signal);
    }

    #[test]
    fn socket_io_has_a_signal_as_an_event() {
        let mut speech = speech(Dialect::SocketIo, Side::A);
        let wrapped = speech.wrap(SIGNAL.into()).unwrap();
        assert_eq!(wrapped, format!(r#"42["signal",{SIGNAL}]"#).as_str());
        unwraps(&mut speech, &wrapped, SIGNAL);
        unwraps(&mut speech, &format!(r#"42["signal",{SORTED}]"#), CUT);
        unwraps(&mut speech, r#"42["partner-left"]"#, r#"42["partner-left"]"#);
        assert!(speech.is_gone(r#"42["partner-left"]"#) && !speech.is_gone(&wrapped));
        assert!(speech.is_ping("2") && !speech.is_ping(&wrapped));
    }

    #[test]
    fn peer_server_is_told_whom_a_signal_is_for() {
        let mut speech = speech(Dialect::PeerServer, Side::A);
        let wrapped = speech.wrap(SIGNAL.into()).unwrap();
        let expected =
            format!(r#"{{"type":"CANDIDATE","dst":"room-000007-b","payload":{SIGNAL}}}"#);
        assert_eq!(wrapped, expected.as_str());
        let from_to = r#""src":"room-000007-b","dst":"room-000007-a""#;
        let heard = format!(r#"{{"type":"OFFER",{from_to},"payload":{SIGNAL}}}"#);
        unwraps(&mut speech, &heard, SIGNAL);
        let expired = format!(r#"{{"type":"EXPIRE",{from_to}}}"#);
        unwraps(&mut speech, &expired, &expired);
        assert!(speech.is_gone(&format!(r#"{{"type":"LEAVE",{from_to}}}"#)));
        assert!(!speech.is_gone(&expired));
    }

    #[test]
    fn matchbox_partners_learn_of_each_other() {
        let [mut a, mut b] = [Side::A, Side::B].map(|side| speech(Dialect::Matchbox, side));
        assert!(a.has_match() && !b.has_match());
        assert!(b.wrap(SIGNAL.into()).is_err());
        assert!(a.is_match(&format!(r#"{{"NewPeer":"{B}"}}"#)));
        let wrapped = a.wrap(SIGNAL.into()).unwrap();
        let expected = format!(r#"{{"Signal":{{"receiver":"{B}","data":{SIGNAL}}}}}"#);
        assert_eq!(wrapped, expected.as_str());
        unwraps(&mut b, &format!(r#"{{"Signal":{{"sender":"{A}","data":{SORTED}}}}}"#), CUT);
        assert!(b.wrap(SIGNAL.into()).unwrap().contains(A));
        // Who came again has another id.
        unwraps(&mut b, &format!(r#"{{"Signal":{{"sender":"{B}","data":{SIGNAL}}}}}"#), SIGNAL);
        assert!(b.wrap(SIGNAL.into()).unwrap().contains(B));
        assert!(b.is_gone(&format!(r#"{{"PeerLeft":"{A}"}}"#)));
    }

    #[test]
    fn a_new_partner_of_matchbox_is_learned_of_while_receiving() {
        let mut a = speech(Dialect::Matchbox, Side::A);
        for partner in [A, B] {
            let said = format!(r#"{{"NewPeer":"{partner}"}}"#);
            unwraps(&mut a, &said, &said);
            assert!(a.wrap(SIGNAL.into()).unwrap().contains(partner));
        }
    }

    #[test]
    fn ours_and_the_floors_have_signals_as_they_are() {
        for dialect in [Dialect::Signaling, Dialect::Bare] {
            let mut speech = speech(dialect, Side::B);
            assert_eq!(speech.wrap(SIGNAL.into()).unwrap(), SIGNAL);
            unwraps(&mut speech, SIGNAL, SIGNAL);
        }
        let mut ours = speech(Dialect::Signaling, Side::A);
        assert!(ours.is_match(r#"{"type":"match-found","sessionId":"room-000007","a":1}"#));
        assert!(!ours.is_match(r#"{"type":"match-found","sessionId":"room-000008","a":1}"#));
        assert!(ours.is_gone(r#"{"type":"partner-disconnected","sessionId":"room-000007"}"#));
        let left = speech(Dialect::Bare, Side::A).leave().unwrap();
        assert!(speech(Dialect::Bare, Side::B).is_gone(&left));
    }
}
