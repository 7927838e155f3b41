//! The opening handshake (RFC 6455, section 4.2): what is accepted, what is negotiated, and how
//! what is not accepted is refused.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        ALLOW, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
    },
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{auth::AuthError, protocol::Dialect};

/// What a request for the endpoint gets; the text is empty where it is accepted.
pub type Answer = Response<&'static str>;

/// The answer that accepts the upgrade, and what was negotiated. It looks at nothing but the
/// handshake: whether there is a connection to be upgraded is left to the caller.
///
/// # Errors
///
/// The answer that refuses a request which is no handshake (RFC 6455, section 4.2.1).
pub fn accept<B>(request: &Request<B>) -> Result<(Answer, Dialect), Box<Answer>> {
    let accept_key = check(request)?;
    let mut answer = Response::new("");
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept_key);
    if subprotocols(request.headers()).all(|protocol| protocol != Dialect::V1_SUBPROTOCOL) {
        return Ok((answer, Dialect::Base));
    }
    let protocol = HeaderValue::from_static(Dialect::V1_SUBPROTOCOL);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    Ok((answer, Dialect::V1))
}

/// The subprotocols that the client offers, in its order (RFC 6455, section 11.3.4).
pub(super) fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    list(headers, SEC_WEBSOCKET_PROTOCOL)
}

/// The elements of a list header: all its lines together, without optional whitespace and empty
/// elements (RFC 9110, sections 5.3 and 5.6.1.2). An element that is not ASCII is no token, and is
/// left out.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|element| str::from_utf8(element).ok().filter(|text| text.is_ascii()))
        .map(|element| element.trim_matches([' ', '\t']))
        .filter(|element| !element.is_empty())
}

/// The value of `Sec-WebSocket-Accept`, or the answer to what is no handshake.
fn check<B>(request: &Request<B>) -> Result<HeaderValue, Box<Answer>> {
    let headers = request.headers();
    if request.method() != Method::GET {
        let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET opens a WebSocket");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return Err(Box::new(answer));
    }
    let upgrades = list(headers, CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"));
    if request.version() < Version::HTTP_11
        || !upgrades
        || !list(headers, UPGRADE).any(is_websocket)
    {
        return Err(no_handshake());
    }
    // RFC 6455, section 4.4. It is sent once; a client that sent another version as well would not
    // know which one is spoken.
    let mut versions = list(headers, SEC_WEBSOCKET_VERSION).peekable();
    if versions.peek().is_none() || !versions.all(|version| version == VERSION) {
        let mut answer = no_upgrade("only WebSocket version 13 is spoken here");
        answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        return Err(Box::new(answer));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(no_handshake)?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| no_handshake())
}

const VERSION: &str = "13";

/// Whether an element of `Upgrade` names WebSocket. A protocol may have a version (RFC 9110,
/// section 7.8); that of WebSocket has a header of its own, and is commonly left out here.
fn is_websocket(protocol: &str) -> bool {
    let (name, version) = protocol.split_once('/').unwrap_or((protocol, VERSION));
    name.eq_ignore_ascii_case("websocket") && version == VERSION
}

fn no_handshake() -> Box<Answer> {
    Box::new(refusal(StatusCode::BAD_REQUEST, "this is not the handshake of a WebSocket"))
}

/// The connection would have to be another one (RFC 9110, section 15.5.22).
pub(super) fn no_upgrade(body: &'static str) -> Answer {
    let mut answer = refusal(StatusCode::UPGRADE_REQUIRED, body);
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer
}

pub(super) fn unauthorized(error: &AuthError) -> Answer {
    match error {
        AuthError::Unavailable(_) => {
            refusal(StatusCode::SERVICE_UNAVAILABLE, "service unavailable")
        }
        _ => {
            let body = "token missing, invalid or expired";
            let mut answer = refusal(StatusCode::UNAUTHORIZED, body);
            // RFC 6750, section 3.
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            answer
        }
    }
}

pub(super) fn refusal(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.3.
    fn handshake() -> Request<()> {
        Request::builder()
            .uri("/chat")
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap()
    }

    #[test]
    fn a_handshake_is_accepted() {
        let (answer, dialect) = accept(&handshake()).unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers().get(SEC_WEBSOCKET_PROTOCOL), None);
        assert_eq!(dialect, Dialect::Base);
    }

    #[test]
    fn a_list_header_is_all_its_lines_and_elements() {
        let mut headers = HeaderMap::new();
        for line in [&b" a ,\tb\t,, ,c"[..], b"", b",", b"d \t", b"\xff, e"] {
            headers.append(CONNECTION, HeaderValue::from_bytes(line).unwrap());
        }
        let found: Vec<_> = list(&headers, CONNECTION).collect();
        assert_eq!(found, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn of_the_subprotocols_only_our_own_is_answered() {
        for (offered, dialect) in [
            ("signaling.v1", Dialect::V1),
            ("chat, signaling.v1 ,bearer.x", Dialect::V1),
            ("chat, bearer.x", Dialect::Base),
            ("signaling.v2, Signaling.v1, signaling.v1x", Dialect::Base),
            ("", Dialect::Base),
        ] {
            let mut request = handshake();
            let value = HeaderValue::from_static(offered);
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
            let (answer, negotiated) = accept(&request).unwrap();
            assert_eq!(negotiated, dialect, "{offered}");
            let answered = answer.headers().get(SEC_WEBSOCKET_PROTOCOL).is_some();
            assert_eq!(answered, dialect == Dialect::V1, "{offered}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let changed = |change: fn(&mut Request<()>)| {
            let mut request = handshake();
            change(&mut request);
            accept(&request).unwrap_err()
        };
        let post = changed(|request| *request.method_mut() = Method::POST);
        assert_eq!(post.status(), 405);
        assert_eq!(post.headers()[ALLOW], "GET");
        let old = changed(|request| {
            request.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        });
        assert_eq!(old.status(), 426);
        assert_eq!(old.headers()[SEC_WEBSOCKET_VERSION], "13");
        let both = changed(|request| {
            request.headers_mut().append(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        });
        assert_eq!(both.status(), 426);
        let other = changed(|request| {
            request.headers_mut().insert(UPGRADE, HeaderValue::from_static("h2c, websocket/8"));
        });
        assert_eq!(other.status(), 400);
        let plain = changed(|request| request.headers_mut().clear());
        assert_eq!(plain.status(), 400);
        let keyless = changed(|request| drop(request.headers_mut().remove("sec-websocket-key")));
        assert_eq!(keyless.status(), 400);
        let http_1_0 = changed(|request| *request.version_mut() = Version::HTTP_10);
        assert_eq!(http_1_0.status(), 400);
    }
}
