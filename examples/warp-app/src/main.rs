//! A school with a warp backend, to which video lessons are added: whoever joins a lesson first
//! waits, and the second gets a call with the first.
//!
//! ```sh
//! cargo run -p warp-app
//! ```
//!
//! Tokens are signed with your login's secret if `JWT_SECRET` has it (32 bytes or more). If not, the
//! example makes a key and says how to make tokens with it.
//!
//! All that is signaling's is marked with arrows (<--). A page connects to `/ws/signaling` with the
//! token of its user's login, and then posts to `/lessons/{lesson}/join` with the same token.

#[path = "../../development_key.rs"]
mod development_key;

use std::{
    collections::HashMap, convert::Infallible, env, error::Error, io, sync::Arc, time::Duration,
};

use serde_json::json;
use signaling_core::{
    Relay,
    auth::Credentials,
    event::{Event, Events},
    id::{SessionId, UserId},
    jwt::{Algorithm, JwtAuthenticator, JwtKey},
    relay::{NewSession, OpenError},
};
use tokio::{net::TcpSocket, sync::Mutex};
use warp::{Filter, Rejection, Reply, http::StatusCode, reply};

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
    let secret = development_key::jwt_secret("warp-app")?;
    let key = JwtKey::secret(Algorithm::HS256, secret); // <--
    let authenticator = JwtAuthenticator::builder().key(key).build()?; // <--
    let relay = Relay::builder(authenticator).start().await?; // <--
    let school = School { relay: relay.clone(), first: Arc::default() };
    tokio::spawn(watch(relay.events(), school.clone())); // <--

    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?; // <-- small messages leave at once
    socket.bind(address.parse()?)?;
    let listener = socket.listen(1024)?;
    tracing::info!("warp-app listening on http://{}", listener.local_addr()?);
    warp::serve(app(school))
        .incoming(listener)
        .graceful(async move {
            let _ = tokio::signal::ctrl_c().await;
            let _ = relay.shutdown(Duration::from_secs(10)).await; // <--
        })
        .run()
        .await;
    Ok(())
}

fn app(school: School) -> impl Filter<Extract: Reply, Error = Infallible> + Clone {
    let home = warp::path::end().and(warp::get()).map(|| "Welcome to our school.");
    let signaling = signaling_warp::endpoint(school.relay.clone()); // <--
    let lessons = warp::path!("lessons" / SessionId / "join")
        .and(warp::post())
        .and(signed_in(school.relay.clone()))
        .and_then(move |lesson, user| join(school.clone(), lesson, user));
    home.or(lessons).or(signaling).recover(refuse)
}

/// Lets nobody pass who is not signed in.
fn signed_in(relay: Relay) -> impl Filter<Extract = (UserId,), Error = Rejection> + Clone {
    warp::header::optional("authorization").and_then(move |header: Option<String>| {
        let relay = relay.clone();
        async move {
            let token = header.as_deref().and_then(|value| value.strip_prefix("Bearer "));
            let credentials = token.map_or_else(Credentials::none, Credentials::bearer);
            let identity = relay.authenticate(&credentials).await; // <-- or as you do already
            identity.map(|one| one.user).map_err(|_| refused(StatusCode::UNAUTHORIZED))
        }
    })
}

/// Joining again changes nothing.
async fn join(school: School, lesson: SessionId, user: UserId) -> Result<impl Reply, Rejection> {
    let mut lessons = school.first.lock().await;
    let first = lessons.entry(lesson.clone()).or_insert(user.clone()).clone();
    drop(lessons);
    if first == user {
        return Ok(reply::with_status(
            reply::json(&json!({"status": "joined"})),
            StatusCode::ACCEPTED,
        ));
    }
    // <-- Both get `match-found`, now or when they connect.
    match school.relay.open(NewSession::between(&first, &user).id(&lesson)).await {
        Ok(_) => Ok(reply::with_status(reply::json(&json!({"status": "matched"})), StatusCode::OK)),
        Err(OpenError::Conflict) => Err(refused(StatusCode::CONFLICT)),
        Err(error) => {
            tracing::warn!(error = &error as &dyn Error, "lesson not opened");
            Err(refused(StatusCode::SERVICE_UNAVAILABLE))
        }
    }
}

#[derive(Debug)]
struct Refused(StatusCode);

impl warp::reject::Reject for Refused {}

fn refused(status: StatusCode) -> Rejection {
    warp::reject::custom(Refused(status))
}

async fn refuse(rejection: Rejection) -> Result<impl Reply, Infallible> {
    let refused = rejection.find().map(|Refused(status)| *status);
    Ok(refused.unwrap_or(StatusCode::NOT_FOUND))
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
