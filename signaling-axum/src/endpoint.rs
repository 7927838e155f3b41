//! The endpoint and its options.

use axum::{
    Router,
    body::Body,
    extract::Request,
    routing::{MethodRouter, any},
};
use signaling_core::{Relay, websocket};

use crate::{OnInvalidToken, PATH};

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
pub struct Endpoint(websocket::Endpoint);

impl Endpoint {
    /// What a socket's read buffer starts with unless set, in bytes.
    pub const DEFAULT_READ_BUFFER_BYTES: usize = websocket::Endpoint::DEFAULT_READ_BUFFER_BYTES;
    /// How much is gathered before it is written unless set, in bytes.
    pub const DEFAULT_WRITE_BUFFER_BYTES: usize = websocket::Endpoint::DEFAULT_WRITE_BUFFER_BYTES;

    /// The endpoint of `relay`, with the defaults.
    pub fn new(relay: Relay) -> Self {
        Self(websocket::Endpoint::new(relay))
    }

    /// Refuses browsers on pages of other origins, with HTTP status 403 before the upgrade; see
    /// [`websocket::Endpoint::allowed_origins`]. Default: pages of all origins may connect.
    pub fn allowed_origins<I>(self, origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self(self.0.allowed_origins(origins))
    }

    /// What a token that is not accepted gets. Default: [`OnInvalidToken::Close`].
    pub fn on_invalid_token(self, on_invalid_token: OnInvalidToken) -> Self {
        Self(self.0.on_invalid_token(on_invalid_token))
    }

    /// The sizes of a socket's buffers, in bytes; see [`websocket::Endpoint::buffer_sizes`].
    /// Default: [`Self::DEFAULT_READ_BUFFER_BYTES`] and [`Self::DEFAULT_WRITE_BUFFER_BYTES`].
    pub fn buffer_sizes(self, read: usize, write: usize) -> Self {
        Self(self.0.buffer_sizes(read, write))
    }

    /// For a path of the application's choice.
    pub fn into_method_router<S>(self) -> MethodRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        // Any method: the endpoint refuses the others itself.
        any(move |request: Request| async move {
            let (head, _) = request.into_parts();
            self.0.answer(head).await.map(Body::from)
        })
    }

    /// A router with the endpoint at [`PATH`].
    pub fn into_router<S>(self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        Router::new().route(PATH, self.into_method_router())
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
