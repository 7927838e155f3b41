//! The endpoint and its options.

use std::convert::Infallible;

use hyper::upgrade::OnUpgrade;
use signaling_core::{Relay, websocket};
use warp::{
    Filter, Reply,
    filters::BoxedFilter,
    http::{self, HeaderMap, Method, Request, StatusCode, request::Parts},
    path::FullPath,
    reply::Response,
};

use crate::OnInvalidToken;

/// The signaling endpoint with its options.
///
/// ```no_run
/// # use warp::Filter;
/// # fn example(relay: signaling_core::Relay) {
/// let endpoint = signaling_warp::Endpoint::new(relay).allowed_origins(["https://app.example"]);
/// let route = warp::path!("lessons" / "signaling").and(endpoint.filter());
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

    /// For a path of the application's choice: a request whose path has more than what the filters
    /// before it took is rejected as not found.
    #[must_use]
    pub fn filter(self) -> BoxedFilter<(Response,)> {
        warp::path::end()
            .and(warp::method())
            .and(warp::path::full())
            .and(query())
            .and(warp::header::headers_cloned())
            .and(warp::ext::optional())
            .then(move |method, path, query, headers, on_upgrade| {
                let head = head(method, &path, query, headers, on_upgrade);
                let endpoint = self.0.clone();
                async move {
                    match head {
                        Ok(head) => endpoint.answer(head).await.into_response(),
                        Err(_) => StatusCode::BAD_REQUEST.into_response(),
                    }
                }
            })
            .boxed()
    }

    /// At [`PATH`](crate::PATH).
    #[must_use]
    pub fn route(self) -> BoxedFilter<(Response,)> {
        warp::path!("ws" / "signaling").and(self.filter()).boxed()
    }
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
