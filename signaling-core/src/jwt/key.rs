//! The keys that tokens are checked with, each pinned to one algorithm.

use std::{error::Error, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::DecodingKey;
#[cfg(feature = "jwt-aws-lc")]
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER as BACK_END;
#[cfg(not(feature = "jwt-aws-lc"))]
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER as BACK_END;

use super::{
    JwtConfigError,
    algorithm::{Algorithm, Curve, KeyKind, UnknownAlgorithm},
};

/// Why a key cannot be used. It never holds the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The JWK names another algorithm.
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    /// The JWK does not say its algorithm, and its type leaves several.
    #[error("a symmetric key must name its algorithm")]
    NoAlgorithm,
    /// A secret for an algorithm of public keys.
    #[error("{0} needs a public key, not a secret")]
    PublicKeyNeeded(Algorithm),
    /// A public key for an algorithm of secrets.
    #[error("{0} needs a secret, not a public key")]
    SecretNeeded(Algorithm),
    /// RFC 7518, 3.2: a secret is at least as long as the hash.
    #[error("a secret for {algorithm} needs at least {min_bytes} bytes, and this one has {bytes}")]
    SecretTooShort {
        /// What the secret is for.
        algorithm: Algorithm,
        /// The fewest bytes that it may have.
        min_bytes: usize,
        /// The bytes that it has.
        bytes: usize,
    },
    /// A PEM text was given as an HMAC secret. If it is a public key, everybody could sign.
    #[error("a secret may not be a PEM text")]
    PemAsSecret,
    /// No PEM text (RFC 7468).
    #[error("the key is not a PEM text")]
    NotPem,
    /// Checking needs the public key only; the private one has no business here.
    #[error("this is a private key, where the public key belongs")]
    PrivateKey,
    /// The key is of another type, on another curve, or not well formed.
    #[error("this is not a public key for {0}")]
    NotForAlgorithm(Algorithm),
    /// RFC 7518, 3.3: 2048 bits or more; the back ends agree up to 4096.
    #[error("an RSA key has 2048 to 4096 bits, and this one has {bits}")]
    RsaSize {
        /// The bits that it has.
        bits: usize,
    },
    /// The JWK is of a type or on a curve that no [`Algorithm`] uses.
    #[error("the key type or curve is not supported")]
    KeyType,
    /// The JWK is no JSON object.
    #[error("the key is not a JSON object")]
    NotAnObject,
    /// The JWK's `use` or `key_ops` does not allow it to check signatures (RFC 7517, 4.2 and 4.3).
    #[error("the key is not for checking signatures, by its \"use\" or \"key_ops\"")]
    Purpose,
    /// An earlier key of the JWK set has the same `kid`, and is used instead.
    #[error("an earlier key of the set has the same kid")]
    DuplicateKid,
    /// A member of the JWK is missing or not well formed.
    #[error("the member {0:?} is missing or not well formed")]
    Member(&'static str),
    /// The cryptographic library does not take the key.
    #[error("the cryptographic library refuses the key")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

/// A key that tokens may be signed with, for one algorithm only. `Debug` never shows it.
///
/// What is wrong with it is told by [`build`](super::JwtAuthenticatorBuilder::build).
pub struct JwtKey {
    kid: Option<String>,
    key: Result<(Algorithm, DecodingKey), KeyError>,
}

impl JwtKey {
    /// A secret shared with the issuer, for [`HS256`](Algorithm::HS256),
    /// [`HS384`](Algorithm::HS384) or [`HS512`](Algorithm::HS512).
    ///
    /// These are the very bytes: a secret that is handed out in base64 must be decoded first. It
    /// has at least as many bytes as the hash, that is 32, 48 or 64 (RFC 7518, 3.2).
    #[must_use]
    pub fn secret(algorithm: Algorithm, secret: impl AsRef<[u8]>) -> Self {
        Self::of(Self::from_secret(algorithm, secret.as_ref()).map(|key| (algorithm, key)))
    }

    /// The issuer's public key as PEM text: `PUBLIC KEY`, or `RSA PUBLIC KEY` for RSA.
    ///
    /// RSA keys have 2048 to 4096 bits, points of a curve are uncompressed, and private keys and
    /// certificates are refused.
    #[must_use]
    pub fn pem(algorithm: Algorithm, pem: impl AsRef<[u8]>) -> Self {
        Self::of(Self::from_pem(algorithm, pem.as_ref()).map(|key| (algorithm, key)))
    }

    /// The same key, under the name that tokens give it in their `kid` header (RFC 7515, 4.1.4).
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    fn of(key: Result<(Algorithm, DecodingKey), KeyError>) -> Self {
        Self { kid: None, key }
    }

    pub(super) fn pinned(self) -> Result<PinnedKey, JwtConfigError> {
        let kid = self.kid.clone();
        let pinned = self.key.and_then(|(algorithm, key)| PinnedKey::new(self.kid, algorithm, key));
        pinned.map_err(|source| JwtConfigError::Key { kid, source })
    }

    pub(super) fn from_secret(
        algorithm: Algorithm,
        secret: &[u8],
    ) -> Result<DecodingKey, KeyError> {
        let KeyKind::Secret { min_bytes } = algorithm.key_kind() else {
            return Err(KeyError::PublicKeyNeeded(algorithm));
        };
        if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
            return Err(KeyError::PemAsSecret);
        }
        if secret.len() < min_bytes {
            return Err(KeyError::SecretTooShort { algorithm, min_bytes, bytes: secret.len() });
        }
        Ok(DecodingKey::from_secret(secret))
    }

    fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<DecodingKey, KeyError> {
        let (label, der) =
            str::from_utf8(pem).ok().and_then(first_block).ok_or(KeyError::NotPem)?;
        if label.contains("PRIVATE") {
            return Err(KeyError::PrivateKey);
        }
        match (algorithm.key_kind(), label) {
            (KeyKind::Secret { .. }, _) => Err(KeyError::SecretNeeded(algorithm)),
            (KeyKind::Rsa, "PUBLIC KEY" | "RSA PUBLIC KEY") => {
                let wrong = |_| KeyError::NotForAlgorithm(algorithm);
                let key = DecodingKey::from_rsa_pem(pem).map_err(wrong)?;
                let der = key.try_get_as_bytes().map_err(refused)?;
                let parts = (BACK_END.key_utils.rsa_pub_components_from_public_key)(der);
                let (n, e) = parts.map_err(refused)?;
                Self::from_rsa(algorithm, &n, &e)
            }
            (KeyKind::Point(curve), "PUBLIC KEY") => {
                let point = der.strip_prefix(curve.spki);
                Self::from_point(algorithm, curve, point.unwrap_or_default())
            }
            (KeyKind::Rsa | KeyKind::Point(_), _) => Err(KeyError::NotForAlgorithm(algorithm)),
        }
    }

    pub(super) fn from_rsa(
        algorithm: Algorithm,
        n: &[u8],
        e: &[u8],
    ) -> Result<DecodingKey, KeyError> {
        // Some issuers write a leading zero; one back end refuses it, and only when it verifies.
        let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
        let bits = bits(n);
        if !(2048..=4096).contains(&bits) {
            return Err(KeyError::RsaSize { bits });
        }
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        // The bounds of both back ends: an odd exponent of 2 to 33 bits.
        if !odd(n) || !odd(e) || !(2..=33).contains(&self::bits(e)) {
            return Err(KeyError::NotForAlgorithm(algorithm));
        }
        Ok(DecodingKey::from_rsa_raw_components(n, e))
    }

    pub(super) fn from_point(
        algorithm: Algorithm,
        curve: &Curve,
        point: &[u8],
    ) -> Result<DecodingKey, KeyError> {
        if !curve.uncompressed && point.len() == curve.coordinate_bytes {
            return Ok(DecodingKey::from_ed_der(point));
        }
        if curve.uncompressed
            && point.len() == 1 + 2 * curve.coordinate_bytes
            && point.first() == Some(&4)
        {
            return Ok(DecodingKey::from_ec_der(point));
        }
        Err(KeyError::NotForAlgorithm(algorithm))
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = self.key.as_ref().map(|(algorithm, _)| algorithm);
        f.debug_struct("JwtKey")
            .field("kid", &self.kid)
            .field("algorithm", &algorithm)
            .finish_non_exhaustive()
    }
}

/// A key that the back end has taken.
pub(super) struct PinnedKey {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    key: DecodingKey,
}

impl PinnedKey {
    pub(super) fn new(
        kid: Option<String>,
        algorithm: Algorithm,
        key: DecodingKey,
    ) -> Result<Self, KeyError> {
        // Some back ends read a key only when they use it.
        (BACK_END.verifier_factory)(&algorithm.of_back_end(), &key).map_err(refused)?;
        Ok(Self { kid, algorithm, key })
    }

    /// Whether `signature` is this key's signature of `message`.
    ///
    /// The back end is called directly, not through the process-wide choice of `jsonwebtoken`:
    /// that one panics when the application's features turn on two back ends, and belongs to the
    /// application.
    pub(super) fn signed(&self, message: &[u8], signature: Vec<u8>) -> bool {
        (BACK_END.verifier_factory)(&self.algorithm.of_back_end(), &self.key)
            .is_ok_and(|verifier| verifier.verify(message, &signature).is_ok())
    }
}

impl fmt::Debug for PinnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The label and the content of the first block of a PEM text.
fn first_block(pem: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = pem.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let body: String = body.split_ascii_whitespace().collect();
    Some((label, STANDARD.decode(body).ok()?))
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    &number[zeros..]
}

/// The bits of a number without leading zero bytes.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn refused(cause: jsonwebtoken::errors::Error) -> KeyError {
    KeyError::Refused(Box::new(cause))
}
