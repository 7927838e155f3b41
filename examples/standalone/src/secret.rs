//! What may never be shown: keys and secrets. They come from the environment or a file, since
//! command lines are visible to every user of a machine.

use std::{ffi::OsString, fmt, fs, path::Path};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A secret. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// From an environment variable; an empty one counts as not set.
    pub(crate) fn from_env(value: Option<OsString>) -> Option<Self> {
        value.map(Self::from).filter(|secret| !secret.bytes().is_empty())
    }

    /// From a file, without the line end that editors leave behind the text.
    pub(crate) fn from_file(path: &Path) -> std::io::Result<Self> {
        let mut bytes = fs::read(path)?;
        while bytes.last().is_some_and(|byte| b"\r\n".contains(byte)) {
            bytes.pop();
        }
        Ok(Self(bytes))
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
        Self(text.into_encoded_bytes())
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

/// The key of the HTTP API: its digest only, which takes the same time to compare whatever the
/// length and the first difference of what a caller brings.
#[derive(Clone)]
pub(crate) struct ApiKey([u8; 32]);

impl ApiKey {
    pub(crate) fn new(key: &Secret) -> Self {
        Self(Sha256::digest(key.bytes()).into())
    }

    pub(crate) fn is(&self, given: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.0.ct_eq(&given).into()
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
        let shown = format!("{secret:?} {:?}", ApiKey::new(&secret));
        assert_eq!(shown, "Secret(<hidden>) ApiKey(<hidden>)");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        assert_eq!(Secret::from_env(Some(OsString::new())), None);
        assert_eq!(Secret::from_env(None), None);
    }

    #[test]
    fn an_api_key_matches_itself_alone() {
        let key = ApiKey::new(&Secret::from_env(Some("hunter2".into())).unwrap());
        assert!(key.is("hunter2"));
        for other in ["", "hunter", "hunter22", "Hunter2", "hunter2 "] {
            assert!(!key.is(other), "{other:?}");
        }
    }
}
