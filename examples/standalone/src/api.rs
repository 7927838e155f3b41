//! The HTTP API for the matching service, behind the API key.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        FromRequestParts, Path, Request, State,
        rejection::{JsonRejection, PathRejection},
    },
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use signaling_core::{
    Relay,
    frame::CloseReason,
    id::{SessionId, UserId},
    relay::{NewSession as Wanted, Opened},
    session::Metadata,
    store::Counts,
    time::{Clock, SystemClock, Timestamp},
};
use tokio::time::{self, Instant};

use crate::{
    error::ApiError,
    guesses::Guesses,
    matchmaker::{Matchmaker, Place},
    queue::Partners,
    secret::ApiKey,
    serve::Peer,
};

/// In 1973: no token is older, and the present time in seconds is before it.
const FIRST_ISSUED: Timestamp = Timestamp::from_millis(100_000_000_000);
/// By how much the clock of who asks may be ahead of this one.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    relay: Relay,
    matchmaker: Matchmaker,
    /// Whom the queue may match, unless a request narrows it.
    partners: Partners,
}

/// The API beneath `/api`.
pub(crate) fn router(
    relay: Relay,
    matchmaker: Matchmaker,
    partners: Partners,
    key: ApiKey,
) -> Router {
    let api = Router::new()
        .route("/sessions", post(open_session))
        .route("/sessions/{session}", get(show_session).delete(close_session))
        .route("/queue", post(enter_queue))
        .route("/queue/{user}", delete(leave_queue))
        .route("/users/{user}", get(show_user))
        .route("/users/{user}/connection", delete(disconnect))
        .route("/users/{user}/revocation", post(revoke))
        .route("/counts", get(count))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(Arc::new(Gate::new(key)), authorize))
        .with_state(Api { relay, matchmaker, partners });
    Router::new().nest("/api", api)
}

/// The answer for every path that there is not.
pub(crate) async fn no_such_path() -> ApiError {
    ApiError::not_found("there is nothing here")
}

/// The answer for every method that a path does not have.
pub(crate) async fn no_such_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "this path has other methods",
    )
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_ascii())
}

/// A JSON body, or what is wrong with it in the API's own form.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> axum::extract::FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        Ok(Self(body?.0))
    }
}

/// An id in the path; what cannot be an id names nothing.
#[derive(Debug)]
struct Id<T>(T);

impl<S: Send + Sync, T: TryFrom<String>> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        let id = T::try_from(id?.0);
        id.map(Self).map_err(|_| ApiError::not_found("there is no such id"))
    }
}

/// What the client is told of its end, in the query.
#[derive(Debug)]
struct Said {
    reason: CloseReason,
}

impl<S: Send + Sync> FromRequestParts<S> for Said {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let reason = pairs.find(|(name, _)| name == "reason").map(|(_, text)| text);
        match CloseReason::new(&reason.unwrap_or_default()) {
            Ok(reason) => Ok(Self { reason }),
            Err(error) => Err(ApiError::invalid(error.to_string())),
        }
    }
}

/// Lets in who has the key.
#[derive(Debug)]
struct Gate {
    key: ApiKey,
    guesses: Guesses,
}

impl Gate {
    fn new(key: ApiKey) -> Self {
        Self { key, guesses: Guesses::default() }
    }
}

