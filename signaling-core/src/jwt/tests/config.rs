//! What is wrong with a configuration is told when it is built.

use std::error::Error as _;

use base64::engine::general_purpose::STANDARD;

use super::*;

fn build(key: JwtKey) -> Result<JwtAuthenticator, JwtConfigError> {
    builder().key(key).build()
}

fn key_error(result: Result<JwtAuthenticator, JwtConfigError>) -> (Option<String>, KeyError) {
    match result {
        Err(JwtConfigError::Key { kid, source }) => (kid, source),
        other => panic!("{other:?}"),
    }
}

macro_rules! assert_key_error {
    ($key:expr, $error:pat) => {
        let (_, error) = key_error(build($key));
        assert!(matches!(error, $error), "{error:?}");
    };
}

fn jwks() -> Value {
    serde_json::from_str(fixture!("jwks.json")).unwrap()
}

/// The JWK of the fixture with this `kid`, with these members on top; null takes one away.
fn jwk(kid: &str, members: Value) -> Value {
    let mut keys = jwks();
    let keys = keys["keys"].as_array_mut().unwrap();
    let mut jwk = keys.iter().find(|jwk| jwk["kid"] == kid).unwrap().clone();
    for (name, value) in members.as_object().unwrap() {
        match value {
            Value::Null => drop(jwk.as_object_mut().unwrap().remove(name)),
            value => jwk[name] = value.clone(),
        }
    }
    jwk
}

fn build_set(keys: &[Value]) -> Result<JwtAuthenticator, JwtConfigError> {
    builder().jwks(&json!({"keys": keys}).to_string()).build()
}

#[test]
fn without_a_key_there_is_no_authenticator() {
    assert!(matches!(builder().build(), Err(JwtConfigError::NoKeys)));
    assert!(matches!(build_set(&[]), Err(JwtConfigError::NoKeys)));
    let encryption = jwk("rsa", json!({"use": "enc"}));
    assert!(matches!(build_set(&[encryption]), Err(JwtConfigError::NoKeys)));
}

#[test]
fn several_keys_are_told_apart_by_kid() {
    let key = || JwtKey::secret(Algorithm::HS256, SECRET);
    let twice = builder().key(key().with_kid("a")).key(key().with_kid("a")).build();
    assert!(matches!(twice, Err(JwtConfigError::DuplicateKid(kid)) if kid == "a"));
    for first in [key(), key().with_kid("a")] {
        let missing = builder().key(first).key(key()).build();
        assert!(matches!(missing, Err(JwtConfigError::MissingKid)));
    }
    let shared = builder().key(key().with_kid("rsa")).jwks(fixture!("jwks.json")).build();
    assert!(matches!(shared, Err(JwtConfigError::DuplicateKid(kid)) if kid == "rsa"));
}

#[test]
fn secrets_are_as_long_as_the_hash() {
    for (algorithm, least) in
        [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)]
    {
        build(JwtKey::secret(algorithm, &SECRET[..least])).unwrap();
        assert_key_error!(
            JwtKey::secret(algorithm, &SECRET[..least - 1]),
            KeyError::SecretTooShort { .. }
        );
    }
    assert_key_error!(
        JwtKey::secret(Algorithm::HS256, ""),
        KeyError::SecretTooShort { min_bytes: 32, bytes: 0, .. }
    );
}

#[test]
fn a_key_is_of_the_kind_that_its_algorithm_needs() {
    for algorithm in Algorithm::ALL {
        if let Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 = algorithm {
            let pem = fixture!("rsa.public.pem");
            assert_key_error!(JwtKey::pem(algorithm, pem), KeyError::SecretNeeded(_));
            let pem = format!("\n{pem}");
            assert_key_error!(JwtKey::secret(algorithm, pem), KeyError::PemAsSecret);
            continue;
        }
        assert_key_error!(JwtKey::secret(algorithm, SECRET), KeyError::PublicKeyNeeded(_));
        for pem in [
            fixture!("rsa.public.pem"),
            fixture!("p256.public.pem"),
            fixture!("p384.public.pem"),
            fixture!("ed25519.public.pem"),
            // As long as a point of P-256.
            fixture!("secp256k1.public.pem"),
        ] {
            if pem == public_pem(algorithm) {
                build(JwtKey::pem(algorithm, pem)).unwrap();
            } else {
                assert_key_error!(JwtKey::pem(algorithm, pem), KeyError::NotForAlgorithm(_));
            }
        }
        for pem in [
            fixture!("rsa.private.pem"),
            fixture!("p256.private.pem"),
            fixture!("ed25519.private.pem"),
        ] {
            assert_key_error!(JwtKey::pem(algorithm, pem), KeyError::PrivateKey);
        }
        let certificate = public_pem(algorithm).replace("PUBLIC KEY", "CERTIFICATE");
        assert_key_error!(JwtKey::pem(algorithm, certificate), KeyError::NotForAlgorithm(_));
        for text in ["", "secret", "-----BEGIN PUBLIC KEY-----", "\u{fffd}"] {
            assert_key_error!(JwtKey::pem(algorithm, text), KeyError::NotPem);
        }
        let broken = public_pem(algorithm).replacen("\nM", "\n!", 1);
        assert_key_error!(JwtKey::pem(algorithm, broken), KeyError::NotPem);
        assert_key_error!(JwtKey::pem(algorithm, b"\xff\xfe"), KeyError::NotPem);
    }
}

