use std::{
    error::Error,
    sync::{Arc, LazyLock},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::FutureExt;
use serde_json::{Map, Value};

use crate::{
    auth::{AuthError, Authenticator, Credentials, Identity},
    jwt::{Algorithm, JwtAuthenticator, JwtAuthenticatorBuilder, JwtKey},
    testing::token::{Hash, base64url, mac, sign_text},
    time::{Clock, Timestamp},
};

/// Seconds since the epoch at which the checks take place.
const NOW: u64 = 1_800_000_000;
const LEEWAY: u64 = JwtAuthenticator::DEFAULT_LEEWAY.as_secs();

const SECRET: &[u8; 32] = b"a secret for the fuzz target jwt";

/// The claims of the tokens in `tests/keys/tokens.json`, all that was ever signed with [`PUBLIC_KEYS`].
const SIGNED_CLAIMS: &str =
    r#"{"sub": "alice", "iss": "https://id.example", "aud": "signaling", "exp": 2000000000}"#;

/// The algorithms and public keys of some of these tokens, from `tests/keys/jwks.json`.
const PUBLIC_KEYS: [(&str, &str); 3] = [
    (
        "RS256",
        r#"{"keys":[{"kty":"RSA","e":"AQAB","n":"4XNxJ2IFp746KvPx7HcUE6r70I-6Se9e-a_m7R-_raQr4XAcl_B40VvGHjCNPVFmwbAWugi22EOwaiBQoIoyAHVa6InR9vUfMDhX6WdYSBREaGQeyXPNHFct4GqvpJ9I9fDnhH6wc-PWprN1Rv-1C5QPbJe5WC-2rDXDSgwc6VWFZ8pmb8G-xXxS417qa3I9DRw1Sl4GIAeOzpzZXUiSH4HY-_vh11OG60xMxNavQbjDkCbzefoJQPU_EfFxQwk_nHZeMrcq451HjuF4vd8ZaT-eqlKPXT8SWdTr78VghWURCh4i9_0ylKUY4bgS4zj1iNtHcjcakb5kiwp4EQsC7w"}]}"#,
    ),
    (
        "ES256",
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"OjrnERLqxzeB8klhfYI_LefAAFV4mAghvZjyfKcnkXk","y":"T0CCjwrOWvFUlIfUxMBKO5BtkBdDEqHHdZnLsttKIcI"}]}"#,
    ),
    (
        "EdDSA",
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"cXj3s2C6nqPGPm1LUbVn5W860orjAQZs8ZvNdEx4kkA"}]}"#,
    ),
];

static OF_PUBLIC_KEYS: LazyLock<[JwtAuthenticator; 3]> =
    LazyLock::new(|| PUBLIC_KEYS.map(|(_, set)| built(builder().audience("signaling").jwks(set))));
static OF_SECRET: LazyLock<JwtAuthenticator> = LazyLock::new(|| built(secret(SECRET)));
static OF_OTHER_SECRET: LazyLock<JwtAuthenticator> =
    LazyLock::new(|| built(secret(b"another secret, for other tokens")));
/// Demands an issuer and an audience.
static STRICT: LazyLock<JwtAuthenticator> =
    LazyLock::new(|| built(secret(SECRET).issuer("issuer").audience("signaling")));

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(NOW * 1000)
    }
}

fn builder() -> JwtAuthenticatorBuilder {
    JwtAuthenticator::builder().clock(Arc::new(FixedClock))
}

fn secret(secret: &[u8]) -> JwtAuthenticatorBuilder {
    builder().key(JwtKey::secret(Algorithm::HS256, secret))
}

fn built(builder: JwtAuthenticatorBuilder) -> JwtAuthenticator {
    builder.build().expect("the keys are good")
}

/// Target `jwt`: a token; or, if there is a newline, its header and its claims, which are signed here.
///
/// - A token is accepted, or called expired, only if its header and claims are what was signed with that key: those in
///   `tests/keys/tokens.json` for RS256, ES256 and EdDSA, any with the right MAC for HS256.
/// - Of a token signed here, the header has `alg` HS256 and no `crit`, and the claims have a user, an `exp` that lies
///   ahead (behind: expired) and no `nbf` that does, and an issuer and an audience as configured. With another
///   secret, or with one character of its claims or signature changed, it is refused.
/// - No error holds a part of the token.
pub fn jwt(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match text.split_once('\n') {
        None => check_given(text),
        Some((header, claims)) => check_signed_here(header, claims),
    }
}

