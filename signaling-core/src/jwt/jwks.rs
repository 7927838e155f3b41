//! JWK sets (RFC 7517), as an issuer publishes them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::{
    JwtConfigError,
    algorithm::{Algorithm, KeyKind},
    key::{JwtKey, KeyError},
};

type Jwk = Map<String, Value>;

/// The keys of the set that check signatures; those for another purpose are left out.
///
/// It is read by hand: serde's errors, and so the log, would quote what they stumble over.
pub(super) fn parse(json: &str) -> Result<Vec<JwtKey>, JwtConfigError> {
    let set: Value = serde_json::from_str(json).map_err(JwtConfigError::JwksJson)?;
    let keys = set.get("keys").and_then(Value::as_array);
    keys.ok_or(JwtConfigError::JwksShape)?
        .iter()
        .map(|jwk| jwk.as_object().ok_or(JwtConfigError::JwksShape))
        .filter(|jwk| jwk.as_ref().map_or(true, |jwk| checks_signatures(jwk)))
        .map(|jwk| jwk.map(key))
        .collect()
}

/// RFC 7517, 4.2 and 4.3: a key that says its purpose is for no other.
fn checks_signatures(jwk: &Jwk) -> bool {
    let verify =
        |ops: &Value| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"));
    jwk.get("use").is_none_or(|purpose| purpose == "sig") && jwk.get("key_ops").is_none_or(verify)
}

fn key(jwk: &Jwk) -> JwtKey {
    let key = || {
        let algorithm = algorithm(jwk)?;
        Ok((algorithm, material(jwk, algorithm)?))
    };
    match jwk.get("kid") {
        None => JwtKey::of(key()),
        Some(Value::String(kid)) => JwtKey::of(key()).with_kid(kid),
        Some(_) => JwtKey::of(Err(KeyError::Member("kid"))),
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