/// SEC 1, 2.3.3: 4 marks a point as uncompressed.
#[test]
fn a_point_is_marked_as_uncompressed() {
    let pem = fixture!("p256.public.pem");
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut der = STANDARD.decode(body).unwrap();
    assert_eq!(der[26], 4);
    der[26] = 6;
    let body = STANDARD.encode(der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    assert_key_error!(JwtKey::pem(Algorithm::ES256, pem), KeyError::NotForAlgorithm(_));
}

#[test]
fn pem_texts_come_in_variants() {
    let dos = fixture!("p256.public.pem").replace('\n', "\r\n");
    build(JwtKey::pem(Algorithm::ES256, dos)).unwrap();
    let commented = format!("The key:\n\n  {}", fixture!("ed25519.public.pem"));
    build(JwtKey::pem(Algorithm::EdDSA, commented)).unwrap();
    let pkcs1 = fixture!("rsa.pkcs1.pem");
    let authenticator = build(JwtKey::pem(Algorithm::RS256, pkcs1)).unwrap();
    let token = token_with(json!({"alg": "RS256"}), claims(json!({})));
    accepted(&authenticator, &token);
}

#[test]
fn small_rsa_keys_are_refused() {
    assert_key_error!(
        JwtKey::pem(Algorithm::RS256, fixture!("rsa-1024.public.pem")),
        KeyError::RsaSize { bits: 1024 }
    );
    for (bits, n) in [(2047, "7f".repeat(256)), (4097, format!("01{}", "ff".repeat(512)))] {
        let n: Vec<u8> = (0..n.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&n[at..at + 2], 16).unwrap())
            .collect();
        let set = build_set(&[jwk("rsa", json!({"n": URL_SAFE_NO_PAD.encode(n)}))]);
        let (_, error) = key_error(set);
        assert!(matches!(error, KeyError::RsaSize { bits: b } if b == bits));
    }
}

#[test]
fn every_key_of_a_set_checks_its_tokens() {
    let authenticator = builder().jwks(fixture!("jwks.json")).build().unwrap();
    for (kid, algorithm) in [
        ("rsa", Algorithm::RS256),
        ("pss", Algorithm::PS384),
        ("p256", Algorithm::ES256),
        ("p384", Algorithm::ES384),
        ("ed", Algorithm::EdDSA),
        ("secret", Algorithm::HS256),
    ] {
        let header = json!({"alg": algorithm.name(), "kid": kid});
        accepted(&authenticator, &token_with(header, claims(json!({}))));
    }
    let confused = token_with(json!({"alg": "RS256", "kid": "pss"}), claims(json!({})));
    assert_eq!(refused(&authenticator, &confused), TokenError::WrongAlgorithm);
}

#[test]
fn keys_for_another_purpose_are_left_out() {
    let authenticator = build_set(&[
        jwk("p256", json!({"use": "enc", "kid": "same"})),
        jwk("p384", json!({"use": "tls", "kid": "same"})),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA", "use": "enc", "kid": "same"}),
        jwk("rsa", json!({"key_ops": ["encrypt"], "kid": "same"})),
        jwk("ed", json!({"use": "sig", "key_ops": ["verify"], "kid": "same"})),
    ])
    .unwrap();
    let header = json!({"alg": "EdDSA", "kid": "same"});
    accepted(&authenticator, &token_with(header, claims(json!({}))));
}

#[test]
fn a_modulus_may_have_leading_zeros() {
    let n = jwk("rsa", json!({}))["n"].as_str().unwrap().to_owned();
    let n = [&[0, 0][..], &URL_SAFE_NO_PAD.decode(n).unwrap()].concat();
    let n = URL_SAFE_NO_PAD.encode(n);
    let authenticator = build_set(&[jwk("rsa", json!({"n": n, "e": "AAEAAQ"}))]).unwrap();
    let token = token_with(json!({"alg": "RS256"}), claims(json!({})));
    accepted(&authenticator, &token);
}

