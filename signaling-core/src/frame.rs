//! What a transport carries: [`Frame`]s in both directions, and the [`CloseCode`]s that end a
//! connection. An adapter maps these to its socket and knows nothing else of the protocol.

use std::{borrow::Cow, fmt, ops::Deref, str::FromStr};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// UTF-8 text that is shared, not copied, when it is cloned.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Text(ByteString);

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same text in memory of its own, so that keeping it keeps no read buffer alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(ByteString::from(self.as_str()))
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    /// The length only: texts hold session descriptions and addresses, which no log should.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl TryFrom<Bytes> for Text {
    type Error = std::str::Utf8Error;
    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        ByteString::try_from(bytes).map(Self)
    }
}

impl From<Text> for Bytes {
    fn from(text: Text) -> Self {
        text.0.into_bytes()
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// One unit of a transport, as RFC 6455, section 5.6 and 5.5, has them; fragments are joined
/// before they get here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message of the protocol.
    Text(Text),
    /// Never part of the protocol; a client that sends one is told so.
    Binary(Bytes),
    /// Are you there? The transport itself answers pings that come in.
    Ping(Bytes),
    /// The answer to a ping.
    Pong(Bytes),
    /// The last frame in its direction; None where the peer gave no code.
    Close(Option<CloseFrame>),
}

/// Why a peer closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// The code, RFC 6455, section 7.4.
    pub code: u16,
    /// A text for people, at most 123 bytes of UTF-8.
    pub reason: Cow<'static, str>,
}

/// A text of the host's own for people that goes with an end: at most 123 bytes of UTF-8 without
/// control characters, which is what fits a close frame (RFC 6455, section 5.5). Empty by default:
/// then the end has this library's own text. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct CloseReason(ByteString);

/// Why a text is no [`CloseReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReasonError {
    /// It does not fit a close frame.
    #[error("a reason has at most {max} bytes", max = CloseReason::MAX_BYTES)]
    TooLong,
    /// It holds a control character.
    #[error("a reason may not hold the character {0:?}")]
    Character(char),
}

impl CloseReason {
    /// The most bytes that it may have: 125 of a control frame, without the two of the code.
    pub const MAX_BYTES: usize = 123;

    /// Takes `text` as a reason.
    ///
    /// # Errors
    ///
    /// When it is longer than [`Self::MAX_BYTES`], or holds a control character.
    pub fn new(text: &str) -> Result<Self, CloseReasonError> {
        if text.len() > Self::MAX_BYTES {
            return Err(CloseReasonError::TooLong);
        }
        match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(CloseReasonError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for CloseReason {
    type Err = CloseReasonError;
    fn from_str(text: &str) -> Result<Self, CloseReasonError> {
        Self::new(text)
    }
}

impl Serialize for CloseReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CloseReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl CloseFrame {
    /// The close frame with `code` and the text `reason`, or that of the code where it is empty.
    #[must_use]
    pub fn new(code: CloseCode, reason: &CloseReason) -> Self {
        let mut frame = Self::from(code);
        if !reason.is_empty() {
            frame.reason = Cow::Owned(reason.as_str().to_owned());
        }
        frame
    }
}

impl From<CloseCode> for CloseFrame {
    fn from(code: CloseCode) -> Self {
        Self { code: code.code(), reason: Cow::Borrowed(code.reason()) }
    }
}

/// Every way in which this side closes a connection.
///
/// 1000 to 1011 are those of RFC 6455, section 7.4.1; 4000 and above are the protocol's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// 1000: the client left, or the host ended the connection. The client stops.
    Normal,
    /// 1001: this server is going away. The client reconnects, with jitter.
    GoingAway,
    /// 1002: the peer broke the transport's own rules. The client stops.
    ProtocolError,
    /// 1007: a text that is not UTF-8. The client stops.
    InvalidText,
    /// 1008: the host refused the connection. The client stops.
    Refused,
    /// 1009: a frame larger than is accepted. The client stops.
    TooLarge,
    /// 1011: a fault of this server. The client reconnects with backoff.
    Internal,
    /// 4400: too many malformed messages. The client stops.
    Malformed,
    /// 4401: the token is missing, invalid or expired. The client gets a new token, then
    /// reconnects.
    Unauthorized,
    /// 4403: the token was revoked. The client stops.
    Revoked,
    /// 4408: no heartbeat in time. The client reconnects.
    HeartbeatTimeout,
    /// 4409: replaced by a newer connection of the same user. The client stops.
    Replaced,
    /// 4409 as well: the user is connected already, and that connection stays. The client stops.
    AlreadyConnected,
    /// 4413: the client reads too slowly. It reconnects.
    TooSlow,
    /// 4429: more signals than are allowed. The client reconnects with backoff.
    RateLimited,
    /// 4503: the store is unavailable, or this node is full. The client reconnects with backoff.
    Unavailable,
}

impl CloseCode {
    /// Every close code, in the order of its number.
    pub const ALL: [Self; 16] = [
        Self::Normal,
        Self::GoingAway,
        Self::ProtocolError,
        Self::InvalidText,
        Self::Refused,
        Self::TooLarge,
        Self::Internal,
        Self::Malformed,
        Self::Unauthorized,
        Self::Revoked,
        Self::HeartbeatTimeout,
        Self::Replaced,
        Self::AlreadyConnected,
        Self::TooSlow,
        Self::RateLimited,
        Self::Unavailable,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::InvalidText => 1007,
            Self::Refused => 1008,
            Self::TooLarge => 1009,
            Self::Internal => 1011,
            Self::Malformed => 4400,
            Self::Unauthorized => 4401,
            Self::Revoked => 4403,
            Self::HeartbeatTimeout => 4408,
            Self::Replaced | Self::AlreadyConnected => 4409,
            Self::TooSlow => 4413,
            Self::RateLimited => 4429,
            Self::Unavailable => 4503,
        }
    }

    /// The text that goes with it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "closed normally",
            Self::GoingAway => "server going away",
            Self::ProtocolError => "protocol error",
            Self::InvalidText => "text is not valid UTF-8",
            Self::Refused => "refused",
            Self::TooLarge => "frame too large",
            Self::Internal => "internal error",
            Self::Malformed => "too many malformed messages",
            Self::Unauthorized => "token missing, invalid or expired",
            Self::Revoked => "token revoked",
            Self::HeartbeatTimeout => "no heartbeat in time",
            Self::Replaced => "replaced by a newer connection",
            Self::AlreadyConnected => "already connected",
            Self::TooSlow => "reads too slowly",
            Self::RateLimited => "rate limit exceeded",
            Self::Unavailable => "service unavailable",
        }
    }
}

