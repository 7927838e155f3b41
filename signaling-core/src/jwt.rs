//! JSON Web Tokens (RFC 7519) as credentials: features `jwt` (on by default) and `jwt-aws-lc`.
//!
//! ```
//! use signaling_core::jwt::{Algorithm, JwtAuthenticator, JwtKey};
//!
//! # let secret = [7; 32];
//! let authenticator = JwtAuthenticator::builder()
//!     .key(JwtKey::secret(Algorithm::HS256, secret))
//!     .issuer("https://id.example")
//!     .audience("signaling")
//!     .build()?;
//! # Ok::<(), signaling_core::jwt::JwtConfigError>(())
//! ```
//!
//! `jwt` brings a cryptographic back end of pure Rust, `jwt-aws-lc` brings aws-lc, which checks
//! RS, PS and ES tokens several times faster. Either is enough; with both, aws-lc is used. The
//! process-wide provider of `jsonwebtoken` is neither used nor set: an application that calls
//! that crate itself, with another back end than ours, must install its own.

mod algorithm;
mod jwks;
mod key;
mod token;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

pub use self::{
    algorithm::{Algorithm, UnknownAlgorithm},
    key::{JwtKey, KeyError},
    token::TokenError,
};
use self::{
    key::PinnedKey,
    token::{Claims, Token},
};
use crate::{
    auth::{AuthError, Authenticator, Credentials, Identity},
    time::{Clock, SystemClock},
};

/// Accepts bearer tokens that are JWTs, signed with one of a fixed set of keys.
///
/// A token is accepted when all of this holds:
///
/// - It is a JWS in compact form (RFC 7515, 7.1) of at most 16 KiB, without a `crit` header
///   (RFC 7515, 4.1.11).
/// - It is signed with the key that its `kid` header names, by that key's algorithm. Its `alg`
///   header is compared and never chooses (RFC 8725, 3.1). The only key of a set also checks
///   tokens without a `kid`; if it has no `kid` itself, it checks every token.
/// - `exp` (RFC 7519, 4.1.4) is there and lies ahead; `nbf` (4.1.5), if there, does not; both
///   with the leeway in the token's favour.
/// - `iss` (4.1.1) is one of the issuers, if any were given.
/// - `aud` (4.1.3), a string or an array of strings, names one of the audiences. Where none were
///   given, a token for any audience is refused, as the RFC demands: it was meant for others.
/// - The claim of the user id is a string and a [`UserId`](crate::id::UserId).
///
/// The identity expires at `exp` plus the leeway, the moment from which on the token is refused
/// as well.
///
/// A token that has expired and is good otherwise gets [`AuthError::Expired`], any other that is
/// not accepted [`AuthError::Invalid`] with a [`TokenError`].
#[derive(Debug)]
pub struct JwtAuthenticator {
    keys: Vec<PinnedKey>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    user_claim: String,
    leeway: Duration,
    clock: Arc<dyn Clock>,
}

impl JwtAuthenticator {
    /// What may differ between the issuer's clock and ours, unless set: 5 s, enough for clocks
    /// that are synchronised, and little enough for a token to end when it says so.
    pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(5);

    /// A token with more bytes is refused unread.
    pub const MAX_TOKEN_BYTES: usize = token::MAX_BYTES;

    /// An authenticator to be. It needs at least one key.
    pub fn builder() -> JwtAuthenticatorBuilder {
        JwtAuthenticatorBuilder {
            keys: Ok(Vec::new()),
            issuers: Vec::new(),
            audiences: Vec::new(),
            user_claim: "sub".to_owned(),
            leeway: Self::DEFAULT_LEEWAY,
            clock: Arc::new(SystemClock),
        }
    }

    fn verified(&self, token: &str) -> Result<Claims, TokenError> {
        let token = Token::split(token)?;
        let key = self.key_for(token.kid()?)?;
        token.signed_by(key)
    }

    fn key_for(&self, kid: Option<&str>) -> Result<&PinnedKey, TokenError> {
        match (self.keys.as_slice(), kid) {
            ([only], None) => Ok(only),
            ([only], Some(_)) if only.kid.is_none() => Ok(only),
            (_, None) => Err(TokenError::NoKid),
            (keys, kid) => {
                keys.iter().find(|key| key.kid.as_deref() == kid).ok_or(TokenError::UnknownKid)
            }
        }
    }

    fn identity(&self, token: &str) -> Result<Identity, AuthError> {
        let now = self.clock.now();
        let check = || {
            let claims = self.verified(token)?;
            let exp = claims.date("exp")?;
            let exp = exp.ok_or_else(|| TokenError::MissingClaim("exp".to_owned()))?;
            if claims.date("nbf")? > Some(now.after(self.leeway)) {
                return Err(TokenError::NotYetValid);
            }
            claims.check_issuer(&self.issuers)?;
            claims.check_audience(&self.audiences)?;
            let user = claims.user(&self.user_claim)?;
            let mut identity = Identity::new(user).expiring(exp.after(self.leeway));
            // Only a revocation asks for it, and takes one that cannot be read for none.
            identity.issued_at = claims.date("iat").ok().flatten();
            Ok(identity)
        };
        // Expiry comes last: it is told only of a token that was good once.
        match check().map_err(AuthError::invalid)? {
            identity if identity.expires_at <= Some(now) => Err(AuthError::Expired),
            identity => Ok(identity),
        }
    }
}

