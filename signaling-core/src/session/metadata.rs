use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text is too long to be [`Metadata`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("metadata of {0} bytes; at most {max} are kept", max = Metadata::MAX_BYTES)]
pub struct MetadataError(pub usize);

/// What a host wants to know again of a session: an opaque text of at most 4 KiB, JSON or whatever it
/// likes. Clients never see it. Cheap to clone.
///
/// It travels with the session's record, so every change of a session between two nodes carries it:
/// better a key of the host's own than all that this leads to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Metadata(Arc<str>);

impl Metadata {
    /// The most bytes that it may have: 4 KiB.
    pub const MAX_BYTES: usize = 4096;

    /// Takes `text` as metadata, as it is.
    ///
    /// # Errors
    ///
    /// When it is longer than [`Self::MAX_BYTES`].
    pub fn new(text: &str) -> Result<Self, MetadataError> {
        if text.len() > Self::MAX_BYTES {
            return Err(MetadataError(text.len()));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Metadata {
    type Err = MetadataError;
    fn from_str(text: &str) -> Result<Self, MetadataError> {
        Self::new(text)
    }
}

impl fmt::Debug for Metadata {
    /// The length only: what a host keeps of its users belongs in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} bytes)", self.0.len())
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_any_text_of_at_most_4_kib() {
        for text in ["", "{\"room\":7}", "\u{0}\n\u{1f600}", &"x".repeat(4096)] {
            assert_eq!(Metadata::new(text).unwrap().as_str(), text);
        }
        assert_eq!(Metadata::new(&"x".repeat(4097)), Err(MetadataError(4097)));
        assert_eq!(Metadata::new(&"é".repeat(2049)), Err(MetadataError(4098)));
        assert!(serde_json::from_str::<Metadata>(&format!("\"{}\"", "x".repeat(4097))).is_err());
    }
}
