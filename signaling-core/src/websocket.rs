//! The endpoint over WebSocket: what the adapters to web frameworks share (feature `websocket`).
//!
//! An [`Endpoint`] answers the request that opens a WebSocket, and from then on its connection is
//! the relay's. A framework on hyper 1 needs an adapter of a few lines: the route, and the head of
//! its request. This is the whole of one for hyper itself:
//!
//! ```
//! use std::convert::Infallible;
//! use http_body_util::Full;
//! use hyper::{Request, Response, body::{Bytes, Incoming}};
//! use signaling_core::websocket::{Endpoint, PATH};
//!
//! async fn handle(
//!     endpoint: Endpoint,
//!     request: Request<Incoming>,
//! ) -> Result<Response<Full<Bytes>>, Infallible> {
//!     if request.uri().path() != PATH {
//!         return Ok(Response::builder().status(404).body(Full::default()).expect("a status"));
//!     }
//!     let (head, _) = request.into_parts();
//!     Ok(endpoint.answer(head).await.map(Full::from))
//! }
//! ```
//!
//! An adapter to anything else takes [`accept`], [`credentials`] and [`continuing`] for the request, and gives
//! [`Relay::serve`] a stream and sink of frames. Every adapter passes the suite in
//! `testing::endpoint`.
//!
//! # How a client brings its token
//!
//! | where | for |
//! | --- | --- |
//! | `?token=<jwt>`, percent-encoded | browsers |
//! | `Sec-WebSocket-Protocol: signaling.v1, bearer.<jwt>` | browsers, where addresses are logged |
//! | `Authorization: Bearer <jwt>` | everyone else |
//!
//! The first of these that is there counts, in this order, and the others are not looked at: a
//! header may have been added on the way by a proxy for purposes of its own, the other two are
//! meant for this endpoint. An empty one is not there. Of the subprotocols `signaling.v1` alone is
//! ever answered, when it was offered.
//!
//! A client that offers `signaling.v1` continues its negotiations by `?continue=…`; see [`continuing`].
//!
//! A token that is not accepted gets close code 4401 right after the upgrade, since a browser cannot
//! see the status of a refused one; see [`OnInvalidToken`] for plain HTTP. Tokens appear in no log
//! and no error of this module; a proxy that logs whole addresses logs those in the query.
//!
//! # In production
//!
//! - **Set `TCP_NODELAY`** on accepted sockets. Without it each small exchange may wait 40 ms for a
//!   delayed acknowledgement.
//! - **Fairness**: with hundreds of busy pairs on one worker thread of tokio's, some messages wait
//!   for long. With 512 pairs on one core the slowest hundredth took 70 ms by the defaults of
//!   `tokio::runtime::Builder`, and 20 ms with a `global_queue_interval` of 4 and an `event_interval`
//!   of 31.
//! - **Origins**: any web page may open a WebSocket to any server. Its token protects the endpoint;
//!   where tokens can be had by cookie, name your own pages with [`Endpoint::allowed_origins`].
//! - **Shutting down**: a server's graceful shutdown does not know of connections that were
//!   upgraded, and returns while they run. Shut down the relay first, and then the server: clients
//!   get close code 1001 and look for another node, and [`Relay::is_ready`] says no to the load
//!   balancer meanwhile.
//! - **HTTP/1.1** is what a WebSocket is opened over. Those over HTTP/2 (RFC 8441) are refused; a
//!   browser asks for one only where the server has announced them.

mod credentials;
mod handshake;
mod read_ahead;
mod transport;

use std::{collections::HashSet, sync::Arc};

use http::{HeaderMap, Request, StatusCode, header::ORIGIN, request::Parts};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::{
    auth::{AuthError, Client},
    frame::CloseCode,
    relay::{Relay, caught},
};
use transport::Transport;

pub use credentials::{MAX_CONTINUING, continuing, credentials};
pub use handshake::{Answer, accept};

/// Where the endpoint is, unless its host says otherwise.
pub const PATH: &str = "/ws/signaling";

/// What a client gets whose token is missing, invalid or expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnInvalidToken {
    /// The upgrade, and close code 4401 at once; 4503 when the
    /// [`Authenticator`](crate::auth::Authenticator) is unavailable. The default: a browser tells
    /// its page the close code, but not the status of a refused upgrade.
    #[default]
    Close,
    /// HTTP status 401 and no upgrade; 503 when the authenticator is unavailable.
    HttpStatus,
}

/// The signaling endpoint with its options, for whatever takes the requests. Cheap to clone.
#[derive(Debug, Clone)]
#[must_use]
pub struct Endpoint {
    relay: Relay,
    allowed_origins: Option<Arc<HashSet<String>>>,
    on_invalid_token: OnInvalidToken,
    read_buffer: usize,
    write_buffer: usize,
}

impl From<Relay> for Endpoint {
    fn from(relay: Relay) -> Self {
        Self::new(relay)
    }
}

impl Endpoint {
    /// What a socket's read buffer starts with unless set, in bytes: 1 KiB. Nearly every message
    /// but a session description fits.
    pub const DEFAULT_READ_BUFFER_BYTES: usize = 1024;
    /// How much is gathered before it is written unless set, in bytes: 4 KiB, a burst of
    /// candidates. A connection to which less is written takes less.
    pub const DEFAULT_WRITE_BUFFER_BYTES: usize = 4 * 1024;