#[async_trait]
impl Authenticator for JwtAuthenticator {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        self.identity(credentials.token().ok_or(AuthError::Missing)?)
    }
}

/// Collects what a [`JwtAuthenticator`] needs; everything wrong with it is told by
/// [`build`](Self::build).
#[derive(Debug)]
#[must_use]
pub struct JwtAuthenticatorBuilder {
    keys: Result<Vec<PinnedKey>, JwtConfigError>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    user_claim: String,
    leeway: Duration,
    clock: Arc<dyn Clock>,
}

impl JwtAuthenticatorBuilder {
    /// One more key. When there are several, each needs a `kid` of its own.
    pub fn key(mut self, key: JwtKey) -> Self {
        self.keys = self.keys.and_then(|mut keys| {
            keys.push(key.pinned()?);
            Ok(keys)
        });
        self
    }

    /// All the keys of a JWK set (RFC 7517, 5), given as its JSON text. It is fixed: nothing is
    /// fetched.
    ///
    /// A key without `alg` is taken for the algorithm of its curve, or for RS256 when it is an
    /// RSA key; a symmetric one must have it.
    ///
    /// A key that cannot be used is skipped, with a warning in the log that names its `kid` and the
    /// reason (RFC 7517, 5): an unknown type, curve or algorithm, another purpose (`use`, `key_ops`),
    /// a private key, an RSA key of fewer than 2048 bits, a member that is missing or malformed, a
    /// `kid` that an earlier key of the set has, and no `kid` beside keys that have one. If no key
    /// is left, [`build`](Self::build) fails with the first reason.
    pub fn jwks(mut self, json: &str) -> Self {
        self.keys = self.keys.and_then(|mut keys| {
            keys.extend(jwks::parse(json)?);
            Ok(keys)
        });
        self
    }

    /// Demands `iss` to be this, or another issuer given (RFC 7519, 4.1.1). Default: any, or none.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Demands `aud` to name this, or another audience given (RFC 7519, 4.1.3). Default: tokens
    /// without `aud` only.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// The claim with the user id, at the top level of the claims. Default: `sub`
    /// (RFC 7519, 4.1.2).
    pub fn user_claim(mut self, claim: impl Into<String>) -> Self {
        self.user_claim = claim.into();
        self
    }

    /// By how much the issuer's clock and ours may differ, to the millisecond. Default:
    /// [`JwtAuthenticator::DEFAULT_LEEWAY`].
    ///
    /// It prolongs each token, and the connection made with it, by as much.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Where the time comes from. Default: [`SystemClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The authenticator.
    ///
    /// # Errors
    ///
    /// When there is no key, a key cannot be used, the keys cannot be told apart by `kid`, the
    /// JWK set cannot be read or has no key that can be used, or a text is empty. Only aws-lc leaves one fault for later: of a
    /// point that is not on its curve it accepts no signature.
    pub fn build(self) -> Result<JwtAuthenticator, JwtConfigError> {
        let keys = self.keys?;
        for (at, key) in keys.iter().enumerate() {
            if let Some(kid) = &key.kid
                && keys[..at].iter().any(|other| other.kid.as_ref() == Some(kid))
            {
                return Err(JwtConfigError::DuplicateKid(kid.clone()));
            }
        }
        if keys.is_empty() {
            return Err(JwtConfigError::NoKeys);
        }
        if keys.len() > 1 && keys.iter().any(|key| key.kid.is_none()) {
            return Err(JwtConfigError::MissingKid);
        }
        let texts = [
            ("issuer", self.issuers.as_slice()),
            ("audience", self.audiences.as_slice()),
            ("user claim", std::slice::from_ref(&self.user_claim)),
        ];
        for (what, texts) in texts {
            if texts.iter().any(String::is_empty) {
                return Err(JwtConfigError::Empty(what));
            }
        }
        Ok(JwtAuthenticator {
            keys,
            issuers: self.issuers,
            audiences: self.audiences,
            user_claim: self.user_claim,
            leeway: self.leeway,
            clock: self.clock,
        })
    }
}

/// Why a [`JwtAuthenticator`] cannot be built. It never holds a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwtConfigError {
    /// No key was given, or the JWK set holds none for checking signatures.
    #[error("there is no key to check tokens with")]
    NoKeys,
    /// Two keys have this `kid`.
    #[error("two keys have the kid {0:?}")]
    DuplicateKid(String),
    /// There are several keys, and one of them has no `kid`.
    #[error("there are several keys, and not all have a kid")]
    MissingKid,
    /// A key cannot be used.
    #[error("the key {} cannot be used", kid.as_deref().unwrap_or("without a kid"))]
    Key {
        /// Its `kid`, if it has one.
        kid: Option<String>,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The JWK set is not JSON.
    #[error("the JWK set is not JSON")]
    JwksJson(#[source] serde_json::Error),
    /// The JWK set is JSON of another shape (RFC 7517, 5).
    #[error("the JWK set is not an object with an array \"keys\"")]
    JwksShape,
    /// The issuer, the audience or the user claim is an empty text.
    #[error("the {0} may not be empty")]
    Empty(&'static str),
}

#[cfg(test)]
mod tests;