/// How reading from or writing to a transport failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// A frame larger than is accepted came in (closes with 1009).
    #[error("a frame is larger than is accepted")]
    TooLarge,
    /// A text frame that is not UTF-8 came in (closes with 1007).
    #[error("a text frame is not valid UTF-8")]
    InvalidText,
    /// The peer broke the transport's rules (closes with 1002).
    #[error("the peer broke the transport's rules")]
    Protocol(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Many more frames came in than messages need, such as fragments that hold next to nothing
    /// (closes with 4429).
    #[error("the peer sends too many frames")]
    TooManyFrames,
    /// The transport is gone; nothing can be sent any more.
    #[error("the transport is gone")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TransportError {
    /// With which code to close, where a close frame can still be sent.
    #[must_use]
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::TooLarge => Some(CloseCode::TooLarge),
            Self::InvalidText => Some(CloseCode::InvalidText),
            Self::Protocol(_) => Some(CloseCode::ProtocolError),
            Self::TooManyFrames => Some(CloseCode::RateLimited),
            Self::Lost(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_are_those_of_the_protocol_and_their_reasons_fit_a_control_frame() {
        let codes = CloseCode::ALL.map(CloseCode::code);
        assert_eq!(
            codes,
            [
                1000, 1001, 1002, 1007, 1008, 1009, 1011, 4400, 4401, 4403, 4408, 4409, 4409, 4413,
                4429, 4503
            ]
        );
        for code in CloseCode::ALL {
            assert!((1..=123).contains(&code.reason().len()), "{code:?}");
        }
    }

    #[test]
    fn a_hosts_reason_fits_a_close_frame_and_an_empty_one_leaves_the_codes() {
        let longest = "é".repeat(61) + "x";
        for text in ["", "see you tomorrow", "\"{}\\", &longest] {
            assert_eq!(CloseReason::new(text).unwrap().as_str(), text);
        }
        let too_long = CloseReason::new(&"é".repeat(62));
        assert_eq!(too_long, Err(CloseReasonError::TooLong));
        for c in ['\n', '\0', '\u{7f}', '\u{85}'] {
            let refused = CloseReason::new(&format!("a{c}"));
            assert_eq!(refused, Err(CloseReasonError::Character(c)));
        }
        assert!(serde_json::from_str::<CloseReason>("\"a\\n\"").is_err());
        let frame = |text| CloseFrame::new(CloseCode::Normal, &CloseReason::new(text).unwrap());
        assert_eq!(frame("enough"), CloseFrame { code: 1000, reason: "enough".into() });
        assert_eq!(frame(""), CloseFrame { code: 1000, reason: "closed normally".into() });
    }

    #[test]
    fn a_clone_shares_the_text_and_a_detached_one_does_not() {
        let text = Text::from(String::from("abc"));
        assert_eq!(text.clone().as_ptr(), text.as_ptr());
        assert_ne!(text.detached().as_ptr(), text.as_ptr());
        assert_eq!(text.detached(), text);
    }
}
