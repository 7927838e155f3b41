//! A school with an axum backend, to which video lessons are added: whoever joins a lesson first
//! waits, and the second gets a call with the first.
//!
//! ```sh
//! cargo run -p axum-app
//! ```
//!
//! Tokens are signed with your login's secret if `JWT_SECRET` has it (32 bytes or more). If not, the
//! example makes a key and says how to make tokens with it.
//!
//! All that is signaling's is marked with arrows (<--). A page connects to `/ws/signaling` with the
//! token of its user's login, and then posts to `/lessons/{lesson}/join` with the same token.

#[path = "../../development_key.rs"]
mod development_key;

use std::{collections::HashMap, env, error::Error, io, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
    serve::ListenerExt,
};
use serde_json::{Value, json};
use signaling_core::{
    Relay,
    auth::Credentials,
    event::{Event, Events},
    id::{SessionId, UserId},
    jwt::{Algorithm, JwtAuthenticator, JwtKey},
    relay::{NewSession, OpenError},
};
use tokio::{net::TcpListener, sync::Mutex};

#[derive(Clone)]
struct School {
    relay: Relay, // <--
    /// Who came first to each lesson.
    first: Arc<Mutex<HashMap<SessionId, UserId>>>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A log that cannot be written, or is not read, holds nothing up.
    let (log, _flushed_when_dropped) = tracing_appender::non_blocking(io::stdout());
    tracing_subscriber::fmt().with_writer(log).log_internal_errors(false).init();
    let secret = development_key::jwt_secret("axum-app")?;
    let key = JwtKey::secret(Algorithm::HS256, secret); // <--
    let authenticator = JwtAuthenticator::builder().key(key).build()?; // <--
    let relay = Relay::builder(authenticator).start().await?; // <--
    let school = School { relay: relay.clone(), first: Arc::default() };
    tokio::spawn(watch(relay.events(), school.clone())); // <--

    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    tracing::info!("axum-app listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true); // <-- small messages leave at once
    });
    axum::serve(listener, app(school))
        .with_graceful_shutdown(async move {
            let _ = tokio::signal::ctrl_c().await;
            let _ = relay.shutdown(Duration::from_secs(10)).await; // <--
        })
        .await?;
    Ok(())
}

fn app(school: School) -> Router {
    Router::new()
        .route("/lessons/{lesson}/join", post(join))
        .layer(middleware::from_fn_with_state(school.clone(), signed_in))
        .route("/", get(|| async { "Welcome to our school." }))
        .merge(signaling_axum::router(school.relay.clone())) // <--
        .with_state(school)
}

/// Lets nobody pass who is not signed in.
async fn signed_in(
    State(school): State<School>,
    mut request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    let header = request.headers().get(AUTHORIZATION);
    let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let credentials = token.map_or_else(Credentials::none, Credentials::bearer);
    let identity = school.relay.authenticate(&credentials).await; // <-- or as you do already
    let identity = identity.map_err(|_| StatusCode::UNAUTHORIZED)?;
    request.extensions_mut().insert(identity.user);
    Ok(next.run(request).await)
}

/// Joining again changes nothing.
async fn join(
    State(school): State<School>,
    Path(lesson): Path<String>,
    Extension(user): Extension<UserId>,
) -> Result<(StatusCode, Json<Value>), StatusCode> {
    let lesson = SessionId::new(&lesson).map_err(|_| StatusCode::NOT_FOUND)?;
    let mut lessons = school.first.lock().await;
    let first = lessons.entry(lesson.clone()).or_insert(user.clone()).clone();
    drop(lessons);
    if first == user {
        return Ok((StatusCode::ACCEPTED, Json(json!({"status": "joined"}))));
    }
    // <-- Both get `match-found`, now or when they connect.
    match school.relay.open(NewSession::between(&first, &user).id(&lesson)).await {
        Ok(_) => Ok((StatusCode::OK, Json(json!({"status": "matched"})))),
        Err(OpenError::Conflict) => Err(StatusCode::CONFLICT),
        Err(error) => {
            tracing::warn!(error = &error as &dyn Error, "lesson not opened");
            Err(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

/// When a lesson is over, others may have it.
async fn watch(mut events: Events, school: School) {
    loop {
        match events.next().await {
            Ok(Some(Event::SessionEnded { session, reason, .. })) => {
                tracing::info!(%session, %reason, "lesson ended");
                school.first.lock().await.remove(&session);
            }
            Ok(Some(event)) => tracing::info!(?event),
            Ok(None) => break,
            Err(missed) => tracing::warn!("{missed}"),
        }
    }
}