#[test]
fn an_unusable_key_of_a_set_is_named() {
    let text = "not base64url";
    let even = URL_SAFE_NO_PAD.encode([0xfe; 256]);
    let mut cases = vec![
        (jwk("p256", json!({"alg": "ES512"})), "\"ES512\" is not supported"),
        (jwk("rsa", json!({"alg": "RSA-OAEP"})), "\"RSA-OAEP\" is not supported"),
        (jwk("rsa", json!({"alg": "none"})), "\"none\" is not supported"),
        (jwk("rsa", json!({"alg": 7})), "member \"alg\""),
        (jwk("rsa", json!({"use": 7})), "member \"use\""),
        (jwk("rsa", json!({"key_ops": "verify"})), "member \"key_ops\""),
        (jwk("rsa", json!({"key_ops": ["verify", 7]})), "member \"key_ops\""),
        (jwk("rsa", json!({"kty": 7})), "member \"kty\""),
        (jwk("secret", json!({"alg": null})), "must name its algorithm"),
        (jwk("secret", json!({"alg": "RS256"})), "not a public key for RS256"),
        (jwk("secret", json!({"alg": "HS512", "k": "AAAA"})), "at least 64 bytes"),
        (jwk("secret", json!({"k": null})), "member \"k\""),
        (jwk("rsa", json!({"alg": "HS256"})), "not a public key for HS256"),
        (jwk("rsa", json!({"alg": "ES256"})), "not a public key for ES256"),
        (jwk("rsa", json!({"d": "AAAA"})), "a private key"),
        (jwk("rsa", json!({"n": text})), "member \"n\""),
        (jwk("rsa", json!({"n": null})), "member \"n\""),
        (jwk("rsa", json!({"n": even})), "not a public key for RS256"),
        (jwk("rsa", json!({"e": null})), "member \"e\""),
        (jwk("rsa", json!({"e": "AQ"})), "not a public key for RS256"),
        (jwk("rsa", json!({"e": "AQAA"})), "not a public key for RS256"),
        (jwk("rsa", json!({"kty": null})), "member \"kty\""),
        (jwk("rsa", json!({"kty": "AKP"})), "not supported"),
        (jwk("p256", json!({"crv": "P-521"})), "not supported"),
        (jwk("p256", json!({"crv": "secp256k1"})), "not supported"),
        (jwk("p256", json!({"crv": null})), "not supported"),
        (jwk("p256", json!({"alg": "ES384"})), "not a public key for ES384"),
        (jwk("p256", json!({"crv": "Ed25519"})), "not supported"),
        (jwk("p256", json!({"x": "AAAA"})), "member \"x\""),
        (jwk("p256", json!({"y": null})), "member \"y\""),
        (jwk("ed", json!({"crv": "Ed448"})), "not supported"),
        (jwk("ed", json!({"x": "AAAA"})), "member \"x\""),
        (jwk("ed", json!({"x": format!("{}A", "A".repeat(43))})), "member \"x\""),
    ];
    // aws-lc does not look at a point before it is used.
    if cfg!(not(feature = "jwt-aws-lc")) {
        let off_curve = json!({"y": URL_SAFE_NO_PAD.encode([1; 32])});
        cases.push((jwk("p256", off_curve), "refuses the key"));
    }
    for (jwk, expected) in cases {
        let (named, error) = key_error(build_set(std::slice::from_ref(&jwk)));
        assert_eq!(named.as_deref(), jwk["kid"].as_str());
        assert!(error.to_string().contains(expected), "{jwk}: {error}");
    }
    let (named, error) = key_error(build_set(&[json!("c2VjcmV0")]));
    assert!(named.is_none() && matches!(error, KeyError::NotAnObject));
    let (named, error) = key_error(build_set(&[jwk("ed", json!({"kid": 7}))]));
    assert!(named.is_none() && matches!(error, KeyError::Member("kid")));
}

