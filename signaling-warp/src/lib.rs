//! WebRTC signaling as one filter of a warp application.
//!
//! [`endpoint`] is `GET /ws/signaling`; [`socket`] is the same for any path. Both take a
//! [`Relay`](signaling_core::Relay), which does all the work, or an [`Endpoint`] of it with options,
//! and combine with other filters as usual.
//!
//! ```no_run
//! use signaling_core::{Relay, jwt::{Algorithm, JwtAuthenticator, JwtKey}};
//! use tokio::net::TcpSocket;
//! use warp::Filter;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let key = JwtKey::secret(Algorithm::HS256, std::env::var("JWT_SECRET")?);
//! let relay = Relay::builder(JwtAuthenticator::builder().key(key).build()?).start().await?;
//!
//! let home = warp::path::end().map(|| "hello");
//! let routes = home.or(signaling_warp::endpoint(relay.clone()));
//! let socket = TcpSocket::new_v4()?;
//! socket.set_reuseaddr(true)?;
//! socket.set_nodelay(true)?;
//! socket.bind("127.0.0.1:8080".parse()?)?;
//! warp::serve(routes).incoming(socket.listen(1024)?).run().await;
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
//! # Rejections
//!
//! A request for another path is rejected as not found, so that the next filter is tried. For its
//! own path the filter always has a reply, also where it refuses: nothing of it gets to the
//! application's `recover`, and no filter behind it is tried.
//!
//! # In production
//!
//! - **Set `TCP_NODELAY`** on the listening socket, as above: on Linux and the BSDs, accepted
//!   sockets have it from there. Without it each small exchange may wait 40 ms for a delayed
//!   acknowledgement.
//! - **Origins**: where tokens can be had by cookie, name your own pages with
//!   [`Endpoint::allowed_origins`]. warp's `cors` filter does not apply to WebSockets.
//! - **Memory**: an idle connection takes 6 KiB, the relay's share included; with `warp::ws`
//!   it would take 130 KiB. [`Endpoint::buffer_sizes`] says what a busy one may keep.
//! - **Shutting down**: warp's graceful shutdown does not know of connections that were upgraded, and
//!   returns while they run. Shut down the relay first, and then the server: clients get close code
//!   1001 and look for another node, and [`Relay::is_ready`](signaling_core::Relay::is_ready) says no
//!   to the load balancer meanwhile.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use warp::{Filter, Reply};
//! # async fn run<F>(relay: signaling_core::Relay, listener: tokio::net::TcpListener, routes: F)
//! # where F: Filter<Extract: Reply, Error = warp::Rejection> + Clone + Send + Sync + 'static {
//! warp::serve(routes)
//!     .incoming(listener)
//!     .graceful(async move {
//!         let _ = tokio::signal::ctrl_c().await;
//!         let _ = relay.shutdown(Duration::from_secs(10)).await;
//!     })
//!     .run()
//!     .await;
//! # }
//! ```

use std::convert::Infallible;

use hyper::upgrade::OnUpgrade;
use warp::{
    Filter, Reply,
    filters::BoxedFilter,
    http::{self, HeaderMap, Method, Request, StatusCode, request::Parts},
    path::FullPath,
    reply::Response,
};

pub use signaling_core::websocket::{Endpoint, OnInvalidToken, PATH};

/// The signaling endpoint at [`PATH`]: of a [`Relay`](signaling_core::Relay), or an [`Endpoint`]
/// with options.
pub fn endpoint(endpoint: impl Into<Endpoint>) -> BoxedFilter<(Response,)> {
    warp::path!("ws" / "signaling").and(socket(endpoint)).boxed()
}

/// The same for a path of the application's choice: a request whose path has more than what the
/// filters before it took is rejected as not found.
///
/// ```no_run
/// # use warp::Filter;
/// # fn example(relay: signaling_core::Relay) {
/// let endpoint = signaling_warp::Endpoint::new(relay).allowed_origins(["https://app.example"]);
/// let route = warp::path!("lessons" / "signaling").and(signaling_warp::socket(endpoint));
/// # }
/// ```
pub fn socket(endpoint: impl Into<Endpoint>) -> BoxedFilter<(Response,)> {
    let endpoint = endpoint.into();
    warp::path::end()
        .and(warp::method())
        .and(warp::path::full())
        .and(query())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional())
        .then(move |method, path, query, headers, on_upgrade| {
            let head = head(method, &path, query, headers, on_upgrade);
            let endpoint = endpoint.clone();
            async move {
                match head {
                    Ok(head) => endpoint.answer(head).await.into_response(),
                    Err(_) => StatusCode::BAD_REQUEST.into_response(),
                }
            }
        })
        .boxed()
}

/// The query as it came; none where there is none, which warp would reject.
fn query() -> impl Filter<Extract = (Option<String>,), Error = Infallible> + Copy {
    warp::query::raw().map(Some).or_else(async |_| Ok((None,)))
}

/// The head of a request as hyper had it. What is missing is the version: hyper has an upgrade for
/// requests of HTTP/1.1 only.
fn head(
    method: Method,
    path: &FullPath,
    query: Option<String>,
    headers: HeaderMap,
    on_upgrade: Option<OnUpgrade>,
) -> http::Result<Parts> {
    let mut target = path.as_str().to_owned();
    if let Some(query) = query {
        target.push('?');
        target.push_str(&query);
    }
    let (mut head, ()) = Request::builder().method(method).uri(target).body(())?.into_parts();
    head.headers = headers;
    if let Some(on_upgrade) = on_upgrade {
        head.extensions.insert(on_upgrade);
    }
    Ok(head)
}
