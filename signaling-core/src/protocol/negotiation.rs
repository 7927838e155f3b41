//! How a negotiation and the signals in it are named, so that a client can move it to another
//! connection.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::Malformed;
use crate::id::SessionId;

/// A negotiation's id on the wire: 16 lower-case hexadecimal digits, opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NegotiationId(u64);

impl NegotiationId {
    const DIGITS: usize = 16;

    /// The number that records have; see
    /// [`SessionRecord::negotiation`](crate::session::SessionRecord::negotiation).
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl From<u64> for NegotiationId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for NegotiationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for NegotiationId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != Self::DIGITS || !text.bytes().all(is_digit) {
            return Err(Malformed);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| Malformed)
    }
}

impl Serialize for NegotiationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A signal's place: its negotiation, and its number among its sender's signals in that, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sequence {
    /// The negotiation.
    pub negotiation: NegotiationId,
    /// The number, at most [`Self::MAX_SEQ`].
    pub seq: u64,
}

impl Sequence {
    /// The largest integer that every JSON parser reads exactly: 2^53 - 1 (RFC 8259, section 6).
    pub const MAX_SEQ: u64 = (1 << 53) - 1;
}

/// The text of a number from 0 to [`Sequence::MAX_SEQ`], in digits alone.
pub(super) fn seq(text: &str) -> Result<u64, Malformed> {
    let is_plain = text == "0" || !text.starts_with('0') && !text.starts_with('+');
    let number = text.parse().ok().filter(|seq| is_plain && *seq <= Sequence::MAX_SEQ);
    number.ok_or(Malformed)
}

/// A negotiation that a client wants to continue on a new connection, as in the query of its
/// request: `{sessionId}~{negotiation}~{seq}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Continue {
    /// The session.
    pub session: SessionId,
    /// The negotiation that the client takes part in.
    pub negotiation: NegotiationId,
    /// The number of the last signal that it has received from its partner; 0 if none.
    pub seq: u64,
}

impl fmt::Display for Continue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, negotiation, seq } = self;
        write!(f, "{session}~{negotiation}~{seq}")
    }
}

impl FromStr for Continue {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        // A session id has no `~`.
        let mut parts = text.split('~');
        let (Some(session), Some(negotiation), Some(last), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed);
        };
        let session = SessionId::new(session).map_err(|_| Malformed)?;
        Ok(Self { session, negotiation: negotiation.parse()?, seq: seq(last)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negotiation_id_is_16_digits() {
        for (number, text) in [(7, "0000000000000007"), (u64::MAX, "ffffffffffffffff")] {
            assert_eq!(NegotiationId::from(number).to_string(), text);
            assert_eq!(text.parse(), Ok(NegotiationId(number)));
        }
        for text in ["", "7", "00000000000000007", "000000000000000A", "+000000000000007", "é"] {
            assert!(text.parse::<NegotiationId>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_client_continues_is_read_as_it_is_written() {
        for text in ["s:1~0000000000000007~0", "a.b_c-d~ffffffffffffffff~9007199254740991"] {
            assert_eq!(text.parse::<Continue>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "s",
            "s~0000000000000007",
            "s~0000000000000007~",
            "s~0000000000000007~-1",
            "s~0000000000000007~+1",
            "s~0000000000000007~01",
            "s~0000000000000007~1~1",
            "s~0000000000000007~9007199254740992",
            "s~7~1",
            "~0000000000000007~1",
            "a b~0000000000000007~1",
        ] {
            assert!(text.parse::<Continue>().is_err(), "{text}");
        }
    }
}