/// RFC 7517, 5: keys that are not understood should be ignored.
#[test]
fn keys_that_cannot_be_used_do_not_harm_the_others_of_their_set() {
    let unusable = [
        json!({"kty": "AKP", "kid": "new", "alg": "ML-DSA-65", "pub": "AAAA"}),
        json!({"kty": "future", "kid": "newer"}),
        json!({}),
        json!("no object"),
        json!(null),
        json!([]),
        jwk("p256", json!({"kid": "curve", "crv": "P-521"})),
        jwk("p256", json!({"kid": "purpose", "use": "enc"})),
        jwk("p256", json!({"kid": "purpose type", "use": ["sig"]})),
        jwk("p256", json!({"kid": "ops", "key_ops": []})),
        jwk("p256", json!({"kid": "ops type", "key_ops": {"verify": true}})),
        jwk("p256", json!({"kid": "algorithm", "alg": "ECDH-ES"})),
        jwk("p256", json!({"kid": ["kid type"]})),
        jwk("p256", json!({"kid": "base64", "x": "not base64url!"})),
        jwk("p256", json!({"kid": "missing", "y": null})),
        jwk("rsa", json!({"kid": "small", "n": URL_SAFE_NO_PAD.encode([0xff; 128])})),
        jwk("rsa", json!({"kid": "private", "d": "AAAA"})),
        jwk("secret", json!({"kid": "weak", "k": "AAAA"})),
        jwk("ed", json!({"kid": null})),
        jwk("p256", json!({"kid": "rsa"})),
    ];
    let good = [jwk("rsa", json!({})), jwk("p256", json!({}))];
    let token =
        |kid: &str, alg: &str| token_with(json!({"alg": alg, "kid": kid}), claims(json!({})));
    for (at, bad) in unusable.iter().enumerate() {
        // The one that has the kid of another comes after it: the first one counts.
        let duplicate = bad["kid"] == "rsa";
        let sets = [
            [good[0].clone(), bad.clone(), good[1].clone()],
            [bad.clone(), good[0].clone(), good[1].clone()],
        ];
        for set in &sets[..if duplicate { 1 } else { 2 }] {
            let authenticator = build_set(set).unwrap_or_else(|error| panic!("{at}: {error}"));
            accepted(&authenticator, &token("rsa", "RS256"));
            accepted(&authenticator, &token("p256", "ES256"));
        }
    }
    let all = [&good[..], &unusable].concat();
    accepted(&build_set(&all).unwrap(), &token("rsa", "RS256"));
    let none = [&unusable[..4], &[jwk("ed", json!({"crv": "Ed448"}))]].concat();
    let (named, error) = key_error(build_set(&none));
    assert_eq!(
        (named.as_deref(), error.to_string().contains("not supported")),
        (Some("new"), true)
    );
    let nameless = [jwk("ed", json!({"kid": null})), jwk("rsa", json!({"kid": null}))];
    assert!(matches!(build_set(&nameless), Err(JwtConfigError::MissingKid)));
}

#[test]
fn what_is_no_set_is_refused_without_quoting_it() {
    let secret = "c2VjcmV0c2VjcmV0";
    for (set, is_json) in [
        (secret.to_owned(), false),
        (format!(r#"{{"keys":[{{"k":"{secret}"}}"#), false),
        (format!(r#""{secret}""#), true),
        (format!(r#"{{"keys":"{secret}"}}"#), true),
        (format!(r#"[{{"kty":"oct","k":"{secret}"}}]"#), true),
        (jwk("secret", json!({"k": secret})).to_string(), true),
    ] {
        // Also when it is not the last thing that was said.
        let error = builder()
            .jwks(&set)
            .key(JwtKey::secret(Algorithm::HS256, SECRET))
            .jwks(fixture!("jwks.json"))
            .build()
            .unwrap_err();
        let shown = format!("{error} {error:?} {:?}", error.source());
        assert!(!shown.contains(secret), "{shown}");
        assert_eq!(matches!(error, JwtConfigError::JwksJson(_)), !is_json);
        assert_eq!(matches!(error, JwtConfigError::JwksShape), is_json);
    }
}

#[test]
fn errors_tell_the_kid_and_keep_their_cause() {
    let short = JwtKey::secret(Algorithm::HS256, "short").with_kid("2026");
    let error = build(short).unwrap_err();
    assert_eq!(error.to_string(), "the key 2026 cannot be used");
    assert_eq!(
        error.source().unwrap().to_string(),
        "a secret for HS256 needs at least 32 bytes, and this one has 5"
    );
}

#[test]
fn empty_texts_are_refused() {
    let builder = || builder().key(JwtKey::secret(Algorithm::HS256, SECRET));
    for (builder, what) in [
        (builder().issuer(""), "issuer"),
        (builder().audience("signaling").audience(""), "audience"),
        (builder().user_claim(""), "user claim"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, JwtConfigError::Empty(text) if text == what));
    }
}

#[test]
fn algorithms_are_written_as_they_are_parsed() {
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
    }
    assert_eq!("Ed25519".parse(), Ok(Algorithm::EdDSA));
    let unknown = "hs256".parse::<Algorithm>();
    assert_eq!(unknown, Err(UnknownAlgorithm("hs256".to_owned())));
}
