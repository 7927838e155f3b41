//! WebRTC signaling as one route of an axum application.
//!
//! [`router`] adds `GET /ws/signaling` to an application; [`endpoint`] is the same for any path.
//! Both take a [`Relay`](signaling_core::Relay), which does all the work, or an [`Endpoint`] of it
//! with options, and both fit any state type, beneath nested routers and middleware.
//!
//! ```no_run
//! use axum::{Router, routing::get, serve::ListenerExt};
//! use signaling_core::{Relay, jwt::{Algorithm, JwtAuthenticator, JwtKey}};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let key = JwtKey::secret(Algorithm::HS256, std::env::var("JWT_SECRET")?);
//! let relay = Relay::builder(JwtAuthenticator::builder().key(key).build()?).start().await?;
//!
//! let app = Router::new()
//!     .route("/", get(|| async { "hello" }))
//!     .merge(signaling_axum::router(relay.clone()));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?.tap_io(|socket| {
//!     let _ = socket.set_nodelay(true);
//! });
//! axum::serve(listener, app).await?;
//! # Ok(()) }
//! ```
//!
//! Keep a clone of the relay: `relay.open_session(&first, &second)` is how two users who were
//! matched learn of each other.
//!
//! A client brings its token as `?token=<jwt>`, as `Sec-WebSocket-Protocol: signaling.v1,
//! bearer.<jwt>`, or as `Authorization: Bearer <jwt>`; one that is not accepted gets close code 4401
//! right after the upgrade. [`signaling_core::websocket`] has the details and the reasons.
//!
//! # In production
//!
//! - **Set `TCP_NODELAY`** on accepted sockets, as above with
//!   [`tap_io`](axum::serve::ListenerExt::tap_io). Without it each small exchange may wait 40 ms for
//!   a delayed acknowledgement.
//! - **Origins**: where tokens can be had by cookie, name your own pages with
//!   [`Endpoint::allowed_origins`].
//! - **Memory**: an idle connection takes 6 KiB, the relay's share included; with the
//!   WebSocket library's own defaults it would take 130 KiB. [`Endpoint::buffer_sizes`] says what a
//!   busy one may keep.
//! - **Shutting down**: axum's graceful shutdown does not know of connections that were upgraded, and
//!   returns while they run. Shut down the relay first, and then the server: clients get close code
//!   1001 and look for another node, and [`Relay::is_ready`](signaling_core::Relay::is_ready) says no
//!   to the load balancer meanwhile.
//!
//! ```no_run
//! # use std::time::Duration;
//! # async fn run(relay: signaling_core::Relay, listener: tokio::net::TcpListener, app: axum::Router)
//! # -> std::io::Result<()> {
//! axum::serve(listener, app)
//!     .with_graceful_shutdown(async move {
//!         let _ = tokio::signal::ctrl_c().await;
//!         let _ = relay.shutdown(Duration::from_secs(10)).await;
//!     })
//!     .await
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

use axum::{
    Router,
    body::Body,
    extract::Request,
    routing::{MethodRouter, any},
};

pub use signaling_core::websocket::{Endpoint, OnInvalidToken, PATH};

/// A router with the signaling endpoint at [`PATH`], to merge or nest into an application's: of a
/// [`Relay`](signaling_core::Relay), or an [`Endpoint`] with options.
pub fn router<S>(endpoint: impl Into<Endpoint>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    Router::new().route(PATH, self::endpoint(endpoint))
}

/// The same for a path of the application's choice.
///
/// ```no_run
/// # async fn example(relay: signaling_core::Relay) -> axum::Router {
/// let endpoint = signaling_axum::Endpoint::new(relay).allowed_origins(["https://app.example"]);
/// axum::Router::new().route("/lessons/signaling", signaling_axum::endpoint(endpoint))
/// # }
/// ```
pub fn endpoint<S>(endpoint: impl Into<Endpoint>) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let endpoint = endpoint.into();
    // Any method: the endpoint refuses the others itself.
    any(move |request: Request| async move {
        let (head, _) = request.into_parts();
        endpoint.answer(head).await.map(Body::from)
    })
}

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
