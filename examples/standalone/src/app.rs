//! All routes of the server in one router.

use std::{future::ready, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use signaling_axum::Endpoint;
use signaling_core::Relay;
use signaling_redis::Redis;
use tokio::time;

use crate::{
    access,
    api::{self, no_such_method, no_such_path},
    demo,
    error::ApiError,
    local_host::only_local_host,
    matchmaker::Matchmaker,
    pages,
    queue::{Bounds, LocalQueue, SharedQueue},
    settings::AppSettings,
};

/// The largest body that the API accepts: many times what it needs.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// The longest that a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The demonstration's queue forgets those without a connection, not those who wait for long.
const DEMO_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The router; must be made within the runtime. With Redis, all nodes share their queues.
pub(crate) fn router(relay: &Relay, redis: Option<&Redis>, settings: &AppSettings) -> Router {
    let mut endpoint = Endpoint::new(relay.clone());
    if !settings.allowed_origins.is_empty() {
        endpoint = endpoint.allowed_origins(settings.allowed_origins.clone());
    }
    let bounds = Bounds { capacity: settings.queue_capacity, patience: settings.queue_timeout };
    let matchmaker = start_matching(relay, redis, "api", bounds);
    let mut matchmakers = vec![matchmaker.clone()];
    let mut router = Router::new().route("/healthz", get(|| ready("ok"))).merge(api::router(
        relay.clone(),
        matchmaker,
        settings.queue_partners,
        settings.api_key.clone(),
    ));
    if let Some(signer) = settings.demo.clone() {
        let bounds = Bounds { patience: DEMO_PATIENCE, ..bounds };
        let matchmaker = start_matching(relay, redis, "demo", bounds);
        matchmakers.push(matchmaker.clone());
        router =
            router.merge(demo::router(relay.clone(), matchmaker, signer)).merge(pages::router());
    }
    let needed = Needed { relay: relay.clone(), matchmakers };
    let router = router
        .merge(Router::new().route("/readyz", get(readyz)).with_state(needed))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(limit_time))
        .layer(middleware::map_response(harden))
        .layer(middleware::from_fn(access::log))
        .merge(signaling_axum::router(endpoint));
    match settings.demo {
        Some(_) => router.layer(middleware::from_fn(only_local_host)),
        None => router,
    }
}

/// Matches those who wait in the queue `name`.
fn start_matching(relay: &Relay, redis: Option<&Redis>, name: &str, bounds: Bounds) -> Matchmaker {
    match redis {
        Some(redis) => {
            let node = relay.node_id().clone();
            let queue = SharedQueue::new(redis.clone(), name, node, bounds);
            Matchmaker::start(relay.clone(), queue)
        }
        None => Matchmaker::start(relay.clone(), LocalQueue::new(bounds)),
    }
}

/// What the node needs to serve.
#[derive(Debug, Clone)]
struct Needed {
    relay: Relay,
    matchmakers: Vec<Matchmaker>,
}

async fn readyz(State(needed): State<Needed>) -> Response {
    match needed.relay.is_ready() && needed.matchmakers.iter().all(Matchmaker::is_running) {
        true => "ok".into_response(),
        false => ApiError::unavailable("this server cannot serve now").into_response(),
    }
}

async fn limit_time(request: Request, next: Next) -> Response {
    match time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::timeout().into_response(),
    }
}

/// Answers are for the one who asked, now, and what they are called.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
