//! What the clients of a contender write around a signal, and what they hear beside signals.
//!
//! Nothing is parsed: the load generator has to cost less than what it measures.

use crate::{
    Done,
    contender::{Place, Side, session, user},
};

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

impl Speech {
    pub(super) fn new(dialect: Dialect, place: Place) -> Self {
        Self { dialect, place, partner: None }
    }

    /// The way to write a signal.
    pub(super) fn wrap(&self, signal: String) -> Done<String> {
        Ok(match self.dialect {
            Dialect::Signaling | Dialect::Bare => signal,
            Dialect::SocketIo => format!(r#"42["signal",{signal}]"#),
            Dialect::PeerServer => {
                let is_candidate = signal.starts_with(r#"{"type":"ice-candidate""#);
                let kind = if is_candidate { "CANDIDATE" } else { "OFFER" };
                let to = user(self.place.partner());
                format!(r#"{{"type":"{kind}","dst":"{to}","payload":{signal}}}"#)
            }
            Dialect::Matchbox => {
                let partner = self.partner.as_deref();
                let to = partner.ok_or("no partner is known")?;
                format!(r#"{{"Signal":{{"receiver":"{to}","data":{signal}}}}}"#)
            }
        })
    }

    /// What hangs up; None where only the end of the connection does.
    pub(super) fn leave(&self) -> Option<String> {
        match self.dialect {
            Dialect::Signaling | Dialect::Bare => {
                let session = session(self.place.room);
                Some(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#))
            }
            Dialect::SocketIo => Some("41".into()),
            Dialect::PeerServer => {
                let to = user(self.place.partner());
                Some(format!(r#"{{"type":"LEAVE","dst":"{to}"}}"#))
            }
            Dialect::Matchbox => None,
        }
    }

    /// What a client sends again and again to stay; None where the server asks, or a ping does it.
    pub(super) fn heartbeat(&self) -> Option<String> {
        match self.dialect {
            Dialect::Signaling => {
                let session = session(self.place.room);
                Some(format!(r#"{{"type":"heartbeat","sessionId":"{session}"}}"#))
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

    /// Learns from the first signal who the partner is. Debug builds check that it is of this room.
    pub(super) fn learn(&mut self, signal: &str) {
        debug_assert!(signal.contains(&session(self.place.room)), "{signal}");
        if let Some(sender) = signal.strip_prefix(SIGNAL_FROM).and_then(|text| text.get(..ID)) {
            self.partner = Some(sender.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNAL: &str = r#"{"type":"ice-candidate","sessionId":"room-000007","candidate":{"usernameFragment":"x","n":100000123}}"#;
    const A: &str = "00000000-0000-4000-8000-00000000000a";
    const B: &str = "00000000-0000-4000-8000-00000000000b";

    fn speech(dialect: Dialect, side: Side) -> Speech {
        Speech::new(dialect, Place { room: 7, side })
    }

    fn wrap(speech: &Speech) -> String {
        speech.wrap(SIGNAL.to_owned()).unwrap()
    }

    #[test]
    fn socket_io_has_a_signal_as_an_event() {
        let speech = speech(Dialect::SocketIo, Side::A);
        let wrapped = wrap(&speech);
        assert_eq!(wrapped, format!(r#"42["signal",{SIGNAL}]"#));
        assert!(speech.is_gone(r#"42["partner-left"]"#) && !speech.is_gone(&wrapped));
        assert!(speech.is_ping("2") && !speech.is_ping(&wrapped));
    }

    #[test]
    fn peer_server_is_told_whom_a_signal_is_for() {
        let speech = speech(Dialect::PeerServer, Side::A);
        let expected =
            format!(r#"{{"type":"CANDIDATE","dst":"room-000007-b","payload":{SIGNAL}}}"#);
        assert_eq!(wrap(&speech), expected);
        let from_to = r#""src":"room-000007-b","dst":"room-000007-a""#;
        assert!(speech.is_gone(&format!(r#"{{"type":"LEAVE",{from_to}}}"#)));
        assert!(!speech.is_gone(&format!(r#"{{"type":"EXPIRE",{from_to}}}"#)));
    }

    #[test]
    fn matchbox_partners_learn_of_each_other() {
        let [mut a, mut b] = [Side::A, Side::B].map(|side| speech(Dialect::Matchbox, side));
        assert!(a.has_match() && !b.has_match());
        assert!(b.wrap(SIGNAL.to_owned()).is_err());
        for partner in [A, B] {
            assert!(a.is_match(&format!(r#"{{"NewPeer":"{partner}"}}"#)));
            let expected = format!(r#"{{"Signal":{{"receiver":"{partner}","data":{SIGNAL}}}}}"#);
            assert_eq!(wrap(&a), expected);
        }
        b.learn(&format!(r#"{{"Signal":{{"sender":"{A}","data":{SIGNAL}}}}}"#));
        assert!(wrap(&b).contains(A));
        assert!(b.is_gone(&format!(r#"{{"PeerLeft":"{A}"}}"#)));
    }

    #[test]
    fn ours_and_the_floors_have_signals_as_they_are() {
        for dialect in [Dialect::Signaling, Dialect::Bare] {
            assert_eq!(wrap(&speech(dialect, Side::B)), SIGNAL);
        }
        let mut ours = speech(Dialect::Signaling, Side::A);
        assert!(ours.is_match(r#"{"type":"match-found","sessionId":"room-000007","a":1}"#));
        assert!(!ours.is_match(r#"{"type":"match-found","sessionId":"room-000008","a":1}"#));
        assert!(ours.is_gone(r#"{"type":"partner-disconnected","sessionId":"room-000007"}"#));
        let left = speech(Dialect::Bare, Side::A).leave().unwrap();
        assert!(speech(Dialect::Bare, Side::B).is_gone(&left));
    }
}
