//! Good and bad tokens, and the three ways in which one comes.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::{self, Instant};

use super::{
    AUDIENCE, ISSUER, SECRET, Setup,
    faulty::NobodyToAsk,
    stage::{Host, now, token, token_until},
};
use crate::{
    frame::CloseCode,
    protocol::ErrorCode,
    reason::PartnerReason,
    testing::{
        client::Dial,
        token::{Hash, base64url, mac, sign, sign_text},
    },
};

pub(super) async fn a_token_comes_by_query_header_or_subprotocol(host: &Host) {
    let stage = host.start().await;
    let ways: [fn(Dial, &str) -> Dial; 3] =
        [Dial::query_token, Dial::header_token, Dial::subprotocol_token];
    for way in ways {
        let s = stage.open_new("ann", "bob").await;
        let mut ann = way(stage.bare("ann"), &token("ann")).connect().await;
        ann.expect_match(&s, "bob", true).await;
        ann.expect_nothing().await;
        assert!(stage.close(&s).await);
    }
    // RFC 9110, section 11.1: the name of the scheme is in any case.
    let lower = format!("bearer {}", token("ann"));
    let dial = stage.bare("ann").header("authorization", &lower);
    dial.connect().await.expect_nothing().await;
    // A query may hold more than the token.
    let url = format!("{}?room=1&token={}&x=%20", stage.url(), token("ann"));
    Dial::to(url).connect().await.expect_nothing().await;
}

pub(super) async fn only_the_protocol_itself_is_echoed_as_subprotocol(host: &Host) {
    let stage = host.start().await;
    let with = |value: &str| stage.bare("ann").header("sec-websocket-protocol", value);
    let jwt = token("ann");
    for value in [
        format!("signaling.v1, bearer.{jwt}"),
        format!("bearer.{jwt},signaling.v1"),
        format!("chat, bearer.{jwt} , signaling.v1"),
    ] {
        let mut ann = with(&value).connect().await;
        assert_eq!(ann.subprotocol(), Some("signaling.v1"), "for {value}");
        ann.expect_nothing().await;
    }
    let two_headers =
        with("signaling.v1").header("sec-websocket-protocol", &format!("bearer.{jwt}"));
    let mut ann = two_headers.connect().await;
    assert_eq!(ann.subprotocol(), Some("signaling.v1"));
    ann.expect_nothing().await;
    // Also where the token is none, or comes in another way.
    let mut eve = with("signaling.v1, bearer.x").connect().await;
    assert_eq!(eve.subprotocol(), Some("signaling.v1"));
    eve.expect_close(CloseCode::Unauthorized).await;
    let mut ann = with("signaling.v1").query_token(&jwt).connect().await;
    assert_eq!(ann.subprotocol(), Some("signaling.v1"));
    ann.expect_nothing().await;
    let ann = stage.client("ann").await;
    assert_eq!(ann.subprotocol(), None);
}

fn claims() -> Value {
    json!({"sub": "ann", "iss": ISSUER, "aud": AUDIENCE, "exp": now() + 3600})
}

/// A token that is good but for this claim, which is left out where it is null.
fn with(claim: &str, value: Value) -> String {
    let mut claims = claims();
    claims[claim] = value;
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    sign(SECRET.as_bytes(), &claims)
}

/// A token with this header, well signed.
fn under(hash: Hash, header: &str) -> String {
    sign_text(hash, SECRET.as_bytes(), header, &claims().to_string())
}

