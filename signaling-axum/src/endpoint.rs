//! The endpoint and its options.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Extension, Router,
    extract::{RawQuery, State, ws::WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
            UPGRADE, WWW_AUTHENTICATE,
        },
    },
    response::{IntoResponse, Response},
    routing::{MethodRouter, any},
};
use hyper::upgrade::OnUpgrade;
use signaling_core::{
    Relay,
    auth::{AuthError, Client},
    frame::CloseCode,
    protocol::Dialect,
};
use tokio_tungstenite::tungstenite::{handshake::derive_accept_key, protocol::WebSocketConfig};

use crate::{PATH, credentials::credentials, transport::Transport};

/// What a client gets whose token is missing, invalid or expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnInvalidToken {
    /// The upgrade, and close code 4401 at once; 4503 when the
    /// [`Authenticator`](signaling_core::auth::Authenticator) is unavailable. The default: a browser
    /// tells its page the close code, but not the status of a refused upgrade.
    #[default]
    Close,
    /// HTTP status 401 and no upgrade; 503 when the authenticator is unavailable.
    HttpStatus,
}

/// The signaling endpoint with its options.
///
/// ```no_run
/// # async fn example(relay: signaling_core::Relay) -> axum::Router {
/// let endpoint = signaling_axum::Endpoint::new(relay).allowed_origins(["https://app.example"]);
/// axum::Router::new().route("/lessons/signaling", endpoint.into_method_router())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Endpoint {
    relay: Relay,
    allowed_origins: Option<HashSet<String>>,
    on_invalid_token: OnInvalidToken,
    read_buffer: usize,
    write_buffer: usize,
}

impl Endpoint {
    /// What a socket's read and write buffers start with unless set, in bytes: 4 KiB each, of
    /// which nearly every message but a session description needs a fraction.
    pub const DEFAULT_BUFFER_BYTES: usize = 4 * 1024;

    /// The endpoint of `relay`, with the defaults.
    pub fn new(relay: Relay) -> Self {
        Self {
            relay,
            allowed_origins: None,
            on_invalid_token: OnInvalidToken::default(),
            read_buffer: Self::DEFAULT_BUFFER_BYTES,
            write_buffer: Self::DEFAULT_BUFFER_BYTES,
        }
    }

    /// Refuses browsers on pages of other origins, with HTTP status 403 before the upgrade.
    /// Default: pages of all origins may connect.
    ///
    /// An origin is compared as a whole with the `Origin` header (RFC 6454, 7), so it is written as
    /// browsers send it: `https://app.example`, with a port only where it is not the scheme's own,
    /// and no slash at the end. A request without that header comes from no browser, and passes.
    pub fn allowed_origins<I>(mut self, origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.allowed_origins = Some(origins.into_iter().map(Into::into).collect());
        self
    }

    /// What a token that is not accepted gets. Default: [`OnInvalidToken::Close`].
    pub fn on_invalid_token(mut self, on_invalid_token: OnInvalidToken) -> Self {
        self.on_invalid_token = on_invalid_token;
        self
    }

    /// What a socket's buffers start with, in bytes. Default: [`Self::DEFAULT_BUFFER_BYTES`] each.
    ///
    /// They grow with larger messages and never shrink: smaller ones save memory, larger ones
    /// save system calls.
    pub fn buffer_sizes(mut self, read: usize, write: usize) -> Self {
        self.read_buffer = read;
        self.write_buffer = write;
        self
    }

    /// For a path of the application's choice.
    pub fn into_method_router<S>(self) -> MethodRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        // Any method: a WebSocket over HTTP/2 starts with CONNECT. The upgrade refuses the others.
        any(connect).with_state(Arc::new(self))
    }

    /// A router with the endpoint at [`PATH`].
    pub fn into_router<S>(self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        Router::new().route(PATH, self.into_method_router())
    }

    fn allows_origin_of(&self, headers: &HeaderMap) -> bool {
        self.allowed_origins.as_ref().is_none_or(|allowed| {
            headers
                .get_all(ORIGIN)
                .iter()
                .all(|origin| origin.to_str().is_ok_and(|origin| allowed.contains(origin)))
        })
    }
}

impl<S> From<Endpoint> for MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    fn from(endpoint: Endpoint) -> Self {
        endpoint.into_method_router()
    }
}

/// axum checks the request; the socket is taken from hyper, since axum's own WebSocket does not
/// give it out, and [`Transport`] must be able to end it well.
async fn connect(
    State(endpoint): State<Arc<Endpoint>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    on_upgrade: Option<Extension<OnUpgrade>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if !endpoint.allows_origin_of(&headers) {
        return (StatusCode::FORBIDDEN, "origin not allowed").into_response();
    }
    let (upgrade, on_upgrade) = match (upgrade, on_upgrade) {
        (Ok(upgrade), Some(Extension(on_upgrade))) => (upgrade, on_upgrade),
        (Err(rejection), _) => return rejection.into_response(),
        (Ok(_), None) => return StatusCode::UPGRADE_REQUIRED.into_response(),
    };
    let credentials = credentials(query.as_deref(), &headers);
    let upgrade = upgrade.protocols([Dialect::V1_SUBPROTOCOL]);
    let protocol = upgrade.selected_protocol();
    let dialect = if protocol.is_some() { Dialect::V1 } else { Dialect::Base };
    let admitted = match endpoint.relay.authenticate(&credentials).await {
        Ok(identity) => Ok(Client::new(identity).speaking(dialect)),
        Err(error) if endpoint.on_invalid_token == OnInvalidToken::HttpStatus => {
            return refusal(&error);
        }
        Err(AuthError::Unavailable(_)) => Err(CloseCode::Unavailable),
        Err(_) => Err(CloseCode::Unauthorized),
    };
    tokio::spawn(serve(endpoint, on_upgrade, admitted));

    let mut response = switching_protocols(headers.get(SEC_WEBSOCKET_KEY));
    if let Some(protocol) = protocol {
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    response
}

/// RFC 6455, 4.2.2; over HTTP/2 there is no key, and any success will do (RFC 8441, 5).
fn switching_protocols(key: Option<&HeaderValue>) -> Response {
    let Some(key) = key else {
        return StatusCode::OK.into_response();
    };
    let headers = [
        (CONNECTION, "upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes())),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// One connection, to its end. The relay bounds every wait but the upgrade itself, which ends with
/// the connection of the request.
async fn serve(
    endpoint: Arc<Endpoint>,
    on_upgrade: OnUpgrade,
    admitted: Result<Client, CloseCode>,
) {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "upgrade failed");
            return;
        }
    };
    let relay = &endpoint.relay;
    let max = Some(relay.config().max_frame_bytes);
    let config = WebSocketConfig::default()
        .max_frame_size(max)
        .max_message_size(max)
        .read_buffer_size(endpoint.read_buffer)
        .write_buffer_size(endpoint.write_buffer);
    let transport = Transport::new(upgraded, config).await;
    match admitted {
        Ok(client) => {
            relay.serve(transport, client).await;
        }
        Err(code) => relay.refuse(transport, code).await,
    }
}

fn refusal(error: &AuthError) -> Response {
    match error {
        AuthError::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "service unavailable").into_response()
        }
        // RFC 6750, 3.
        _ => (
            StatusCode::UNAUTHORIZED,
            [(WWW_AUTHENTICATE, "Bearer")],
            "token missing, invalid or expired",
        )
            .into_response(),
    }
}
