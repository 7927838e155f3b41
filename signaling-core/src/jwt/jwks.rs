//! JWK sets (RFC 7517), as an issuer publishes them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::{
    JwtConfigError,
    algorithm::{Algorithm, KeyKind},
    key::{JwtKey, KeyError, PinnedKey},
};

type Jwk = Map<String, Value>;

/// The keys of the set that can check tokens. Every other key is skipped with a warning
/// (RFC 7517, 5: a key that is not understood should be ignored).
///
/// # Errors
///
/// When the text is not a JWK set, or none of its keys can be used.
///
/// The set is read by hand: serde's errors, and so the log, would quote the text that they refuse.
pub(super) fn parse(json: &str) -> Result<Vec<PinnedKey>, JwtConfigError> {
    let set: Value = serde_json::from_str(json).map_err(JwtConfigError::JwksJson)?;
    let listed = set.get("keys").and_then(Value::as_array).ok_or(JwtConfigError::JwksShape)?;
    let (mut keys, mut first_error) = (Vec::<PinnedKey>::new(), None);
    for jwk in listed {
        let duplicate = |key: &PinnedKey| {
            let same = |other: &PinnedKey| key.kid.is_some() && other.kid == key.kid;
            keys.iter().any(same)
        };
        match key(jwk) {
            Ok(key) if duplicate(&key) => warn_skipped(kid(jwk), &KeyError::DuplicateKid),
            Ok(key) => keys.push(key),
            Err(error) => {
                warn_skipped(kid(jwk), &error);
                // A key for encryption is in order; a set of only those has no key for us.
                if !matches!(error, KeyError::Purpose) {
                    let kid = kid(jwk).map(str::to_owned);
                    first_error.get_or_insert(JwtConfigError::Key { kid, source: error });
                }
            }
        }
    }
    // Tokens name one of several keys by its kid, so a key without a kid would never be used.
    if keys.len() > 1 && keys.iter().any(|key| key.kid.is_some()) {
        keys.retain(|key| {
            if key.kid.is_none() {
                warn_skipped(None, &KeyError::Member("kid"));
            }
            key.kid.is_some()
        });
    }
    match first_error {
        Some(error) if keys.is_empty() => Err(error),
        _ => Ok(keys),
    }
}

fn warn_skipped(kid: Option<&str>, why: &KeyError) {
    tracing::warn!(kid, error = why as &dyn std::error::Error, "skipped a key of the JWK set");
}

fn kid(jwk: &Value) -> Option<&str> {
    jwk.get("kid").and_then(Value::as_str)
}

fn key(jwk: &Value) -> Result<PinnedKey, KeyError> {
    let jwk = jwk.as_object().ok_or(KeyError::NotAnObject)?;
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err(KeyError::Member("kid")),
    };
    check_purpose(jwk)?;
    let algorithm = algorithm(jwk)?;
    PinnedKey::new(kid, algorithm, material(jwk, algorithm)?)
}

/// RFC 7517, 4.2 and 4.3: a key that names its purpose is for no other.
fn check_purpose(jwk: &Jwk) -> Result<(), KeyError> {
    match jwk.get("use") {
        Some(Value::String(purpose)) if purpose == "sig" => {}
        Some(Value::String(_)) => return Err(KeyError::Purpose),
        Some(_) => return Err(KeyError::Member("use")),
        None => {}
    }
    match jwk.get("key_ops") {
        Some(Value::Array(ops)) if !ops.iter().all(Value::is_string) => {
            Err(KeyError::Member("key_ops"))
        }
        Some(Value::Array(ops)) if ops.iter().any(|op| op == "verify") => Ok(()),
        Some(Value::Array(_)) => Err(KeyError::Purpose),
        Some(_) => Err(KeyError::Member("key_ops")),
        None => Ok(()),
    }
}

fn algorithm(jwk: &Jwk) -> Result<Algorithm, KeyError> {
    if jwk.contains_key("alg") {
        return Ok(text(jwk, "alg")?.parse::<Algorithm>()?);
    }
    match text(jwk, "kty")? {
        // What nearly every issuer signs with; the others say so.
        "RSA" => Ok(Algorithm::RS256),
        "oct" => Err(KeyError::NoAlgorithm),
        kty => {
            let crv = text(jwk, "crv").map_err(|_| KeyError::KeyType)?;
            [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA]
                .into_iter()
                .find(|algorithm| match algorithm.key_kind() {
                    KeyKind::Point(curve) => (curve.kty, curve.crv) == (kty, crv),
                    KeyKind::Secret { .. } | KeyKind::Rsa => false,
                })
                .ok_or(KeyError::KeyType)
        }
    }
}

fn material(jwk: &Jwk, algorithm: Algorithm) -> Result<DecodingKey, KeyError> {
    if jwk.contains_key("d") {
        return Err(KeyError::PrivateKey);
    }
    let is_of = |kty: &str| match text(jwk, "kty")? == kty {
        true => Ok(()),
        false => Err(KeyError::NotForAlgorithm(algorithm)),
    };
    match algorithm.key_kind() {
        KeyKind::Secret { .. } => {
            is_of("oct")?;
            JwtKey::from_secret(algorithm, &bytes(jwk, "k")?)
        }
        KeyKind::Rsa => {
            is_of("RSA")?;
            JwtKey::from_rsa(algorithm, &bytes(jwk, "n")?, &bytes(jwk, "e")?)
        }
        KeyKind::Point(curve) => {
            is_of(curve.kty)?;
            if text(jwk, "crv")? != curve.crv {
                return Err(KeyError::NotForAlgorithm(algorithm));
            }
            let coordinate = |name| match bytes(jwk, name)? {
                bytes if bytes.len() == curve.coordinate_bytes => Ok(bytes),
                _ => Err(KeyError::Member(name)),
            };
            let point = if curve.uncompressed {
                [vec![4], coordinate("x")?, coordinate("y")?].concat()
            } else {
                coordinate("x")?
            };
            JwtKey::from_point(algorithm, curve, &point)
        }
    }
}

fn text<'a>(jwk: &'a Jwk, member: &'static str) -> Result<&'a str, KeyError> {
    let value = jwk.get(member).and_then(Value::as_str);
    value.ok_or(KeyError::Member(member))
}

fn bytes(jwk: &Jwk, member: &'static str) -> Result<Vec<u8>, KeyError> {
    let decoded = URL_SAFE_NO_PAD.decode(text(jwk, member)?);
    decoded.map_err(|_| KeyError::Member(member))
}
