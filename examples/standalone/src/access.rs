//! Each request has an id, which is answered in `x-request-id` and is in all log lines about it, and each
//! request of the API has a line in the log. Neither holds a query, a header or a body, where tokens and keys are.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::Instant;
use tracing::Instrument;

use crate::{contain::contained, error::ApiError, secret::random_hex};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a request, in bytes.
const MAX_ID: usize = 128;
/// What is logged of a path, in characters. It is longer only where it leads nowhere.
const MAX_PATH: usize = 512;

/// Runs the request under its id, and logs it when it is one of the API.
pub(crate) async fn log(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let span = tracing::info_span!("request", request = %id);
    let path = request.uri().path();
    let line = (path == "/api" || path.starts_with("/api/"))
        .then(|| Line::new(id.clone(), request.method().clone(), path));
    let response = contained(next.run(request)).instrument(span).await;
    let mut response = response.unwrap_or_else(|| ApiError::internal().into_response());
    if let Some(mut line) = line {
        line.status = Some(response.status().as_u16());
    }
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The request's own id where it can be used as it is, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let mut given = headers.get_all(REQUEST_ID).iter();
    let id = match (given.next(), given.next()) {
        (Some(only), None) => only.to_str().ok().filter(|id| is_sane(id)).map(str::to_owned),
        _ => None,
    };
    // Without randomness there is no id, and the request is served all the same.
    id.unwrap_or_else(|| random_hex::<8>().unwrap_or_else(|_| "none".to_owned()))
}

fn is_sane(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-+/=".contains(&byte);
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(allowed)
}

/// The log line of a request: written when it is answered, or its client has gone before that.
struct Line {
    id: String,
    method: Method,
    path: String,
    start: Instant,
    status: Option<u16>,
}

impl Line {
    fn new(id: String, method: Method, path: &str) -> Self {
        let path = path.chars().take(MAX_PATH).collect();
        Self { id, method, path, start: Instant::now(), status: None }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Self { id, method, path, start, status } = self;
        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        match status {
            Some(status) => {
                tracing::info!(request = %id, %method, path, status, duration_ms, "API request");
            }
            None => {
                tracing::info!(request = %id, %method, path, duration_ms, "API request given up by its client");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(given: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for id in given {
            headers.append(REQUEST_ID, HeaderValue::try_from(*id).unwrap());
        }
        request_id(&headers)
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        let long = "x".repeat(MAX_ID);
        for good in ["1", "8f14e45f-ceea-467f-a1b2-c3d4e5f60718", "Root=1-67891233-abcdef", &long] {
            assert_eq!(id_of(&[good]), good);
        }
        let longer = "x".repeat(MAX_ID + 1);
        for bad in
            [&[""][..], &["a b"], &["a\tb"], &["\"a\""], &["ä"], &[&longer], &["a", "b"], &[]]
        {
            let id = id_of(bad);
            assert!(!bad.contains(&id.as_str()) && is_sane(&id), "{bad:?}");
            assert_ne!(id, id_of(bad), "each is new");
        }
    }
}
