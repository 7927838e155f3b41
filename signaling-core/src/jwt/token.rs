//! One token: its parts, its signature, its claims. What it says is trusted only once signed.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{algorithm::Algorithm, key::PinnedKey};
use crate::{
    auth::AuthRefusal,
    id::{IdError, UserId},
    time::Timestamp,
};

/// A token is refused unread when it has more bytes. Real ones have 0.3 to 4 KiB.
pub(super) const MAX_BYTES: usize = 16 * 1024;

/// The end of the year 9999 in seconds. What lies beyond is a mistake, such as milliseconds.
const LAST_SECOND: u64 = 253_402_300_799;

/// Why a token is not accepted; the cause within
/// [`AuthError::Invalid`](crate::auth::AuthError::Invalid). It never quotes the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// More than 16 KiB.
    #[error("the token has more than {MAX_BYTES} bytes")]
    TooLong,
    /// Not header, claims and signature (RFC 7515, 7.1).
    #[error("the token does not have three parts")]
    NotThreeParts,
    /// A part is not base64url without padding (RFC 7515, 2).
    #[error("the {0} is not base64url")]
    NotBase64(&'static str),
    /// The header or the claims are no JSON object.
    #[error("the {0} is not a JSON object")]
    NotJson(&'static str),
    /// The `crit` header demands what is not understood here (RFC 7515, 4.1.11).
    #[error("the token has critical header parameters")]
    Critical,
    /// There are several keys, and the `kid` header does not say which (RFC 7515, 4.1.4).
    #[error("the token does not name its key")]
    NoKid,
    /// The `kid` header names no key of ours.
    #[error("the token names an unknown key")]
    UnknownKid,
    /// The `alg` header is not the algorithm of the key (RFC 8725, 3.1).
    #[error("the token's algorithm is not that of its key")]
    WrongAlgorithm,
    /// The signature is not the key's.
    #[error("the signature is wrong")]
    WrongSignature,
    /// A claim that must be there is not.
    #[error("the claim {0:?} is missing")]
    MissingClaim(String),
    /// A claim is of the wrong type or out of range.
    #[error("the claim {0:?} is not well formed")]
    MalformedClaim(String),
    /// Too early (`nbf`; RFC 7519, 4.1.5).
    #[error("the token is not valid yet")]
    NotYetValid,
    /// From somebody else (`iss`; RFC 7519, 4.1.1).
    #[error("the token is from another issuer")]
    WrongIssuer,
    /// For somebody else (`aud`; RFC 7519, 4.1.3).
    #[error("the token is for another audience")]
    WrongAudience,
    /// An audience in the token, and none was configured (`aud`; RFC 7519, 4.1.3).
    #[error("the token is for an audience, and no audience was configured")]
    UnexpectedAudience,
    /// The user id is no [`UserId`].
    #[error("the claim of the user id holds none")]
    User(#[source] IdError),
}

impl From<&TokenError> for AuthRefusal {
    fn from(error: &TokenError) -> Self {
        match error {
            TokenError::TooLong
            | TokenError::NotThreeParts
            | TokenError::NotBase64(_)
            | TokenError::NotJson(_)
            | TokenError::Critical => Self::Malformed,
            TokenError::NoKid | TokenError::UnknownKid => Self::UnknownKey,
            TokenError::WrongAlgorithm => Self::WrongAlgorithm,
            TokenError::WrongSignature => Self::WrongSignature,
            TokenError::MissingClaim(_) => Self::MissingClaim,
            TokenError::MalformedClaim(_) => Self::MalformedClaim,
            TokenError::NotYetValid => Self::NotYetValid,
            TokenError::WrongIssuer => Self::WrongIssuer,
            TokenError::WrongAudience => Self::WrongAudience,
            TokenError::UnexpectedAudience => Self::UnexpectedAudience,
            TokenError::User(_) => Self::NoUser,
        }
    }
}

/// A token that is split but not checked.
pub(super) struct Token<'a> {
    header: Map<String, Value>,
    message: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> Token<'a> {
    pub(super) fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::NotThreeParts)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::NotThreeParts)?;
        if claims.contains('.') {
            return Err(TokenError::NotThreeParts);
        }
        let header = object("header", header)?;
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        Ok(Self { header, message, claims, signature })
    }

    pub(super) fn kid(&self) -> Result<Option<&str>, TokenError> {
        match self.header.get("kid") {
            None => Ok(None),
            Some(Value::String(kid)) => Ok(Some(kid)),
            Some(_) => Err(TokenError::UnknownKid),
        }
    }

    /// The claims, once `key` is seen to have signed them.
    pub(super) fn signed_by(self, key: &PinnedKey) -> Result<Claims, TokenError> {
        let algorithm = self.header.get("alg").and_then(Value::as_str);
        if algorithm.and_then(Algorithm::named) != Some(key.algorithm) {
            return Err(TokenError::WrongAlgorithm);
        }
        if !key.signed(self.message.as_bytes(), decoded("signature", self.signature)?) {
            return Err(TokenError::WrongSignature);
        }
        object("claims", self.claims).map(Claims)
    }
}

