//! Clients that renew their tokens on the open connection.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use signaling_core::{
    Relay,
    auth::{AuthError, Authenticator, Client, Credentials, Identity},
    event::Event,
    protocol::Dialect,
    testing::TokioClock,
    time::{Clock, Timestamp},
};
use tokio::time::{self, Instant};

use crate::harness::{Guest, user};

/// Its tokens are a user's name and when they expire, in seconds since the Unix epoch.
#[derive(Debug)]
struct Dated;

#[async_trait]
impl Authenticator for Dated {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        match credentials.token().and_then(|token| token.split_once(' ')) {
            Some(("down", _)) => Err(AuthError::Unavailable("not today".into())),
            Some(("hangs", _)) => std::future::pending().await,
            Some(("panics", _)) => panic!("this is in the test"),
            Some((name, at)) => {
                let at = at.parse().map_err(AuthError::invalid)?;
                Ok(Identity::new(user(name)).expiring(Timestamp::from_millis(at)))
            }
            None => Err(AuthError::Missing),
        }
    }
}

/// A relay, Ann with a token for 100 s, and when that expires.
async fn start() -> (Relay, Guest, u64) {
    let clock = Arc::new(TokioClock::start());
    let expires = clock.now().after(Duration::from_secs(100));
    let relay = Relay::builder(Dated).clock(clock).start().await.unwrap();
    let client = Client::new(Identity::new(user("ann")).expiring(expires));
    let ann = Guest::connect_as(&relay, client.speaking(Dialect::V1));
    (relay, ann, expires.as_millis())
}

async fn refresh(ann: &Guest, token: &str) {
    ann.send(json!({"type": "refresh", "token": token}).to_string()).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_lives_as_long_as_its_latest_token() {
    let (relay, mut ann, expires) = start().await;
    let start = Instant::now();
    assert_eq!(ann.message().await, json!({"type": "token-expiring", "inMs": 20_000}));
    assert_eq!(start.elapsed(), Duration::from_secs(80));
    refresh(&ann, &format!("ann {}", expires + 100_000)).await;
    assert_eq!(ann.message().await, json!({"type": "refreshed", "expiresInMs": 120_000}));
    assert_eq!(ann.message().await, json!({"type": "token-expiring", "inMs": 24_000}));
    assert_eq!(start.elapsed(), Duration::from_secs(80 + 96));
    ann.expect_close(4401).await;
    assert_eq!(start.elapsed(), Duration::from_secs(200));
    assert_eq!(relay.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_a_later_one_of_the_same_user_changes_nothing() {
    let (relay, mut ann, expires) = start().await;
    let start = Instant::now();
    ann.settled().await;
    let mut events = relay.events();
    let later = expires + 100_000;
    for (token, code) in [
        (format!("bob {later}"), "token-refused"),
        (format!("ann {expires}"), "token-refused"),
        ("ann soon".into(), "token-refused"),
        (String::new(), "token-refused"),
        (format!("down {later}"), "unavailable"),
        (format!("panics {later}"), "unavailable"),
    ] {
        refresh(&ann, &token).await;
        ann.expect(&format!("error {code}")).await;
    }
    // Those that are refused by the authenticator are told of as when somebody connects.
    let told = time::timeout(Duration::from_secs(1), events.next()).await.unwrap();
    assert!(matches!(told, Ok(Some(Event::CredentialsRefused { .. }))), "{told:?}");
    assert_eq!(ann.message().await["type"], "token-expiring");
    ann.expect_close(4401).await;
    assert_eq!(start.elapsed(), Duration::from_secs(100));
}

#[tokio::test(start_paused = true)]
async fn while_a_token_is_judged_everything_else_goes_on() {
    let (_relay, mut ann, _) = start().await;
    refresh(&ann, "hangs 1").await;
    refresh(&ann, "ann 1").await;
    ann.expect("error rate-limited").await;
    ann.settled().await;
    ann.expect("error unavailable").await;
    // Another one is judged.
    refresh(&ann, "bob 1").await;
    ann.expect("error token-refused").await;
}
