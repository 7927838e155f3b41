//! The opening handshake (RFC 6455, section 4.2): what is accepted, what is negotiated, and how
//! what is not accepted is refused.

use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{
        ALLOW, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
        WWW_AUTHENTICATE,
    },
};
use tokio_tungstenite::tungstenite::{
    Error, error::ProtocolError, handshake::server::create_response_with_body,
};

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
    let accepted = create_response_with_body(request, || "");
    let mut answer = accepted.map_err(|error| Box::new(not_a_handshake(&error)))?;
    if subprotocols(request.headers()).all(|protocol| protocol != Dialect::V1_SUBPROTOCOL) {
        return Ok((answer, Dialect::Base));
    }
    let protocol = HeaderValue::from_static(Dialect::V1_SUBPROTOCOL);
    answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    Ok((answer, Dialect::V1))
}

/// What the client offers to speak, in its order (RFC 6455, section 11.3.4).
pub(super) fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim_ascii)
}

fn not_a_handshake(error: &Error) -> Answer {
    match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => {
            let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET opens a WebSocket");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            answer
        }
        // RFC 6455, section 4.4.
        Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => {
            let mut answer = no_upgrade("only WebSocket version 13 is spoken here");
            let version = HeaderValue::from_static("13");
            answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
            answer
        }
        _ => refusal(StatusCode::BAD_REQUEST, "this is not the handshake of a WebSocket"),
    }
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
    use http::{Method, Version, header::SEC_WEBSOCKET_ACCEPT};

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
        let plain = changed(|request| request.headers_mut().clear());
        assert_eq!(plain.status(), 400);
        let keyless = changed(|request| drop(request.headers_mut().remove("sec-websocket-key")));
        assert_eq!(keyless.status(), 400);
        let http_1_0 = changed(|request| *request.version_mut() = Version::HTTP_10);
        assert_eq!(http_1_0.status(), 400);
    }
}