    /// The endpoint of `relay`, with the defaults.
    pub fn new(relay: Relay) -> Self {
        Self {
            relay,
            allowed_origins: None,
            on_invalid_token: OnInvalidToken::default(),
            read_buffer: Self::DEFAULT_READ_BUFFER_BYTES,
            write_buffer: Self::DEFAULT_WRITE_BUFFER_BYTES,
        }
    }

    /// Refuses browsers on pages of other origins, with HTTP status 403 before the upgrade.
    /// Default: pages of all origins may connect.
    ///
    /// An origin is compared as a whole with the `Origin` header (RFC 6454, section 7), so it is
    /// written as browsers send it: `https://app.example`, a name beyond ASCII as `xn--…`. Upper
    /// case, the scheme's own port and a slash at the end are taken away (section 6.2). A request
    /// without that header comes from no browser, and passes.
    pub fn allowed_origins<I>(mut self, origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let origins = origins.into_iter().map(|origin| as_browsers_send_it(&origin.into()));
        self.allowed_origins = Some(Arc::new(origins.collect()));
        self
    }

    /// What a token that is not accepted gets. Default: [`OnInvalidToken::Close`].
    pub fn on_invalid_token(mut self, on_invalid_token: OnInvalidToken) -> Self {
        self.on_invalid_token = on_invalid_token;
        self
    }

    /// The sizes of a socket's buffers, in bytes. Default: [`Self::DEFAULT_READ_BUFFER_BYTES`] and
    /// [`Self::DEFAULT_WRITE_BUFFER_BYTES`].
    ///
    /// `read` is had from the start, up to `write` is gathered before it is written. A smaller `read`
    /// saves memory, at no more system calls, since up to 8 KiB are read at a time whatever it is; a
    /// larger `write` saves system calls. Both grow to the largest message that passed, and do not
    /// shrink.
    pub fn buffer_sizes(mut self, read: usize, write: usize) -> Self {
        self.read_buffer = read;
        self.write_buffer = write;
        self
    }

    /// Answers the request with this head: accepts the upgrade and has its connection served by a
    /// task of its own, or refuses with a short text.
    ///
    /// The head's extensions must have hyper's [`OnUpgrade`], as those of a request that hyper
    /// received do. Must be called within the tokio runtime that is to serve the connection.
    /// Dropping the future midway refuses the connection without an answer.
    pub async fn answer(&self, head: Parts) -> Answer {
        let mut request = Request::from_parts(head, ());
        if !self.allows_origin_of(request.headers()) {
            return handshake::refusal(StatusCode::FORBIDDEN, "origin not allowed");
        }
        let (answer, dialect) = match accept(&request) {
            Ok(accepted) => accepted,
            Err(refusal) => return *refusal,
        };
        let Some(on_upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
            return handshake::no_upgrade("this connection cannot become a WebSocket");
        };
        let credentials = credentials(request.uri().query(), request.headers());
        let admitted = match self.relay.authenticate(&credentials).await {
            Ok(identity) => {
                let continuing = continuing(request.uri().query());
                Ok(Client::new(identity).speaking(dialect).continuing(continuing))
            }
            Err(error) if self.on_invalid_token == OnInvalidToken::HttpStatus => {
                return handshake::unauthorized(&error);
            }
            Err(AuthError::Unavailable(_)) => Err(CloseCode::Unavailable),
            Err(_) => Err(CloseCode::Unauthorized),
        };
        tokio::spawn(self.clone().serve(on_upgrade, admitted));
        answer
    }

    fn allows_origin_of(&self, headers: &HeaderMap) -> bool {
        self.allowed_origins.as_ref().is_none_or(|allowed| {
            headers
                .get_all(ORIGIN)
                .iter()
                .all(|origin| origin.to_str().is_ok_and(|origin| allowed.contains(origin)))
        })
    }

    fn sockets(&self) -> WebSocketConfig {
        let max = Some(self.relay.config().max_frame_bytes);
        WebSocketConfig::default()
            .max_frame_size(max)
            .max_message_size(max)
            .read_buffer_size(self.read_buffer)
            .write_buffer_size(self.write_buffer)
    }

    /// One connection, to its end. The relay bounds every wait but the upgrade itself, which ends
    /// with the connection of the request.
    async fn serve(self, on_upgrade: OnUpgrade, admitted: Result<Client, CloseCode>) {
        let upgraded = match on_upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "upgrade failed");
                return;
            }
        };
        // Lent to the relay: it would take room for each place that it moves through.
        let mut transport = Transport::new(upgraded, self.sockets()).await;
        match admitted {
            Ok(client) => {
                if caught(self.relay.serve(&mut transport, client)).await.is_err() {
                    tracing::error!("serving a connection panicked; closing it");
                    self.relay.refuse(&mut transport, CloseCode::Internal).await;
                }
            }
            Err(code) => self.relay.refuse(&mut transport, code).await,
        }
    }
}

fn as_browsers_send_it(origin: &str) -> String {
    let origin = origin.strip_suffix('/').unwrap_or(origin).to_ascii_lowercase();
    let ports = [("https://", ":443"), ("http://", ":80")];
    let own_port = ports.iter().find(|(scheme, _)| origin.starts_with(scheme));
    match own_port.and_then(|(_, port)| origin.strip_suffix(port)) {
        Some(without) => without.to_owned(),
        None => origin,
    }
}
