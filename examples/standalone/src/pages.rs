//! The demonstration page, with `--dev` only. It is part of the binary.

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware::map_response,
    response::Response,
    routing::get,
};

use crate::api::no_such_method;

/// The page gets nothing from anywhere else; the WebSocket is named because not every browser
/// counts it as the page's own origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     media-src 'self' blob:; connect-src 'self' ws://127.0.0.1:* ws://localhost:*; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("../../browser/index.html")),
    ("/demo.js", "text/javascript; charset=utf-8", include_str!("../../browser/demo.js")),
    ("/demo.css", "text/css; charset=utf-8", include_str!("../../browser/demo.css")),
    (
        "/signaling-client.js",
        "text/javascript; charset=utf-8",
        include_str!("../../browser/signaling-client.js"),
    ),
];

/// The page and what it loads.
pub(crate) fn router() -> Router {
    let mut router = Router::new();
    for (path, kind, text) in PAGES {
        let page = move || async move { ([(header::CONTENT_TYPE, kind)], text) };
        router = router.route(path, get(page));
    }
    router.method_not_allowed_fallback(no_such_method).layer(map_response(
        |mut response: Response| async {
            let policy = HeaderValue::from_static(POLICY);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            response
        },
    ))
}
