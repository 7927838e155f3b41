//! What a host learns of those that are not let in, and of a node that is about to end.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use signaling_core::{
    Relay,
    auth::{AuthError, AuthRefusal, Authenticator, Credentials, Identity},
    event::{Event, Events},
    id::UserId,
    jwt::{Algorithm, JwtAuthenticator, JwtKey},
    testing::token,
};
use tokio::time;

use crate::harness::Deployment;

const SECRET: &str = "a secret of at least thirty-two bytes";

async fn refusal(events: &mut Events) -> Option<(AuthRefusal, u64)> {
    let event = time::timeout(Duration::from_millis(10), events.next()).await.ok()?;
    match event.unwrap().unwrap() {
        Event::CredentialsRefused { reason, suppressed } => Some((reason, suppressed)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn why_a_token_was_refused_is_told_to_the_host() {
    let key = JwtKey::secret(Algorithm::HS256, SECRET);
    let authenticator = JwtAuthenticator::builder().key(key).issuer("us").build().unwrap();
    let relay = Relay::builder(authenticator).start().await.unwrap();
    let mut events = relay.events();
    let signed = |claims| Credentials::bearer(token::sign(SECRET.as_bytes(), &claims));
    let later = 32_503_680_000_u64;
    for (credentials, reason) in [
        (Credentials::none(), AuthRefusal::Missing),
        (Credentials::bearer("x".repeat(20_000)), AuthRefusal::Malformed),
        (Credentials::bearer("a.b"), AuthRefusal::Malformed),
        (signed(json!({"sub": "ann", "iss": "us", "exp": 1})), AuthRefusal::Expired),
        (signed(json!({"sub": "ann", "iss": "us"})), AuthRefusal::MissingClaim),
        (signed(json!({"sub": "ann", "iss": "us", "exp": "x"})), AuthRefusal::MalformedClaim),
        (
            signed(json!({"sub": "ann", "iss": "us", "exp": later, "nbf": later})),
            AuthRefusal::NotYetValid,
        ),
        (signed(json!({"sub": "ann", "iss": "them", "exp": later})), AuthRefusal::WrongIssuer),
        (
            signed(json!({"sub": "ann", "iss": "us", "exp": later, "aud": "x"})),
            AuthRefusal::UnexpectedAudience,
        ),
        (signed(json!({"sub": "", "iss": "us", "exp": later})), AuthRefusal::NoUser),
        (
            Credentials::bearer(token::sign(b"another secret of thirty-two bytes", &json!({}))),
            AuthRefusal::WrongSignature,
        ),
    ] {
        assert!(relay.authenticate(&credentials).await.is_err());
        assert_eq!(refusal(&mut events).await, Some((reason, 0)));
    }
    let good = signed(json!({"sub": "ann", "iss": "us", "exp": later}));
    assert!(relay.authenticate(&good).await.is_ok());
    assert_eq!(refusal(&mut events).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_refusals_leaves_room_for_other_events() {
    let node = Deployment::new().node().await;
    let mut events = node.relay.events();
    for _ in 0..5_000 {
        assert!(node.relay.authenticate(&Credentials::bearer("x")).await.is_err());
    }
    let mut told = 0;
    while let Some((reason, suppressed)) = refusal(&mut events).await {
        assert_eq!((reason, suppressed), (AuthRefusal::Missing, 0));
        told += 1;
    }
    assert_eq!(told, 32);
    time::sleep(Duration::from_secs(1)).await;
    assert!(node.relay.authenticate(&Credentials::bearer("x")).await.is_err());
    assert_eq!(refusal(&mut events).await, Some((AuthRefusal::Missing, 5_000 - 32)));
}

/// What an authenticator of the host's own finds wrong has no name of ours.
#[derive(Debug)]
struct Strict;

#[async_trait]
impl Authenticator for Strict {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        match credentials.token() {
            Some("down") => Err(AuthError::Unavailable("no answer".into())),
            Some(name) => UserId::new(name).map(Identity::new).map_err(AuthError::invalid),
            None => Err(AuthError::Missing),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hosts_own_authenticator_is_told_of_as_well() {
    let relay = Relay::builder(Strict).start().await.unwrap();
    let mut events = relay.events();
    for (token, reason) in [("", AuthRefusal::Invalid), ("down", AuthRefusal::Unavailable)] {
        assert!(relay.authenticate(&Credentials::bearer(token)).await.is_err());
        assert_eq!(refusal(&mut events).await, Some((reason, 0)));
    }
}
