//! The endpoint suite, against this adapter inside a host application.
#![allow(clippy::unwrap_used, reason = "tests")]

use axum::{Router, routing::get, serve::ListenerExt};
use signaling_axum::OnInvalidToken;
use signaling_core::testing::endpoint::{Endpoint, Hosted, PANIC, Setup, Unsupported};
use tokio::net::TcpListener;

#[derive(Debug, Clone)]
struct App;

async fn start(setup: Setup) -> Result<Box<dyn Endpoint>, Unsupported> {
    let relay = setup.relay().await;
    let mut endpoint = signaling_axum::Endpoint::new(relay.clone());
    if let Some(origins) = setup.allowed_origins {
        endpoint = endpoint.allowed_origins(origins);
    }
    if setup.status_for_bad_tokens {
        endpoint = endpoint.on_invalid_token(OnInvalidToken::HttpStatus);
    }
    let mut signaling = endpoint.into_router();
    let mut path = "/ws/signaling".to_owned();
    if let Some(prefix) = setup.prefix {
        signaling = Router::new().nest(&format!("/{prefix}"), signaling);
        path = format!("/{prefix}{path}");
    }
    let app = Router::new()
        .route("/", get(async || "a page of the host's"))
        .route("/panic", get(panics))
        .merge(signaling)
        .with_state(App);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}{path}", listener.local_addr().unwrap());
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(Box::new(Hosted::new(relay, url).panicking_at("/panic")))
}

async fn panics() {
    panic!("{PANIC}");
}

signaling_core::endpoint_tests!(start);
