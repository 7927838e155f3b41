//! The wire protocol: what a client may say, what the server says, and how both are written.
//!
//! Every message is one JSON object in one text frame. `sdp` and `candidate` are opaque: they are
//! checked for their JSON type and relayed as they were written, byte for byte.
//!
//! | from | message |
//! | --- | --- |
//! | server | `{"type":"match-found","sessionId","partnerId","isInitiator"}` |
//! | both | `{"type":"offer","sessionId","sdp"}` |
//! | both | `{"type":"answer","sessionId","sdp"}` |
//! | both | `{"type":"ice-candidate","sessionId","candidate"}` |
//! | client | `{"type":"heartbeat","sessionId"?,"id"?}` |
//! | server | `{"type":"heartbeat-ack","id"}` |
//! | client | `{"type":"leave","sessionId"}` |
//! | server | `{"type":"partner-disconnected","sessionId"}` |
//! | server | `{"type":"error","code","message","sessionId"?}` |
//!
//! With [`Dialect::V1`] alone:
//!
//! | from | message |
//! | --- | --- |
//! | server | `match-found` with `"negotiation"` and `"iceServers"?` |
//! | both | `offer`, `answer` and `ice-candidate` with `"negotiation"` and `"seq"` |
//! | server | `{"type":"continued","sessionId","negotiation","partnerConnected"}` |
//! | server | `{"type":"partner-reconnected","sessionId","negotiation"}` |
//! | server | `{"type":"received","sessionId","negotiation","seq"}` |
//! | server | `partner-disconnected` with `"reason"`, one of [`PartnerReason`] |
//! | server | `{"type":"ice-servers","sessionId","iceServers"}` |
//! | server | `{"type":"token-expiring","inMs"}` |
//! | client | `{"type":"refresh","token"}` |
//! | server | `{"type":"refreshed","expiresInMs"?}` |
//! | server | `{"type":"move","afterMs"}` |

mod ice_server;
mod negotiation;
mod parse;

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;

use crate::{
    frame::Text,
    id::{SessionId, UserId},
    reason::PartnerReason,
};

pub use ice_server::{IceServer, IceServerError};
pub use negotiation::{Continue, NegotiationId, Sequence};
#[cfg(feature = "test-util")]
pub(crate) use parse::check_scanner;

/// What a client understands: what it negotiated when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// The base messages with exactly their fields; strict parsers exist.
    #[default]
    Base,
    /// The client negotiated [`Self::V1_SUBPROTOCOL`]: messages may have further fields, and there may
    /// be further messages.
    V1,
}

impl Dialect {
    /// The WebSocket subprotocol (RFC 6455, section 1.9) that stands for [`Self::V1`].
    pub const V1_SUBPROTOCOL: &str = "signaling.v1";
}

/// What a client says.
#[derive(Debug)]
pub enum ClientMessage<'a> {
    /// Something for the partner.
    Signal(Signal<'a>),
    /// The client is alive.
    Heartbeat {
        /// The session that the client believes to be in.
        session: Option<SessionId>,
        /// Asks for a `heartbeat-ack` with the same number.
        id: Option<HeartbeatId<'a>>,
    },
    /// The client hangs up.
    Leave {
        /// What it leaves.
        session: SessionId,
    },
    /// A later token of the same user; only from [`Dialect::V1`].
    Refresh {
        /// The token. It is not to be logged.
        token: Secret<'a>,
    },
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<'a>(Cow<'a, str>);

impl Secret<'_> {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_owned(self) -> Secret<'static> {
        Secret(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}

/// The `id` of a heartbeat: a JSON number of at most [`Self::MAX_BYTES`], as its sender wrote it. The
/// answer carries the same text, so its value and its precision do not matter here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeartbeatId<'a>(Cow<'a, str>);

impl<'a> HeartbeatId<'a> {
    /// The longest number, in bytes: room for every `f64` without an exponent.
    pub const MAX_BYTES: usize = 1024;

    /// Takes a valid JSON value; none if it is not a number, or too long.
    fn of_json(value: &'a str) -> Option<Self> {
        let is_number = value.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        (is_number && value.len() <= Self::MAX_BYTES).then_some(Self(Cow::Borrowed(value)))
    }
}

impl From<u64> for HeartbeatId<'_> {
    fn from(number: u64) -> Self {
        Self(Cow::Owned(number.to_string()))
    }
}

impl fmt::Display for HeartbeatId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for HeartbeatId<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        number.serialize(serializer)
    }
}

