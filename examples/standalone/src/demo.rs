//! What the demonstration page needs, with `--dev` only: tokens for the asking, and a queue of its
//! own whose users prove who they are by such a token.

use std::ops::RangeInclusive;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use signaling_core::{
    Relay,
    auth::{AuthError, Credentials},
    id::UserId,
    time::{Clock, SystemClock},
};

use crate::{
    api::{Body, bearer, no_such_method},
    error::ApiError,
    matchmaker::{Matchmaker, Place},
    queue::Partners,
    secret::random_hex,
    signer::Signer,
};

/// Characters that a name may have.
const MAX_NAME: usize = 40;

/// Bytes that a key may have.
const KEY_LENGTH: RangeInclusive<usize> = 16..=128;

#[derive(Debug, Clone)]
struct Demo {
    relay: Relay,
    matchmaker: Matchmaker,
    signer: Signer,
}

/// The routes beneath `/demo`.
pub(crate) fn router(relay: Relay, matchmaker: Matchmaker, signer: Signer) -> Router {
    Router::new()
        .route("/demo/token", post(make_token))
        .route("/demo/queue", post(enter).delete(leave))
        .method_not_allowed_fallback(no_such_method)
        .with_state(Demo { relay, matchmaker, signer })
}

#[derive(Deserialize)]
struct Visitor {
    name: String,
    /// A secret of the page. The same name and key are the same user, on every server.
    key: Option<String>,
}

/// Two people may have one name: the user id has a random end, or one that follows from the key.
async fn make_token(
    State(demo): State<Demo>,
    Body(Visitor { name, key }): Body<Visitor>,
) -> Result<Json<Value>, ApiError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return Err(ApiError::invalid("a name has 1 to 40 characters"));
    }
    let suffix = match key {
        Some(key) if KEY_LENGTH.contains(&key.len()) => suffix(name, &key),
        Some(_) => return Err(ApiError::invalid("a key has 16 to 128 bytes")),
        None => random_hex::<4>().map_err(|error| internal(&error))?,
    };
    let user = UserId::new(&format!("{name}-{suffix}"));
    let user = user.map_err(|error| ApiError::invalid(error.to_string()))?;
    let token = demo.signer.token(&user, SystemClock.now());
    let token = token.map_err(|error| internal(&error))?;
    Ok(Json(json!({"token": token, "userId": user})))
}

/// The end of a user id that only who has `key` can get.
fn suffix(name: &str, key: &str) -> String {
    let digest = Sha256::new().chain_update(key).chain_update([0]).chain_update(name).finalize();
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

async fn enter(State(demo): State<Demo>, headers: HeaderMap) -> Result<Place, ApiError> {
    let user = demo.user(&headers).await?;
    Ok(demo.matchmaker.enter(user, Partners::Connected).await?)
}

async fn leave(State(demo): State<Demo>, headers: HeaderMap) -> Result<StatusCode, ApiError> {
    let user = demo.user(&headers).await?;
    demo.matchmaker.leave(user).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Demo {
    async fn user(&self, headers: &HeaderMap) -> Result<UserId, ApiError> {
        let credentials = bearer(headers).map_or_else(Credentials::none, Credentials::bearer);
        match self.relay.authenticate(&credentials).await {
            Ok(identity) => Ok(identity.user),
            Err(AuthError::Unavailable(_)) => Err(ApiError::unavailable("try again")),
            Err(_) => Err(ApiError::unauthorized("the token is missing, invalid or expired")),
        }
    }
}

fn internal(error: &(dyn std::error::Error + 'static)) -> ApiError {
    tracing::error!(error, "a request failed");
    ApiError::internal()
}
