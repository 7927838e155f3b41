//! What is accepted, and what is not.

use super::*;

fn golden(name: &str) -> String {
    let tokens: Value = serde_json::from_str(fixture!("tokens.json")).unwrap();
    tokens[name].as_str().unwrap().to_owned()
}

#[test]
fn golden_tokens_of_every_algorithm_are_accepted() {
    for algorithm in Algorithm::ALL {
        let authenticator = builder()
            .key(public_key(algorithm))
            .issuer("https://id.example")
            .audience("signaling")
            .build()
            .unwrap();
        let identity = accepted(&authenticator, &golden(algorithm.name()));
        assert_eq!(identity.user.as_str(), "alice", "{algorithm}");
    }
}

#[test]
fn eddsa_has_two_names() {
    let authenticator =
        builder().key(public_key(Algorithm::EdDSA)).audience("signaling").build().unwrap();
    accepted(&authenticator, &golden("Ed25519"));
    accepted(&authenticator, &golden("EdDSA"));
}

/// The JWS examples of RFC 7515, A.1 and A.3, which are JWTs without a subject.
#[test]
fn tokens_of_the_rfc_are_accepted() {
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                  cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let examples = [
        (
            json!({"kty": "oct", "alg": "HS256", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T\
                   -1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                   "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ];
    for (jwk, header, signature) in examples {
        let authenticator = JwtAuthenticator::builder()
            .jwks(&json!({"keys": [jwk]}).to_string())
            .user_claim("iss")
            .clock(TestClock::at_second(1_300_819_379))
            .build()
            .unwrap();
        let identity = accepted(&authenticator, &format!("{header}.{claims}.{signature}"));
        assert_eq!(identity.user.as_str(), "joe");
    }
}

#[test]
fn the_algorithm_is_the_keys_and_never_the_tokens() {
    let authenticator =
        builder().key(JwtKey::pem(Algorithm::RS256, public_pem(Algorithm::RS256))).build().unwrap();
    let claims = claims(json!({})).to_string();

    // The public key, which everybody has, as an HMAC secret.
    let public = EncodingKey::from_secret(public_pem(Algorithm::RS256).as_bytes());
    let confused = raw_token(r#"{"alg":"HS256"}"#, &claims, Algorithm::HS256, &public);
    assert_eq!(refused(&authenticator, &confused), TokenError::WrongAlgorithm);
    let lying = raw_token(r#"{"alg":"RS256"}"#, &claims, Algorithm::HS256, &public);
    assert_eq!(refused(&authenticator, &lying), TokenError::WrongSignature);

    // The right key by another algorithm of its family.
    let key = signing_key(Algorithm::PS256);
    let pss = raw_token(r#"{"alg":"PS256"}"#, &claims, Algorithm::PS256, &key);
    assert_eq!(refused(&authenticator, &pss), TokenError::WrongAlgorithm);
    let lying = raw_token(r#"{"alg":"RS256"}"#, &claims, Algorithm::PS256, &key);
    assert_eq!(refused(&authenticator, &lying), TokenError::WrongSignature);

    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"rs256"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["RS256"]}"#,
        r#"{"typ":"JWT"}"#,
    ] {
        let mut token = raw_token(header, &claims, Algorithm::RS256, &key);
        assert_eq!(refused(&authenticator, &token), TokenError::WrongAlgorithm);
        token.truncate(token.rfind('.').unwrap() + 1);
        assert_eq!(refused(&authenticator, &token), TokenError::WrongAlgorithm);
    }
}

#[test]
fn each_curve_has_its_algorithm() {
    let authenticator = builder().key(public_key(Algorithm::ES384)).build().unwrap();
    let es256 = token_with(json!({"alg": "ES256"}), claims(json!({})));
    assert_eq!(refused(&authenticator, &es256), TokenError::WrongAlgorithm);
}

#[test]
fn another_key_of_the_same_kind_does_not_do() {
    let authenticator = builder().key(public_key(Algorithm::ES256)).build().unwrap();
    let other = EncodingKey::from_ec_pem(fixture!("other-p256.private.pem").as_bytes()).unwrap();
    let claims = claims(json!({})).to_string();
    let forged = raw_token(r#"{"alg":"ES256"}"#, &claims, Algorithm::ES256, &other);
    assert_eq!(refused(&authenticator, &forged), TokenError::WrongSignature);

    let other = EncodingKey::from_secret(&[7; 64]);
    let forged = raw_token(r#"{"alg":"HS256"}"#, &claims, Algorithm::HS256, &other);
    assert_eq!(refused(&plain(), &forged), TokenError::WrongSignature);
}

#[test]
fn every_changed_byte_is_noticed_by_every_algorithm() {
    for algorithm in Algorithm::ALL {
        let authenticator = builder().key(public_key(algorithm)).build().unwrap();
        let good = token_with(json!({"alg": algorithm.name()}), claims(json!({})));
        accepted(&authenticator, &good);
        let parts: Vec<&str> = good.split('.').collect();

        let mallory = URL_SAFE_NO_PAD.encode(claims(json!({"sub": "mallory"})).to_string());
        let tampered = format!("{}.{mallory}.{}", parts[0], parts[2]);
        assert_eq!(refused(&authenticator, &tampered), TokenError::WrongSignature);

        let mut signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        signature[5] ^= 1;
        for wrong in [&signature[..], &signature[1..], &[0; 64], &[]] {
            let wrong = URL_SAFE_NO_PAD.encode(wrong);
            let tampered = format!("{}.{}.{wrong}", parts[0], parts[1]);
            assert_eq!(
                refused(&authenticator, &tampered),
                TokenError::WrongSignature,
                "{algorithm}"
            );
        }
    }
}

#[test]
fn a_token_has_three_parts_of_base64url() {
    use TokenError::{NotBase64, NotJson, NotThreeParts, TooLong};
    let authenticator = plain();
    let good = token(claims(json!({})));
    let parts: Vec<&str> = good.split('.').collect();
    let [header, body, signature] = parts[..] else { panic!() };
    let no_object = URL_SAFE_NO_PAD.encode("[]");
    let no_text = URL_SAFE_NO_PAD.encode(b"{\"sub\":\"\xff\"}");
    let key = signing_key(Algorithm::HS256);
    let signed = |claims: &str| raw_token(r#"{"alg":"HS256"}"#, claims, Algorithm::HS256, &key);
    let deep = "[".repeat(4000);
    for (token, error) in [
        (String::new(), NotThreeParts),
        ("undefined".to_owned(), NotThreeParts),
        (header.to_owned(), NotThreeParts),
        (format!("{header}.{body}"), NotThreeParts),
        (format!("{good}."), NotThreeParts),
        (format!("{header}.{body}.{signature}.{body}.{body}"), NotThreeParts),
        ("..".to_owned(), NotJson("header")),
        (format!("{no_object}.{body}.{signature}"), NotJson("header")),
        (format!("{no_text}.{body}.{signature}"), NotJson("header")),
        (format!("{header}=.{body}.{signature}"), NotBase64("header")),
        (format!(" {good}"), NotBase64("header")),
        (format!("é{good}"), NotBase64("header")),
        (format!("{good}="), NotBase64("signature")),
        (format!("{good}\n"), NotBase64("signature")),
        (format!("{good}!!"), NotBase64("signature")),
        (signed("no json"), NotJson("claims")),
        (signed("[]"), NotJson("claims")),
        (signed(&deep), NotJson("claims")),
        (signed(&format!("{}garbage", claims(json!({})))), NotJson("claims")),
        ("a".repeat(JwtAuthenticator::MAX_TOKEN_BYTES + 1), TooLong),
    ] {
        assert_eq!(refused(&authenticator, &token), error, "{token}");
    }
}

/// The last character of 32 bytes in base64 carries two bits too many. Were they free, one token
/// would have four texts.
#[test]
fn a_signature_has_one_text() {
    let mut token = token(claims(json!({})));
    let last = token.pop().unwrap();
    let loose = match last {
        'A'..='Y' | 'a'..='y' | '0'..='8' => char::from_u32(last as u32 + 1).unwrap(),
        other => panic!("{other} does not end with two zero bits"),
    };
    token.push(loose);
    assert_eq!(refused(&plain(), &token), TokenError::NotBase64("signature"));
}

#[test]
fn the_size_limit_is_exact() {
    let largest = |filler: usize| token(claims(json!({"filler": "x".repeat(filler)})));
    let fits = (0..)
        .map(|less| largest(12_200 - less))
        .find(|token| token.len() <= JwtAuthenticator::MAX_TOKEN_BYTES)
        .unwrap();
    assert!(fits.len() > JwtAuthenticator::MAX_TOKEN_BYTES - 4);
    accepted(&plain(), &fits);
    assert_eq!(refused(&plain(), &largest(12_300)), TokenError::TooLong);
}

#[test]
fn critical_header_parameters_are_refused() {
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!(null)] {
        let header = json!({"alg": "HS256", "crit": crit, "b64": false});
        let token = token_with(header, claims(json!({})));
        assert_eq!(refused(&plain(), &token), TokenError::Critical);
    }
}

#[test]
fn the_only_key_checks_tokens_that_name_none() {
    let token = |kid: Value| token_with(json!({"alg": "HS256", "kid": kid}), claims(json!({})));
    let unnamed = super::token(claims(json!({})));

    let nameless = plain();
    accepted(&nameless, &unnamed);
    accepted(&nameless, &token(json!("any")));
    assert_eq!(refused(&nameless, &token(json!(7))), TokenError::UnknownKid);

    let key = || JwtKey::secret(Algorithm::HS256, SECRET);
    let named = builder().key(key().with_kid("a")).build().unwrap();
    accepted(&named, &unnamed);
    accepted(&named, &token(json!("a")));
    assert_eq!(refused(&named, &token(json!("b"))), TokenError::UnknownKid);

    let other = JwtKey::secret(Algorithm::HS256, [7; 32]).with_kid("b");
    let several = builder().key(key().with_kid("a")).key(other);
    let several = several.build().unwrap();
    accepted(&several, &token(json!("a")));
    assert_eq!(refused(&several, &token(json!("b"))), TokenError::WrongSignature);
    assert_eq!(refused(&several, &token(json!("c"))), TokenError::UnknownKid);
    assert_eq!(refused(&several, &unnamed), TokenError::NoKid);
}

#[test]
fn expiry_is_exact_to_the_millisecond() {
    let clock = TestClock::at_second(0);
    let authenticator = |leeway| {
        JwtAuthenticator::builder()
            .key(JwtKey::secret(Algorithm::HS256, SECRET))
            .clock(clock.clone())
            .leeway(leeway)
            .build()
            .unwrap()
    };
    for (exp, leeway, end) in [
        (json!(1_000), Duration::from_secs(5), 1_005_000),
        (json!(1_000), Duration::ZERO, 1_000_000),
        (json!(1_000.25), Duration::from_millis(1_500), 1_001_750),
        (json!(1e3), Duration::ZERO, 1_000_000),
        // Times 1000 this is a little less than a whole number of milliseconds.
        (json!(1.001), Duration::ZERO, 1001),
        (json!(253_402_300_799_u64), Duration::MAX, u64::MAX),
    ] {
        let authenticator = authenticator(leeway);
        let token = token(json!({"sub": "alice", "exp": exp}));
        clock.set_millis(end - 1);
        let identity = accepted(&authenticator, &token);
        assert_eq!(identity.expires_at, Some(Timestamp::from_millis(end)));
        clock.set_millis(end);
        let expired = authenticator.identity(&token);
        assert!(matches!(expired, Err(AuthError::Expired)), "{expired:?}");
    }
}

#[test]
fn leeway_is_five_seconds_unless_set() {
    assert_eq!(JwtAuthenticator::DEFAULT_LEEWAY, Duration::from_secs(5));
    accepted(&plain(), &token(claims(json!({"exp": NOW - 4}))));
    let expired = plain().identity(&token(claims(json!({"exp": NOW - 5}))));
    assert!(matches!(expired, Err(AuthError::Expired)));
}

#[test]
fn not_before_is_exact_to_the_millisecond() {
    let clock = TestClock::at_second(NOW);
    let authenticator = JwtAuthenticator::builder()
        .key(JwtKey::secret(Algorithm::HS256, SECRET))
        .clock(clock.clone())
        .build()
        .unwrap();
    let token = token(claims(json!({"nbf": NOW + 30})));
    let start = (NOW + 25) * 1000;
    clock.set_millis(start - 1);
    assert_eq!(refused(&authenticator, &token), TokenError::NotYetValid);
    clock.set_millis(start);
    accepted(&authenticator, &token);
}

#[test]
fn a_token_that_was_never_good_has_not_expired() {
    let authenticator = builder()
        .key(JwtKey::secret(Algorithm::HS256, SECRET))
        .issuer("https://id.example")
        .build()
        .unwrap();
    let token = token(claims(json!({"exp": 1, "iss": "https://else.example"})));
    assert_eq!(refused(&authenticator, &token), TokenError::WrongIssuer);
}

#[test]
fn dates_are_numbers_in_range() {
    let missing = token(json!({"sub": "alice"}));
    assert_eq!(refused(&plain(), &missing), TokenError::MissingClaim("exp".to_owned()));
    let key = signing_key(Algorithm::HS256);
    for wrong in [
        "null",
        "true",
        "[]",
        "{}",
        "\"1800000060\"",
        "-1",
        "-0.5",
        "253402300800",
        "1800000060000",
        "18446744073709551616",
        "1e300",
    ] {
        for claim in ["exp", "nbf"] {
            let exp = if claim == "nbf" { r#""exp":1800000060,"# } else { "" };
            let claims = format!(r#"{{"sub":"alice",{exp}"{claim}":{wrong}}}"#);
            let token = raw_token(r#"{"alg":"HS256"}"#, &claims, Algorithm::HS256, &key);
            assert_eq!(
                refused(&plain(), &token),
                TokenError::MalformedClaim(claim.to_owned()),
                "{wrong}"
            );
        }
    }
    for not_json in ["NaN", "Infinity", "1e999"] {
        let claims = format!(r#"{{"sub":"alice","exp":{not_json}}}"#);
        let token = raw_token(r#"{"alg":"HS256"}"#, &claims, Algorithm::HS256, &key);
        assert_eq!(refused(&plain(), &token), TokenError::NotJson("claims"));
    }
}

/// RFC 7519, 4: of claims with one name, the last counts.
#[test]
fn of_two_claims_with_one_name_the_last_counts() {
    let key = signing_key(Algorithm::HS256);
    let claims = r#"{"sub":"mallory","exp":1800000060,"sub":"alice"}"#;
    let token = raw_token(r#"{"alg":"HS256"}"#, claims, Algorithm::HS256, &key);
    assert_eq!(accepted(&plain(), &token).user.as_str(), "alice");
}

#[test]
fn the_issuer_is_required_once_set() {
    let authenticator = builder()
        .key(JwtKey::secret(Algorithm::HS256, SECRET))
        .issuer("https://id.example")
        .issuer("https://id2.example")
        .build()
        .unwrap();
    for issuer in ["https://id.example", "https://id2.example"] {
        accepted(&authenticator, &token(claims(json!({"iss": issuer}))));
        accepted(&plain(), &token(claims(json!({"iss": issuer}))));
    }
    let missing = TokenError::MissingClaim("iss".to_owned());
    let malformed = TokenError::MalformedClaim("iss".to_owned());
    assert_eq!(refused(&authenticator, &token(claims(json!({})))), missing);
    for (issuer, error) in [
        (json!("https://id.example/"), TokenError::WrongIssuer),
        (json!("https://ID.example"), TokenError::WrongIssuer),
        (json!(""), TokenError::WrongIssuer),
        (json!(["https://id.example"]), malformed.clone()),
        (json!(null), malformed.clone()),
    ] {
        let token = token(claims(json!({"iss": issuer})));
        assert_eq!(refused(&authenticator, &token), error);
    }
}

#[test]
fn the_audience_is_required_once_set() {
    let authenticator = builder()
        .key(JwtKey::secret(Algorithm::HS256, SECRET))
        .audience("signaling")
        .audience("calls")
        .build()
        .unwrap();
    for audience in [json!("signaling"), json!(["chat", "calls"]), json!(["calls"])] {
        accepted(&authenticator, &token(claims(json!({"aud": audience}))));
    }
    let missing = TokenError::MissingClaim("aud".to_owned());
    let malformed = TokenError::MalformedClaim("aud".to_owned());
    assert_eq!(refused(&authenticator, &token(claims(json!({})))), missing);
    for (audience, error) in [
        (json!("chat"), TokenError::WrongAudience),
        (json!([]), TokenError::WrongAudience),
        (json!(["chat", "Signaling"]), TokenError::WrongAudience),
        (json!(["signaling", 7]), malformed.clone()),
        (json!({"signaling": true}), malformed.clone()),
        (json!(null), malformed.clone()),
    ] {
        let token = token(claims(json!({"aud": audience})));
        assert_eq!(refused(&authenticator, &token), error, "{audience}");
    }
}

/// RFC 7519, 4.1.3: whoever is not named must refuse the token.
#[test]
fn a_token_for_an_audience_needs_one_configured() {
    let token = token(claims(json!({"aud": "chat"})));
    assert_eq!(refused(&plain(), &token), TokenError::UnexpectedAudience);
}

#[test]
fn the_user_id_is_a_claim_that_holds_one() {
    let missing = token(json!({"exp": NOW + 60}));
    assert_eq!(refused(&plain(), &missing), TokenError::MissingClaim("sub".to_owned()));
    let malformed = TokenError::MalformedClaim("sub".to_owned());
    let too_long = "x".repeat(UserId::MAX_BYTES + 1);
    for (sub, error) in [
        (json!(7), malformed.clone()),
        (json!(null), malformed.clone()),
        (json!(["alice"]), malformed.clone()),
        (json!(""), TokenError::User(IdError::Empty)),
        (json!("a\nb"), TokenError::User(IdError::Character('\n'))),
        (json!("a\u{0}"), TokenError::User(IdError::Character('\0'))),
        (json!(too_long), TokenError::User(IdError::TooLong { max: UserId::MAX_BYTES })),
    ] {
        let token = token(claims(json!({"sub": sub})));
        assert_eq!(refused(&plain(), &token), error, "{sub}");
    }
}

#[test]
fn another_claim_may_hold_the_user_id() {
    let authenticator = builder()
        .key(JwtKey::secret(Algorithm::HS256, SECRET))
        .user_claim("https://example.com/uid")
        .build()
        .unwrap();
    let token = token(claims(json!({"https://example.com/uid": "Zoë"})));
    assert_eq!(accepted(&authenticator, &token).user.as_str(), "Zoë");
    let without = super::token(claims(json!({})));
    assert_eq!(
        refused(&authenticator, &without),
        TokenError::MissingClaim("https://example.com/uid".to_owned())
    );
}