/// The three kinds of signal, RFC 8829 (JSEP), sections 3.2 and 3.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignalKind {
    /// A session description that proposes.
    Offer,
    /// A session description that accepts.
    Answer,
    /// An ICE candidate, or the end of them.
    IceCandidate,
}

impl SignalKind {
    /// Its `type` on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::IceCandidate => "ice-candidate",
        }
    }

    const fn payload_field(self) -> &'static str {
        match self {
            Self::Offer | Self::Answer => "sdp",
            Self::IceCandidate => "candidate",
        }
    }
}

/// An offer, an answer or an ICE candidate on its way to the partner.
#[derive(Debug)]
pub struct Signal<'a> {
    /// Which of the three it is.
    pub kind: SignalKind,
    /// In which session.
    pub session: SessionId,
    /// The `sdp` or the `candidate`: JSON, as the sender wrote it.
    pub payload: &'a str,
    /// Its place in the negotiation, if the sender said it; only from [`Dialect::V1`].
    pub sequence: Option<Sequence>,
    /// Whether the message holds the protocol's fields and no others.
    pub(crate) exact: bool,
}

impl Signal<'_> {
    /// What a partner of the sender's kind gets for `frame`, the text that this signal was parsed
    /// from: that very text, unless it holds fields that the partner must not see.
    #[must_use]
    pub fn relayed(&self, frame: &Text) -> Text {
        if self.exact {
            return frame.clone();
        }
        self.to_text(self.sequence)
    }

    fn to_text(&self, sequence: Option<Sequence>) -> Text {
        let (kind, field) = (self.kind.as_str(), self.kind.payload_field());
        let (session, payload) = (&self.session, self.payload);
        // Neither id has a character that JSON escapes.
        let text = match sequence {
            None => format!(r#"{{"type":"{kind}","sessionId":"{session}","{field}":{payload}}}"#),
            Some(Sequence { negotiation, seq }) => format!(
                r#"{{"type":"{kind}","sessionId":"{session}","negotiation":"{negotiation}","seq":{seq},"{field}":{payload}}}"#
            ),
        };
        text.into()
    }
}

/// The text of a signal that was [relayed](Signal::relayed), with this place in the negotiation instead
/// of the one that it has or has not.
pub(crate) fn with_sequence(text: &Text, sequence: Option<Sequence>) -> Text {
    match ClientMessage::parse(text, Dialect::V1) {
        Ok(ClientMessage::Signal(signal)) => signal.to_text(sequence),
        // It was parsed before it was relayed.
        _ => text.clone(),
    }
}

/// A text that is no message of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message of the protocol")]
pub struct Malformed;

impl<'a> ClientMessage<'a> {
    /// The deepest nesting of objects and arrays in a payload that is relayed. A partner's JSON
    /// parser may recurse; a real payload has one level.
    pub const MAX_DEPTH: usize = 64;

    /// Reads one message of a client that negotiated `dialect`.
    ///
    /// Unknown fields are passed over, twice-given known ones are not. Messages and fields of
    /// [`Dialect::V1`] are unknown ones for [`Dialect::Base`].
    ///
    /// # Errors
    ///
    /// When `text` is no JSON object, its `type` is unknown, or a field is missing, given twice,
    /// of a wrong JSON type, or nested deeper than [`Self::MAX_DEPTH`]; or when one of `negotiation` and
    /// `seq` is there without the other.
    pub fn parse(text: &'a str, dialect: Dialect) -> Result<Self, Malformed> {
        parse::client_message(text, dialect)
    }
}