/// What a token's signer says (RFC 7519, 4).
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) fn user(&self, claim: &str) -> Result<UserId, TokenError> {
        UserId::new(self.text(claim)?).map_err(TokenError::User)
    }

    /// A NumericDate (RFC 7519, 2): seconds, perhaps with a fraction. To the millisecond.
    pub(super) fn date(&self, claim: &str) -> Result<Option<Timestamp>, TokenError> {
        let malformed = || TokenError::MalformedClaim(claim.to_owned());
        let Some(value) = self.0.get(claim) else {
            return Ok(None);
        };
        let millis = match (value.as_u64(), value.as_f64()) {
            (Some(seconds), _) if seconds <= LAST_SECOND => seconds * 1000,
            // Not NaN either: it is in no range.
            (None, Some(seconds)) if (0.0..=LAST_SECOND as f64).contains(&seconds) => {
                (seconds * 1000.0).round() as u64
            }
            _ => return Err(malformed()),
        };
        Ok(Some(Timestamp::from_millis(millis)))
    }

    pub(super) fn check_issuer(&self, accepted: &[String]) -> Result<(), TokenError> {
        if accepted.is_empty() {
            return Ok(());
        }
        let issuer = self.text("iss")?;
        match accepted.iter().any(|one| one == issuer) {
            true => Ok(()),
            false => Err(TokenError::WrongIssuer),
        }
    }

    pub(super) fn check_audience(&self, accepted: &[String]) -> Result<(), TokenError> {
        let malformed = || TokenError::MalformedClaim("aud".to_owned());
        let audience = match self.0.get("aud") {
            None if accepted.is_empty() => return Ok(()),
            None => return Err(TokenError::MissingClaim("aud".to_owned())),
            Some(_) if accepted.is_empty() => return Err(TokenError::UnexpectedAudience),
            Some(Value::Array(many)) => many.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let mut found = false;
        for one in audience {
            let one = one.as_str().ok_or_else(malformed)?;
            found |= accepted.iter().any(|accepted| accepted == one);
        }
        match found {
            true => Ok(()),
            false => Err(TokenError::WrongAudience),
        }
    }

    fn text(&self, claim: &str) -> Result<&str, TokenError> {
        match self.0.get(claim) {
            None => Err(TokenError::MissingClaim(claim.to_owned())),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(TokenError::MalformedClaim(claim.to_owned())),
        }
    }
}

// The causes are dropped on purpose: base64's and serde's errors quote what they stumble over.

fn decoded(part: &'static str, text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::NotBase64(part))
}

fn object(part: &'static str, text: &str) -> Result<Map<String, Value>, TokenError> {
    serde_json::from_slice(&decoded(part, text)?).map_err(|_| TokenError::NotJson(part))
}
