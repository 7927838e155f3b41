//! What the demonstration page needs, with `--dev` only: tokens for the asking, and a queue of its
//! own whose users prove who they are by such a token.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde::Deserialize;
use serde_json::{Value, json};
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
    secret::random_hex,
    signer::Signer,
};

/// Characters that a name may have.
const MAX_NAME: usize = 40;

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

#[derive(Debug, Deserialize)]
struct Name {
    name: String,
}

/// Two people may have one name: the user id has a random end.
async fn make_token(
    State(demo): State<Demo>,
    Body(Name { name }): Body<Name>,
) -> Result<Json<Value>, ApiError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return Err(ApiError::invalid("a name has 1 to 40 characters"));
    }
    let suffix = random_hex::<4>().map_err(|error| internal(&error))?;
    let user = UserId::new(&format!("{name}-{suffix}"));
    let user = user.map_err(|error| ApiError::invalid(error.to_string()))?;
    let token = demo.signer.token(&user, SystemClock.now());
    let token = token.map_err(|error| internal(&error))?;
    Ok(Json(json!({"token": token, "userId": user})))
}

async fn enter(State(demo): State<Demo>, headers: HeaderMap) -> Result<Place, ApiError> {
    let user = demo.user(&headers).await?;
    Ok(demo.matchmaker.enter(user).await?)
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

fn internal(error: &dyn std::error::Error) -> ApiError {
    tracing::error!(error = %error, "a request failed");
    ApiError::internal()
}