/// What the server says; relayed signals are said in the sender's own words.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum ServerMessage<'a> {
    /// A session is open for the client, or its partner is back and negotiation starts over.
    MatchFound {
        /// The session.
        session_id: &'a SessionId,
        /// The other user.
        partner_id: &'a UserId,
        /// Whether this client makes the offer.
        is_initiator: bool,
        /// The negotiation that begins, where the client understands [`Dialect::V1`].
        #[serde(skip_serializing_if = "Option::is_none")]
        negotiation: Option<NegotiationId>,
        /// The STUN and TURN servers to use, where the client understands [`Dialect::V1`] and they
        /// are known.
        #[serde(skip_serializing_if = "Option::is_none")]
        ice_servers: Option<&'a [IceServer]>,
    },
    /// The client's negotiation continues on this connection. Only for [`Dialect::V1`].
    Continued {
        /// The session.
        session_id: &'a SessionId,
        /// The negotiation.
        negotiation: NegotiationId,
        /// Whether the partner is connected now.
        partner_connected: bool,
    },
    /// The partner is back, and its negotiation continues. Only for [`Dialect::V1`].
    PartnerReconnected {
        /// The session.
        session_id: &'a SessionId,
        /// The negotiation.
        negotiation: NegotiationId,
    },
    /// The partner's client has this client's signals up to `seq`; the later ones are to be sent again.
    /// Only for [`Dialect::V1`].
    Received {
        /// The session.
        session_id: &'a SessionId,
        /// The negotiation.
        negotiation: NegotiationId,
        /// The number of the last that was received without a gap; 0 if none.
        seq: u64,
    },
    /// The client's token expires soon. Only for [`Dialect::V1`].
    TokenExpiring {
        /// In how many milliseconds the connection closes with 4401.
        in_ms: u64,
    },
    /// The client's new token was accepted. Only for [`Dialect::V1`].
    Refreshed {
        /// In how many milliseconds that expires; none if never.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_in_ms: Option<u64>,
    },
    /// This node is draining: the client is to open a new connection, and then to drop this one. Only for
    /// [`Dialect::V1`].
    Move {
        /// In how many milliseconds.
        after_ms: u64,
    },
    /// The STUN and TURN servers to use from now on: those of before are about to expire, or there
    /// were none. Only for [`Dialect::V1`].
    IceServers {
        /// The session.
        session_id: &'a SessionId,
        /// The servers.
        ice_servers: &'a [IceServer],
    },
    /// The partner's connection ended, or it left, or it fell silent.
    PartnerDisconnected {
        /// The session.
        session_id: &'a SessionId,
        /// Why, for clients that negotiated `signaling.v1`; none for the others.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<PartnerReason>,
    },
    /// The answer to a heartbeat that has an `id`.
    HeartbeatAck {
        /// That id.
        id: &'a HeartbeatId<'a>,
    },
    /// A message was refused; the connection goes on.
    Error {
        /// Why.
        code: ErrorCode,
        /// The same for people.
        message: &'static str,
        /// In which session, where the message named one.
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<&'a SessionId>,
    },
}

impl<'a> ServerMessage<'a> {
    /// The refusal `code`, in the session that the refused message named.
    #[must_use]
    pub fn error(code: ErrorCode, session_id: Option<&'a SessionId>) -> Self {
        Self::Error { code, message: code.message(), session_id }
    }

    /// The message as it goes on the wire.
    #[must_use]
    pub fn to_text(&self) -> Text {
        // Strings, numbers and booleans in a struct: there is nothing here that can fail.
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// It is no message of the protocol.
    Malformed,
    /// There is no such session, or the sender takes no part in it.
    UnknownSession,
    /// The first offer of a negotiation came from the responder.
    NotInitiator,
    /// The partner is away, and the sender has been told so.
    PartnerAbsent,
    /// The signal is larger than the server may hold for a partner.
    TooLarge,
    /// More signals than are allowed.
    RateLimited,
    /// The store or the bus did not answer; try again.
    Unavailable,
    /// The token of a `refresh` is not a later one of the same user. That of before still holds.
    TokenRefused,
}

impl ErrorCode {
    /// Every error code.
    pub const ALL: [Self; 8] = [
        Self::Malformed,
        Self::UnknownSession,
        Self::NotInitiator,
        Self::PartnerAbsent,
        Self::TooLarge,
        Self::RateLimited,
        Self::Unavailable,
        Self::TokenRefused,
    ];

