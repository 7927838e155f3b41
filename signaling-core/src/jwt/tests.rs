//! Tokens here are signed by OpenSSL (`tests/keys/tokens.json`), by an RFC, or by the back end.

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/", $name))
    };
}

mod config;
mod tokens;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
#[cfg(feature = "jwt-aws-lc")]
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER as BACK_END;
#[cfg(not(feature = "jwt-aws-lc"))]
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER as BACK_END;
use jsonwebtoken::{EncodingKey, crypto::CryptoProvider};
use serde_json::{Value, json};

use super::*;
use crate::{
    id::{IdError, UserId},
    time::Timestamp,
};

const SECRET: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut i = 0;
    while i < 64 {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

/// Seconds since the epoch at which the tests take place.
const NOW: u64 = 1_800_000_000;

/// Shows the time that it was told, in milliseconds.
#[derive(Debug)]
struct TestClock(AtomicU64);

impl TestClock {
    fn at_second(second: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(second * 1000)))
    }

    fn set_millis(&self, millis: u64) {
        self.0.store(millis, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

fn builder() -> JwtAuthenticatorBuilder {
    JwtAuthenticator::builder().clock(TestClock::at_second(NOW))
}

/// Accepts HS256 tokens with [`SECRET`] from anybody, for nobody.
fn plain() -> JwtAuthenticator {
    builder().key(JwtKey::secret(Algorithm::HS256, SECRET)).build().unwrap()
}

fn public_pem(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::ES256 => fixture!("p256.public.pem"),
        Algorithm::ES384 => fixture!("p384.public.pem"),
        Algorithm::EdDSA => fixture!("ed25519.public.pem"),
        _ => fixture!("rsa.public.pem"),
    }
}

fn public_key(algorithm: Algorithm) -> JwtKey {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => JwtKey::secret(algorithm, SECRET),
        _ => JwtKey::pem(algorithm, public_pem(algorithm)),
    }
}

fn signing_key(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => EncodingKey::from_secret(&SECRET),
        Algorithm::ES256 => {
            EncodingKey::from_ec_pem(fixture!("p256.private.pem").as_bytes()).unwrap()
        }
        Algorithm::ES384 => {
            EncodingKey::from_ec_pem(fixture!("p384.private.pem").as_bytes()).unwrap()
        }
        Algorithm::EdDSA => {
            EncodingKey::from_ed_pem(fixture!("ed25519.private.pem").as_bytes()).unwrap()
        }
        _ => EncodingKey::from_rsa_pem(fixture!("rsa.private.pem").as_bytes()).unwrap(),
    }
}

/// A token of exactly these parts.
fn raw_token(header: &str, claims: &str, algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let back_end: &CryptoProvider = &BACK_END;
    let signer = (back_end.signer_factory)(&algorithm.of_back_end(), key).unwrap();
    let signature = signer.try_sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn token_with(header: Value, claims: Value) -> String {
    let algorithm = header["alg"].as_str().unwrap().parse().unwrap();
    let key = signing_key(algorithm);
    raw_token(&header.to_string(), &claims.to_string(), algorithm, &key)
}

/// An HS256 token with these claims.
fn token(claims: Value) -> String {
    token_with(json!({"alg": "HS256"}), claims)
}

/// The claims of a good token, with these on top.
fn claims(more: Value) -> Value {
    let mut claims = json!({"sub": "alice", "exp": NOW + 60});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn accepted(authenticator: &JwtAuthenticator, token: &str) -> Identity {
    authenticator.identity(token).unwrap()
}

/// Why the token is invalid, after a look that no part of it is in the error.
fn refused(authenticator: &JwtAuthenticator, token: &str) -> TokenError {
    match authenticator.identity(token) {
        Err(AuthError::Invalid(cause)) => {
            let shown = format!("{cause} {cause:?}");
            for part in token.split('.').filter(|part| part.len() > 6) {
                assert!(!shown.contains(part), "{shown}");
            }
            *cause.downcast().unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_without_a_token_is_told_so() {
    let error = plain().authenticate(&Credentials::none()).await;
    assert!(matches!(error, Err(AuthError::Missing)));
}

#[tokio::test]
async fn the_identity_is_the_subject_until_the_token_is_refused() {
    let credentials = Credentials::bearer(token(claims(json!({}))));
    let identity = plain().authenticate(&credentials).await.unwrap();
    assert_eq!(identity.user, UserId::new("alice").unwrap());
    let until = Timestamp::from_millis((NOW + 65) * 1000);
    assert_eq!(identity.expires_at, Some(until));
}

/// FACTS: `jsonwebtoken`'s own choice panics when both back ends are on, which any crate of the
/// application may cause.
#[test]
fn the_process_wide_provider_is_left_to_the_application() {
    accepted(&plain(), &token(claims(json!({}))));
    assert!(BACK_END.install_default().is_ok());
    accepted(&plain(), &token(claims(json!({}))));
}

#[test]
fn debug_shows_no_key() {
    let key = JwtKey::secret(Algorithm::HS256, "correct horse battery staple, more");
    let shown = format!("{key:?}");
    let builder = builder().key(key);
    let shown = format!("{shown} {builder:?}");
    let shown = format!("{shown} {:?}", builder.build().unwrap());
    let hidden = ["correct", "99, 111, 114", "636f72"];
    assert!(!hidden.iter().any(|text| shown.contains(text)), "{shown}");
    assert!(shown.contains("HS256"));
}