async fn authorize(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if bearer(request.headers()).is_some_and(|given| gate.key.is(given)) {
        return Ok(next.run(request).await);
    }
    let peer = request.extensions().get::<Peer>().map(|Peer(address)| *address);
    let address = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let verdict = gate.guesses.count(address, Instant::now());
    if let Some(requests) = verdict.warn_of {
        tracing::warn!(requests, last_from = %address, "API requests without the right key");
    }
    time::sleep(verdict.pause).await;
    Err(ApiError::unauthorized("the API key is missing or wrong"))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewSession {
    initiator_id: UserId,
    partner_id: UserId,
    session_id: Option<SessionId>,
    metadata: Option<Metadata>,
}

async fn open_session(
    State(api): State<Api>,
    Body(new): Body<NewSession>,
) -> Result<Response, ApiError> {
    let mut wanted = Wanted::between(&new.initiator_id, &new.partner_id);
    if let Some(session) = &new.session_id {
        wanted = wanted.id(session);
    }
    if let Some(metadata) = new.metadata {
        wanted = wanted.metadata(metadata);
    }
    let (session, opened) = api.relay.open(wanted).await?;
    let status = match opened {
        Opened::New => StatusCode::CREATED,
        Opened::Existing => StatusCode::OK,
    };
    Ok((status, Json(json!({"sessionId": session}))).into_response())
}

async fn show_session(
    State(api): State<Api>,
    Id(session): Id<SessionId>,
) -> Result<Response, ApiError> {
    let record = api.relay.session(&session).await?;
    let record = record.ok_or_else(no_such_session)?;
    let participants = record.participants.each_ref().map(|participant| {
        json!({
            "userId": participant.user,
            "connected": participant.connection().is_some(),
            "lastHeartbeat": participant.last_heartbeat,
        })
    });
    let status = record.status().as_str();
    let mut body = json!({"sessionId": record.id, "status": status, "participants": participants});
    if let Some(metadata) = &record.metadata {
        body["metadata"] = metadata.as_str().into();
    }
    Ok(Json(body).into_response())
}

async fn close_session(
    State(api): State<Api>,
    Id(session): Id<SessionId>,
) -> Result<StatusCode, ApiError> {
    match api.relay.close_session(&session, CloseReason::default()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_such_session()),
    }
}

fn no_such_session() -> ApiError {
    ApiError::not_found("there is no such session")
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Waiting {
    user_id: UserId,
    /// Only while it is connected, and only with someone who is.
    #[serde(default)]
    connected: bool,
}

async fn enter_queue(
    State(api): State<Api>,
    Body(waiting): Body<Waiting>,
) -> Result<Place, ApiError> {
    match (api.partners, waiting.connected) {
        (Partners::All, false) => Ok(api.matchmaker.enter(waiting.user_id, Partners::All).await?),
        (Partners::Connected, _) | (_, true) => {
            Ok(api.matchmaker.enter_connected(waiting.user_id).await?)
        }
    }
}

impl IntoResponse for Place {
    fn into_response(self) -> Response {
        match self {
            Self::Waiting => {
                (StatusCode::ACCEPTED, Json(json!({"status": "waiting"}))).into_response()
            }
            Self::Matched { session, partner, is_initiator } => {
                let body = json!({
                    "status": "matched",
                    "sessionId": session,
                    "partnerId": partner,
                    "isInitiator": is_initiator,
                });
                (StatusCode::CREATED, Json(body)).into_response()
            }
        }
    }
}

async fn leave_queue(State(api): State<Api>, Id(user): Id<UserId>) -> Result<StatusCode, ApiError> {
    match api.matchmaker.leave(user).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found("this user does not wait")),
    }
}

async fn show_user(State(api): State<Api>, Id(user): Id<UserId>) -> Result<Response, ApiError> {
    let connected = api.relay.is_connected(&user).await?;
    let sessions = api.relay.sessions_of(&user).await?;
    let sessions: Vec<_> = sessions.iter().map(|record| &record.id).collect();
    let body = json!({"userId": user, "connected": connected, "sessions": sessions});
    Ok(Json(body).into_response())
}

async fn count(State(api): State<Api>) -> Result<Response, ApiError> {
    let shown =
        |counts: Counts| json!({"connections": counts.connections, "sessions": counts.sessions});
    let all = shown(api.relay.counts().await?);
    let node = shown(api.relay.counts_here());
    Ok(Json(json!({"all": all, "node": node})).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Revocation {
    /// In milliseconds since the Unix epoch; without it, now.
    issued_before: Option<Timestamp>,
}

/// Without a body: of all tokens that were issued until now.
async fn revoke(
    State(api): State<Api>,
    Id(user): Id<UserId>,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let now = SystemClock.now();
    let issued_before = match body.is_empty() {
        true => now,
        false => Json::<Revocation>::from_bytes(&body)?.0.issued_before.unwrap_or(now),
    };
    // In other units by mistake, it would revoke nothing, or lock the user out for as long as it is remembered.
    let allowed = FIRST_ISSUED..=now.after(CLOCKS_APART);
    if !allowed.contains(&issued_before) {
        return Err(ApiError::invalid(
            "issuedBefore is in milliseconds since 1970, and not in the future",
        ));
    }
    api.relay.revoke(&user, issued_before).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn disconnect(
    State(api): State<Api>,
    Id(user): Id<UserId>,
    said: Said,
) -> Result<StatusCode, ApiError> {
    match api.relay.disconnect(&user, said.reason).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found("this user has no connection")),
    }
}