    /// The code on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownSession => "unknown-session",
            Self::NotInitiator => "not-initiator",
            Self::PartnerAbsent => "partner-absent",
            Self::TooLarge => "too-large",
            Self::RateLimited => "rate-limited",
            Self::Unavailable => "unavailable",
            Self::TokenRefused => "token-refused",
        }
    }

    /// The text that goes with it.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Malformed => "this is not a message of the protocol",
            Self::UnknownSession => "there is no such session for you",
            Self::NotInitiator => "the initiator makes the first offer",
            Self::PartnerAbsent => "your partner is not connected; wait for match-found",
            Self::TooLarge => "the signal is too large",
            Self::RateLimited => "too many signals; this one was dropped",
            Self::Unavailable => "this could not be done now; try again",
            Self::TokenRefused => {
                "this is not a later token of the same user; the earlier one still holds"
            }
        }
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionId {
        SessionId::new("s:1").unwrap()
    }

    #[test]
    fn server_messages_are_written_as_the_protocol_has_them() {
        let (session, partner) = (session(), UserId::new("Zoë \"Z\"").unwrap());
        let found = ServerMessage::MatchFound {
            session_id: &session,
            partner_id: &partner,
            is_initiator: true,
            negotiation: None,
            ice_servers: None,
        };
        assert_eq!(
            found.to_text().as_str(),
            r#"{"type":"match-found","sessionId":"s:1","partnerId":"Zoë \"Z\"","isInitiator":true}"#
        );
        let gone = |reason| ServerMessage::PartnerDisconnected { session_id: &session, reason };
        assert_eq!(
            gone(None).to_text().as_str(),
            r#"{"type":"partner-disconnected","sessionId":"s:1"}"#
        );
        for (reason, name) in
            PartnerReason::ALL.into_iter().zip(["left", "lost", "timeout", "replaced", "ended"])
        {
            assert_eq!(reason.as_str(), name);
            assert_eq!(
                gone(Some(reason)).to_text().as_str(),
                format!(r#"{{"type":"partner-disconnected","sessionId":"s:1","reason":"{name}"}}"#)
            );
        }
        assert_eq!(
            ServerMessage::HeartbeatAck { id: &HeartbeatId::from(7) }.to_text().as_str(),
            r#"{"type":"heartbeat-ack","id":7}"#
        );
        assert_eq!(
            ServerMessage::error(ErrorCode::PartnerAbsent, Some(&session)).to_text().as_str(),
            r#"{"type":"error","code":"partner-absent","message":"your partner is not connected; wait for match-found","sessionId":"s:1"}"#
        );
        for code in ErrorCode::ALL {
            let (name, message) = (code.as_str(), code.message());
            assert_eq!(
                ServerMessage::error(code, None).to_text().as_str(),
                format!(r#"{{"type":"error","code":"{name}","message":"{message}"}}"#)
            );
        }
    }

    #[test]
    fn an_exact_signal_is_relayed_as_the_very_same_bytes() {
        let frame = Text::from(
            " {\"candidate\" : {\"a\":1e9999, \"a\":\"\\ud800\"},\n\"sessionId\":\"s:1\",\"type\":\"ice-candidate\"} ",
        );
        let ClientMessage::Signal(signal) = ClientMessage::parse(&frame, Dialect::Base).unwrap()
        else {
            panic!("not a signal");
        };
        assert_eq!(signal.relayed(&frame).as_ptr(), frame.as_ptr());
    }

    #[test]
    fn fields_that_strict_parsers_do_not_know_are_left_out_of_what_is_relayed() {
        let frame = Text::from(
            r#"{"type":"offer","from":"me","sessionId":"s:1","sdp":"v=0\u000d\u000A \/","x":[1]}"#,
        );
        let ClientMessage::Signal(signal) = ClientMessage::parse(&frame, Dialect::Base).unwrap()
        else {
            panic!("not a signal");
        };
        assert_eq!(
            signal.relayed(&frame).as_str(),
            r#"{"type":"offer","sessionId":"s:1","sdp":"v=0\u000d\u000A \/"}"#
        );
    }

    #[test]
    fn a_signal_gets_the_place_in_its_negotiation_that_its_receiver_understands() {
        let [plain, numbered] = [
            r#"{"type":"offer","sessionId":"s:1","sdp":"v=0\r\n"}"#,
            r#"{"type":"offer","sessionId":"s:1","negotiation":"00000000000000ff","seq":3,"sdp":"v=0\r\n"}"#,
        ]
        .map(Text::from);
        let sequence = Sequence { negotiation: 255.into(), seq: 3 };
        assert_eq!(with_sequence(&plain, Some(sequence)), numbered);
        assert_eq!(with_sequence(&numbered, None), plain);
        let ClientMessage::Signal(signal) = ClientMessage::parse(&numbered, Dialect::V1).unwrap()
        else {
            panic!("not a signal");
        };
        assert_eq!(signal.sequence, Some(sequence));
        assert_eq!(signal.relayed(&numbered).as_ptr(), numbered.as_ptr());
        // Base clients do not have these fields, and may use their names.
        let ClientMessage::Signal(signal) = ClientMessage::parse(&numbered, Dialect::Base).unwrap()
        else {
            panic!("not a signal");
        };
        assert_eq!((signal.sequence, signal.relayed(&numbered)), (None, plain));
    }

    #[test]
    fn a_token_is_not_shown() {
        let text = r#"{"type":"refresh","token":"a.b.c"}"#;
        let message = ClientMessage::parse(text, Dialect::V1).unwrap();
        assert!(matches!(&message, ClientMessage::Refresh { token } if token.reveal() == "a.b.c"));
        assert!(!format!("{message:?}").contains("a.b.c"));
        assert!(ClientMessage::parse(text, Dialect::Base).is_err());
    }
}