fn check_given(token: &str) {
    for (authenticator, (algorithm, _)) in OF_PUBLIC_KEYS.iter().zip(PUBLIC_KEYS) {
        if let Some(outcome) = good_once(authenticator, token) {
            let header = format!(r#"{{"alg": "{algorithm}", "typ": "JWT"}}"#);
            let message = format!("{}.{}", base64url(header), base64url(SIGNED_CLAIMS));
            let signed = token.strip_prefix(&message).is_some_and(|rest| rest.starts_with('.'));
            assert!(signed, "{outcome:?} for {token}");
        }
    }
    if let Some(outcome) = good_once(&OF_SECRET, token) {
        let (message, signature) = token.rsplit_once('.').expect("a JWT has a signature");
        let expected = base64url(mac(Hash::Sha256, SECRET, message.as_bytes()));
        assert_eq!(signature, expected, "{outcome:?} for {token}");
    }
}

fn check_signed_here(header: &str, claims: &str) {
    let token = sign_text(Hash::Sha256, SECRET, header, claims);
    let outcome = good_once(&OF_SECRET, &token);
    let strict = good_once(&STRICT, &token);
    if outcome.is_some() || strict.is_some() {
        let object = |text| serde_json::from_str::<Map<String, Value>>(text).expect("an object");
        let (header, claims) = (object(header), object(claims));
        assert!(header["alg"] == "HS256" && !header.contains_key("crit"), "{header:?}");
        assert!(claims.get("nbf").is_none_or(|nbf| seconds(nbf) <= (NOW + LEEWAY) as f64 + 0.001));
        let lies_ahead = seconds(&claims["exp"]) + LEEWAY as f64 > NOW as f64 - 0.001;
        for outcome in [&outcome, &strict].into_iter().flatten() {
            match outcome {
                Ok(identity) => {
                    assert_eq!(claims["sub"], identity.user.as_str());
                    assert!(lies_ahead, "{claims:?}");
                }
                Err(Expired) => assert!(seconds(&claims["exp"]) < NOW as f64, "{claims:?}"),
            }
        }
        assert!(outcome.is_none() || !claims.contains_key("aud"), "{claims:?}");
        let names = |claim: &str, name: &str| match &claims[claim] {
            Value::Array(many) => many.iter().any(|one| one == name),
            one => one == name,
        };
        if strict.is_some() {
            assert!(claims["iss"] == "issuer" && names("aud", "signaling"), "{claims:?}");
        }
    }
    assert!(good_once(&OF_OTHER_SECRET, &token).is_none());
    for dot in token.match_indices('.').map(|(at, _)| at) {
        let mut changed = token.clone();
        if let Some(after) = changed.get(dot + 1..dot + 2) {
            let other = if after == "A" { "B" } else { "A" };
            changed.replace_range(dot + 1..dot + 2, other);
            assert!(good_once(&OF_SECRET, &changed).is_none(), "{changed}");
        }
    }
}

fn seconds(claim: &Value) -> f64 {
    claim.as_f64().expect("a NumericDate is a number")
}

/// Target `jwk_set`: a JWK set of an issuer.
///
/// - No error of it holds the value of a key's `k`.
/// - If an authenticator can be built of it, it accepts no token without a signature or with one of zeros, under any
///   algorithm and any `kid` of the set.
/// - A set of one key that is accepted for HS256 accepts what is signed with the key, and not what is not.
pub fn jwk_set(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let set: Value = serde_json::from_str(text).unwrap_or_default();
    let keys = set["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    let authenticator = match builder().jwks(text).build() {
        Ok(authenticator) => authenticator,
        Err(error) => {
            let secrets = keys.iter().filter_map(|key| key["k"].as_str());
            // What is a `kid` as well may be shown.
            let secrets: Vec<_> = secrets.filter(|k| text.matches(k).count() == 1).collect();
            return check_hides(&error, &secrets);
        }
    };
    let kids = keys.iter().map(|key| key.get("kid").cloned()).take(4);
    for kid in kids.chain([None]) {
        for algorithm in ["none", "HS256", "HS512", "RS256", "PS256", "ES256", "ES384", "EdDSA"] {
            let mut header = Map::new();
            header.insert("alg".to_owned(), algorithm.into());
            header.extend(kid.clone().map(|kid| ("kid".to_owned(), kid)));
            let message =
                format!("{}.{}", base64url(Value::from(header).to_string()), base64url(CLAIMS));
            for signature in [0, 32, 64, 96, 256].map(|bytes| base64url(vec![0; bytes])) {
                let outcome = good_once(&authenticator, &format!("{message}.{signature}"));
                assert!(outcome.is_none(), "{outcome:?} for {message}.{signature}");
            }
        }
    }
    if let [key] = keys
        && key["alg"] == "HS256"
    {
        let secret = URL_SAFE_NO_PAD.decode(key["k"].as_str().unwrap_or_default());
        let mut secret = secret.expect("the key was accepted");
        let token = |secret: &[u8]| sign_text(Hash::Sha256, secret, r#"{"alg":"HS256"}"#, CLAIMS);
        assert!(good_once(&authenticator, &token(&secret)).is_some(), "{}", token(&secret));
        secret[0] ^= 1;
        assert!(good_once(&authenticator, &token(&secret)).is_none(), "{}", token(&secret));
    }
}

const CLAIMS: &str = r#"{"sub":"alice","exp":1900000000}"#;

#[derive(Debug)]
struct Expired;

/// What the token is worth: an identity, or that it was good once. None for any other refusal.
fn good_once(authenticator: &JwtAuthenticator, token: &str) -> Option<Result<Identity, Expired>> {
    let credentials = Credentials::bearer(token);
    match authenticator.authenticate(&credentials).now_or_never().expect("it waits for nothing") {
        Ok(identity) => Some(Ok(identity)),
        Err(AuthError::Expired) => Some(Err(Expired)),
        Err(error) => {
            check_hides(&error, &token.split('.').collect::<Vec<_>>());
            None
        }
    }
}

/// Looks for those of the texts that are too long for a word of the error itself.
fn check_hides(error: &dyn Error, texts: &[&str]) {
    let mut shown = format!("{error:?}");
    let mut next = Some(error);
    while let Some(error) = next {
        shown.push_str(&error.to_string());
        next = error.source();
    }
    let is_word =
        |text: &&&str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    for text in texts.iter().filter(|text| text.len() > 24).filter(is_word) {
        assert!(!shown.contains(*text), "{shown}");
    }
}
