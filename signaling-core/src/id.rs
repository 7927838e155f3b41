//! Who and what: users, sessions, nodes and connections, each a parsed type.
//!
//! All four are cheap to clone: a clone counts a reference and copies no text.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text is empty.
    #[error("an id may not be empty")]
    Empty,
    /// The text is longer than this kind of id may be.
    #[error("an id of this kind has at most {max} bytes")]
    TooLong {
        /// The most bytes that this kind of id may have.
        max: usize,
    },
    /// The text holds a character that this kind of id may not hold.
    #[error("an id of this kind may not hold the character {0:?}")]
    Character(char),
    /// The text is no `node:number`, as a [`ConnectionId`] is written.
    #[error("a connection id is written node:number")]
    Connection,
    /// The operating system has no randomness for a new id.
    #[error("no randomness for a new id")]
    Random,
}

fn checked(text: &str, max: usize, bad: Option<char>) -> Result<Arc<str>, IdError> {
    match bad {
        _ if text.is_empty() => Err(IdError::Empty),
        _ if text.len() > max => Err(IdError::TooLong { max }),
        Some(character) => Err(IdError::Character(character)),
        None => Ok(Arc::from(text)),
    }
}

/// The first character that is none of `A-Z a-z 0-9` and `others`, which are ASCII. By bytes, since this
/// is done for each message.
fn first_disallowed(text: &str, others: &[u8]) -> Option<char> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
    let at = text.bytes().position(|byte| !allowed(byte))?;
    text[at..].chars().next()
}

/// 128 bits from the operating system's random source, as 32 hexadecimal digits.
fn random_hex() -> Result<String, IdError> {
    Ok(format!("{:016x}{:016x}", random_u64()?, random_u64()?))
}

/// 64 bits from the operating system's random source.
pub(crate) fn random_u64() -> Result<u64, IdError> {
    getrandom::u64().map_err(|_| IdError::Random)
}

macro_rules! text_id {
    ($name:ident) => {
        impl $name {
            /// The id as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }
    };
}

/// A user of the host's product, as the token names it: 1 to 256 bytes of UTF-8 without control
/// characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The most bytes that a user id may have.
    pub const MAX_BYTES: usize = 256;

    /// Takes `text` as a user id.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than [`Self::MAX_BYTES`], or holds a control character.
    pub fn new(text: &str) -> Result<Self, IdError> {
        // By bytes, since this is done for each connection. Control characters beyond ASCII are encoded as 0xC2
        // and one more byte.
        let may_hold_one = text.bytes().any(|byte| byte.is_ascii_control() || byte == 0xC2);
        let control = may_hold_one.then(|| text.chars().find(|c| c.is_control())).flatten();
        checked(text, Self::MAX_BYTES, control).map(Self)
    }
}

text_id!(UserId);

/// One rendezvous of two users: 1 to 128 of `A-Z a-z 0-9 . _ : -`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// The most bytes that a session id may have.
    pub const MAX_BYTES: usize = 128;

    /// Takes `text` as a session id.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than [`Self::MAX_BYTES`], or holds another character than
    /// `A-Z a-z 0-9 . _ : -`.
    pub fn new(text: &str) -> Result<Self, IdError> {
        checked(text, Self::MAX_BYTES, first_disallowed(text, b"._:-")).map(Self)
    }

    /// A new id with 128 random bits, which nobody can guess.
    ///
    /// # Errors
    ///
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, IdError> {
        Ok(Self(Arc::from(random_hex()?)))
    }
}

text_id!(SessionId);

/// One process with a [`Relay`](crate::Relay), for as long as that process lives: 1 to 128 of
/// `A-Z a-z 0-9 . _ -`.
///
/// A restarted process is another node, also under the same name, so that what belonged to the old
/// one is never taken for the new one's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The most bytes that a node id may have.
    pub const MAX_BYTES: usize = 128;
    /// The most bytes that the name within a generated node id may have.
    pub const MAX_NAME_BYTES: usize = Self::MAX_BYTES - 33;
    const OTHERS: &[u8] = b"._-";

    /// Takes `text` as a node id.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than [`Self::MAX_BYTES`], or holds another character than
    /// `A-Z a-z 0-9 . _ -`.
    pub fn new(text: &str) -> Result<Self, IdError> {
        checked(text, Self::MAX_BYTES, first_disallowed(text, Self::OTHERS)).map(Self)
    }

    /// A new id of 128 random bits, with `name` and a dot in front of them where one is given.
    ///
    /// # Errors
    ///
    /// When `name` is empty, longer than [`Self::MAX_NAME_BYTES`], or holds another character than
    /// `A-Z a-z 0-9 . _ -`; or when the operating system has no randomness to give.
    pub fn generate(name: Option<&str>) -> Result<Self, IdError> {
        let random = random_hex()?;
        match name {
            None => Ok(Self(Arc::from(random))),
            Some(name) => {
                let name =
                    checked(name, Self::MAX_NAME_BYTES, first_disallowed(name, Self::OTHERS))?;
                Ok(Self(Arc::from(format!("{name}.{random}"))))
            }
        }
    }
}

text_id!(NodeId);

/// One live transport of a user. It names its node, and its number is never given out again there.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    number: u64,
    node: NodeId,
}

impl ConnectionId {
    /// The connection `number` of `node`.
    #[must_use]
    pub fn new(node: NodeId, number: u64) -> Self {
        Self { number, node }
    }

    /// The node that holds the connection.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The connection's number on its node.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.number)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

impl FromStr for ConnectionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (node, number) = text.rsplit_once(':').ok_or(IdError::Connection)?;
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse().ok().filter(|_| digits).ok_or(IdError::Connection)?;
        Ok(Self { number, node: NodeId::new(node)? })
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConnectionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_hold_any_text_but_control_characters() {
        for text in ["a", "Zoë", "名前 with spaces", "auth0|5f7c", &"x".repeat(256)] {
            assert_eq!(UserId::new(text).unwrap().as_str(), text);
        }
        assert_eq!(UserId::new(""), Err(IdError::Empty));
        assert_eq!(UserId::new(&"x".repeat(257)), Err(IdError::TooLong { max: 256 }));
        assert_eq!(UserId::new("a\nb"), Err(IdError::Character('\n')));
        assert_eq!(UserId::new("a\u{85}b"), Err(IdError::Character('\u{85}')));
    }

    #[test]
    fn session_ids_hold_few_characters() {
        assert!(SessionId::new("room:1.a_B-9").is_ok());
        assert_eq!(SessionId::new("a b"), Err(IdError::Character(' ')));
        assert_eq!(SessionId::new("a{b"), Err(IdError::Character('{')));
        assert_eq!(SessionId::new("aé"), Err(IdError::Character('é')));
        assert_eq!(SessionId::new(&"s".repeat(129)), Err(IdError::TooLong { max: 128 }));
    }

    #[test]
    fn generated_ids_differ_and_parse() {
        let ids = [SessionId::generate().unwrap(), SessionId::generate().unwrap()];
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[0].as_str().parse(), Ok(ids[0].clone()));
        assert_eq!(ids[0].as_str().len(), 32);
    }

    #[test]
    fn a_connection_id_names_its_node() {
        let id: ConnectionId = "eu-1.0f:17".parse().unwrap();
        assert_eq!((id.node().as_str(), id.number()), ("eu-1.0f", 17));
        assert_eq!(id.to_string(), "eu-1.0f:17");
        for text in ["", "17", "n:", "n:+1", "n:x", ":1", "n:99999999999999999999"] {
            assert!(text.parse::<ConnectionId>().is_err(), "{text}");
        }
    }
}