/// One of each kind; all of them mean to be Ann.
fn bad_tokens() -> Vec<(&'static str, String)> {
    let good = sign(SECRET.as_bytes(), &claims());
    let (message, signature) = good.rsplit_once('.').expect("a token has three parts");
    let (header, _) = message.split_once('.').expect("a token has three parts");
    let forged = json!({"sub": "bob", "iss": ISSUER, "aud": AUDIENCE, "exp": now() + 3600});
    let raw = |header: &str, claims: &str| {
        let message = format!("{header}.{claims}");
        let mac = mac(Hash::Sha256, SECRET.as_bytes(), message.as_bytes());
        format!("{message}.{}", base64url(mac))
    };
    let text =
        |header: &str, claims: &str| sign_text(Hash::Sha256, SECRET.as_bytes(), header, claims);
    let hs256 = r#"{"alg":"HS256"}"#;
    let unsigned = base64url(r#"{"alg":"none"}"#);
    let mixed_case = base64url(r#"{"alg":"nOnE"}"#);
    let body = base64url(claims().to_string());
    let mut flipped = signature.as_bytes().to_vec();
    flipped[0] = if flipped[0] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8_lossy(&flipped).into_owned();
    vec![
        ("empty", String::new()),
        ("no JWT", "ann".into()),
        ("null", "null".into()),
        ("one part", signature.into()),
        ("two parts", message.into()),
        ("four parts", format!("{good}.{signature}")),
        ("five parts", "e30.e30.e30.e30.e30".into()),
        ("dots only", "..".into()),
        ("a space behind it", format!("{good} ")),
        ("a line break behind it", format!("{good}\n")),
        ("a NUL within it", good.replacen('.', "\0.", 1)),
        ("padded base64", format!("{good}=")),
        ("the other base64", raw("+/+/", &body)),
        ("a header that is no base64", raw("*", &body)),
        ("claims that are no base64", raw(header, "*")),
        ("a header that is no JSON", text("{", &claims().to_string())),
        ("a header that is an array", text("[]", &claims().to_string())),
        ("claims that are no JSON", text(hs256, "{\"sub\":\"ann\"")),
        ("claims that are an array", text(hs256, "[\"ann\"]")),
        ("no signature", format!("{message}.")),
        ("half a signature", format!("{message}.{}", &signature[..22])),
        ("one bit of the signature", format!("{message}.{flipped}")),
        ("the signature of another secret", sign(b"another", &claims())),
        ("the signature of an empty secret", sign(b"", &claims())),
        (
            "other claims than were signed",
            format!("{header}.{}.{signature}", base64url(forged.to_string())),
        ),
        ("alg none", format!("{unsigned}.{body}.")),
        ("alg none with a signature", under(Hash::Sha256, r#"{"alg":"none"}"#)),
        ("alg none in mixed case", format!("{mixed_case}.{body}.")),
        ("no alg", under(Hash::Sha256, r#"{"typ":"JWT"}"#)),
        ("alg that is no text", under(Hash::Sha256, r#"{"alg":256}"#)),
        ("HS384", under(Hash::Sha384, r#"{"alg":"HS384"}"#)),
        ("HS512", under(Hash::Sha512, r#"{"alg":"HS512"}"#)),
        ("HS384 in name only", under(Hash::Sha256, r#"{"alg":"HS384"}"#)),
        ("RS256 in name only", under(Hash::Sha256, r#"{"alg":"RS256"}"#)),
        ("a crit header", under(Hash::Sha256, r#"{"alg":"HS256","crit":["exp"],"exp":1}"#)),
        ("expired", with("exp", json!(now() - 60))),
        ("expired since 1970", with("exp", json!(0))),
        ("no exp", with("exp", Value::Null)),
        ("exp that is a text", with("exp", json!((now() + 3600).to_string()))),
        ("exp below zero", with("exp", json!(-1))),
        ("not valid yet", with("nbf", json!(now() + 600))),
        ("nbf that is a text", with("nbf", json!("0"))),
        ("another issuer", with("iss", json!("https://evil.test"))),
        ("no issuer", with("iss", Value::Null)),
        ("another audience", with("aud", json!("other"))),
        ("other audiences", with("aud", json!(["other", "another"]))),
        ("no audience", with("aud", Value::Null)),
        ("no sub", with("sub", Value::Null)),
        ("an empty sub", with("sub", json!(""))),
        ("sub that is a number", with("sub", json!(7))),
        ("sub that is an object", with("sub", json!({"id": "ann"}))),
        ("a control character in sub", with("sub", json!("an\u{0}n"))),
        ("a sub of 257 bytes", with("sub", json!("a".repeat(257)))),
        ("more than 16 KiB", with("x", json!("x".repeat(16 * 1024)))),
    ]
}

pub(super) async fn a_bad_token_is_closed_with_4401_and_nothing_else(host: &Host) {
    let stage = host.start().await;
    let s = stage.open_new("ann", "bob").await;
    let mut none = stage.bare("without a token").connect().await;
    none.expect_close(CloseCode::Unauthorized).await;
    for (what, token) in bad_tokens() {
        let dial = Dial::to(stage.url()).named(what).query_token(&token);
        let mut client = dial.connect().await;
        client.expect_close(CloseCode::Unauthorized).await;
    }
    let state = stage.session(&s).await.expect("the session is open");
    assert!(state.participants.iter().all(|one| !one.connected));
    stage.connect("ann").await.expect_match(&s, "bob", true).await;
}

pub(super) async fn a_bad_token_is_refused_however_it_comes(host: &Host) {
    let stage = host.start().await;
    for (what, token) in bad_tokens() {
        // What a header may hold.
        let visible = |byte: u8| byte.is_ascii_graphic();
        if !token.bytes().all(visible) || token.len() > 8000 {
            continue;
        }
        let bare = || Dial::to(stage.url()).named(what);
        let mut client = bare().header_token(&token).connect().await;
        client.expect_close(CloseCode::Unauthorized).await;
        if token.contains('=') {
            continue;
        }
        let mut client = bare().subprotocol_token(&token).connect().await;
        client.expect_close(CloseCode::Unauthorized).await;
    }
    for header in [
        token("ann"),
        format!("Basic {}", token("ann")),
        "Bearer".into(),
        format!("Bearer{}", token("ann")),
    ] {
        let dial = stage.bare("ann").header("authorization", &header);
        let mut client = dial.connect().await;
        client.expect_close(CloseCode::Unauthorized).await;
    }
}

pub(super) async fn a_bad_token_replaces_nobody(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    for (what, token) in bad_tokens() {
        let dial = Dial::to(stage.url()).named(what).query_token(&token);
        let mut client = dial.connect().await;
        client.expect_close(CloseCode::Unauthorized).await;
    }
    call.talk().await;
}

pub(super) async fn a_token_that_cannot_be_checked_now_is_closed_with_4503(host: &Host) {
    let set_up = host.start_if_possible(Setup {
        authenticator: Some(Arc::new(NobodyToAsk)),
        ..Setup::default()
    });
    let Some(stage) = set_up.await else {
        return;
    };
    host.no_checkup();
    stage.connect("ann").await.expect_close(CloseCode::Unavailable).await;
}

pub(super) async fn an_expiring_token_ends_its_connection(host: &Host) {
    let stage = host.start().await;
    // Expired by itself, and good within the leeway of 5 s.
    let (since, jwt) = (Instant::now(), token_until("ann", -2));
    let mut ann = stage.bare("ann").query_token(&jwt).connect().await;
    ann.expect_nothing().await;
    let mut long = stage.client("bob").await;
    ann.expect_close(CloseCode::Unauthorized).await;
    let lived = since.elapsed().as_millis();
    assert!((1900..6000).contains(&lived), "it lived for {lived} ms");
    let mut again = stage.bare("ann").query_token(&jwt).connect().await;
    again.expect_close(CloseCode::Unauthorized).await;
    long.expect_nothing().await;
    stage.client("ann").await.expect_nothing().await;
}

pub(super) async fn a_token_is_renewed_on_the_open_connection(host: &Host) {
    let stage = host.start().await;
    // Expired by itself, and good within the leeway of 5 s.
    let (since, jwt) = (Instant::now(), token_until("ann", -2));
    let mut ann = stage.bare("ann").query_token(&jwt).v1().connect().await;
    let refresh = |token: &str| json!({"type": "refresh", "token": token});
    ann.expect_nothing().await;
    for (what, token) in bad_tokens().into_iter().chain([("another user", token("bob"))]) {
        ann.send_json(refresh(&token)).await;
        let told = ann.next_text().await;
        assert!(told.contains(r#""token-refused""#), "{what}: {told}");
    }
    let told: Value = serde_json::from_str(&ann.next_text().await).expect("JSON");
    assert_eq!(told["type"], "token-expiring", "{told}");
    assert!(told["inMs"].as_u64().is_some_and(|left| left < 1000), "{told}");
    assert!((1500..5000).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());
    ann.send_json(refresh(&token("ann"))).await;
    let told: Value = serde_json::from_str(&ann.next_text().await).expect("JSON");
    assert_eq!(told["type"], "refreshed", "{told}");
    assert!(told["expiresInMs"].as_u64().is_some_and(|left| left > 3_500_000), "{told}");
    // Longer than the first token.
    time::sleep(Duration::from_secs(1)).await;
    ann.expect_nothing().await;
}

pub(super) async fn a_revoked_token_closes_its_connection_and_opens_none(host: &Host) {
    let stage = host.start().await;
    let issued = |seconds: i64| {
        let claims = json!({
            "sub": "ann", "iss": ISSUER, "aud": AUDIENCE, "exp": now() + 3600, "iat": seconds,
        });
        sign(SECRET.as_bytes(), &claims)
    };
    let (session, start) = (stage.open_new("ann", "bob").await, now());
    let dial = |token: &str| stage.bare("ann").query_token(token).v1();
    let mut ann = dial(&issued(start - 10)).connect().await;
    ann.expect_match(&session, "bob", true).await;
    let mut bob = stage.dial("bob").v1().connect().await;
    bob.expect_match(&session, "ann", false).await;
    stage.revoke("ann", start as u64 - 9).await;
    ann.expect_close(CloseCode::Revoked).await;
    bob.expect_partner_gone(&session, PartnerReason::Ended).await;
    // Also one that does not say when it was issued.
    for token in [issued(start - 10), token("ann")] {
        dial(&token).connect().await.expect_close(CloseCode::Revoked).await;
    }
    let mut ann = dial(&issued(start - 9)).connect().await;
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    ann.send_json(json!({"type": "refresh", "token": issued(start - 10)})).await;
    ann.expect_error(ErrorCode::TokenRefused, None).await;
    ann.send_json(json!({"type": "refresh", "token": {}})).await;
    ann.expect_error(ErrorCode::Malformed, None).await;
}
