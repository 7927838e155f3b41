//! WebRTC signaling as one filter of a warp application.
//!
//! [`endpoint`] is `GET /ws/signaling`; [`socket`] is the same for any path. Both take a [`Relay`],
//! which does all the work, and combine with other filters as usual. [`Endpoint`] has the options.
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
//! - **Memory**: an idle connection takes about 6 KiB, the relay's share included; with `warp::ws`
//!   it would take 130 KiB. [`Endpoint::buffer_sizes`] says what a busy one may keep.
//! - **Shutting down**: warp's graceful shutdown does not know of connections that were upgraded, and
//!   returns while they run. Shut down the relay first, and then the server: clients get close code
//!   1001 and look for another node, and [`Relay::is_ready`] says no to the load balancer meanwhile.
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

mod endpoint;

use signaling_core::Relay;
use warp::{filters::BoxedFilter, reply::Response};

pub use endpoint::Endpoint;
pub use signaling_core::websocket::{OnInvalidToken, PATH};

/// The signaling endpoint at [`PATH`].
#[must_use]
pub fn endpoint(relay: Relay) -> BoxedFilter<(Response,)> {
    Endpoint::new(relay).route()
}

/// The signaling endpoint, for a path of the application's choice.
#[must_use]
pub fn socket(relay: Relay) -> BoxedFilter<(Response,)> {
    Endpoint::new(relay).filter()
}
