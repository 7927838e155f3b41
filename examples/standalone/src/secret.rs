//! What may never be shown: keys and secrets. They come from the environment or a file, since
//! command lines are visible to every user of a machine.

use std::{ffi::OsString, fmt, fs::File, io::Read, path::Path};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::current::Current;

/// The largest key file: many times what the largest JWK set needs.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A secret, without the line breaks at its end: editors and `echo` leave them in files, and
/// whatever sets variables from files leaves them there. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// From an environment variable; an empty one counts as not set.
    pub(crate) fn from_env(value: Option<OsString>) -> Option<Self> {
        value.map(Self::from).filter(|secret| !secret.bytes().is_empty())
    }

    pub(crate) fn from_file(path: &Path) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > MAX_FILE_BYTES {
            true => Err(std::io::Error::other("it is larger than 1 MiB")),
            false => Ok(Self::from(bytes)),
        }
    }

    /// 256 random bits, as text.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        Ok(Self(random_hex::<32>()?.into_bytes()))
    }

    /// As text, for those that are told or understood.
    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<OsString> for Secret {
    fn from(text: OsString) -> Self {
        Self::from(text.into_encoded_bytes())
    }
}

impl From<Vec<u8>> for Secret {
    fn from(mut bytes: Vec<u8>) -> Self {
        while bytes.last().is_some_and(|byte| b"\r\n".contains(byte)) {
            bytes.pop();
        }
        Self(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(<hidden>)")
    }
}

/// `BYTES` random bytes in hexadecimal.
pub(crate) fn random_hex<const BYTES: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The key of the HTTP API that is in force: its digest only, which takes the same time to compare
/// whatever the length and the first difference of what a caller brings.
#[derive(Clone)]
pub(crate) struct ApiKey(Current<[u8; 32]>);

impl ApiKey {
    /// RFC 7518, 3.2, asks as many of a secret for HS256.
    pub(crate) const MIN_BYTES: usize = 32;

    pub(crate) fn new(digest: Current<[u8; 32]>) -> Self {
        Self(digest)
    }

    pub(crate) fn digest(key: &[u8]) -> [u8; 32] {
        Sha256::digest(key).into()
    }

    pub(crate) fn is(&self, given: &str) -> bool {
        self.0.get().ct_eq(&Self::digest(given.as_bytes())).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(<hidden>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::from_env(Some("hunter2".into())).unwrap();
        let key = ApiKey::new(Current::new(ApiKey::digest(secret.bytes())));
        let shown = format!("{secret:?} {key:?}");
        assert_eq!(shown, "Secret(<hidden>) ApiKey(<hidden>)");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        assert_eq!(Secret::from_env(Some(OsString::new())), None);
        assert_eq!(Secret::from_env(Some("\r\n".into())), None);
        assert_eq!(Secret::from_env(None), None);
    }

    #[test]
    fn line_breaks_at_the_end_are_no_part_of_a_secret() {
        for text in ["hunter2", "hunter2\n", "hunter2\r\n", "hunter2\n\n"] {
            let secret = Secret::from_env(Some(text.into())).unwrap();
            assert_eq!(secret.bytes(), b"hunter2", "{text:?}");
        }
        for text in ["\nhunter2", "hunter2 ", "hun\nter2"] {
            assert_eq!(Secret::from(text.as_bytes().to_vec()).bytes(), text.as_bytes());
        }
    }

    #[test]
    fn an_api_key_matches_itself_alone() {
        let current = Current::new(ApiKey::digest(b"hunter2"));
        let key = ApiKey::new(current.clone());
        assert!(key.is("hunter2"));
        for other in ["", "hunter", "hunter22", "Hunter2", "hunter2 "] {
            assert!(!key.is(other), "{other:?}");
        }
        current.replace(ApiKey::digest(b"hunter3"));
        assert!(key.is("hunter3") && !key.is("hunter2"));
    }
}
