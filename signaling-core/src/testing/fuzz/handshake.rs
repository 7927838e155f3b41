use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{
        AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};

use crate::{
    protocol::Dialect,
    websocket::{MAX_CONTINUING, accept, continuing, credentials},
};

/// Target `handshake`: the head of an HTTP request, as it is sent. What the `http` crate does not take is left out,
/// since no adapter gets it.
///
/// - What is accepted is a GET over HTTP/1.1 or later whose headers name the upgrade and version 13. The answer names
///   `signaling.v1` if and only if the request does. What is refused gets 400, 405 or 426.
/// - Several lines of a list header, and one line with all their elements, get the same answer and have the same token
///   (RFC 9110, section 5.3).
/// - The token is the one that a plain reading finds: `form_urlencoded` for the query, then the subprotocols, then
///   `Authorization`.
/// - What is continued is written in the query as it is read from it.
pub fn handshake(data: &[u8]) {
    let Some(request) = request(data) else { return };
    let joined = joined(&request);
    let answer = check_answer(&request);
    assert_eq!(check_answer(&joined), answer, "{request:?}");
    let token = |request: &Request<()>| {
        let credentials = credentials(request.uri().query(), request.headers());
        credentials.token().map(str::to_owned)
    };
    let expected = in_query(request.uri())
        .or_else(|| in_subprotocols(request.headers()))
        .or_else(|| in_authorization(request.headers()));
    assert_eq!(token(&request), expected, "{request:?}");
    assert_eq!(token(&joined), expected, "{joined:?}");
    let query = request.uri().query().unwrap_or_default();
    let named: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "continue")
        .map(|(_, value)| value.into_owned())
        .collect();
    let continued = continuing(request.uri().query());
    assert!(continued.len() <= MAX_CONTINUING.min(named.len()), "{request:?}");
    assert!(continued.iter().all(|one| named.contains(&one.to_string())), "{request:?}");
}

fn request(data: &[u8]) -> Option<Request<()>> {
    let mut lines =
        data.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut start = lines.next()?.split(|byte| *byte == b' ');
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(start.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(start.next()?).ok()?;
    *request.version_mut() = match start.next()? {
        b"HTTP/1.0" => Version::HTTP_10,
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/2.0" => Version::HTTP_2,
        _ => return None,
    };
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            request.headers_mut().try_append(name, value).ok()?;
        }
    }
    Some(request)
}

/// The same request with each list header on one line.
fn joined(request: &Request<()>) -> Request<()> {
    let mut joined = request.clone();
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_PROTOCOL] {
        let lines: Vec<_> =
            request.headers().get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        if !lines.is_empty() {
            let line =
                HeaderValue::from_bytes(&lines.join(&b", "[..])).expect("lines that were taken");
            joined.headers_mut().insert(name, line);
        }
    }
    joined
}

/// The status of the answer, and what was negotiated.
fn check_answer(request: &Request<()>) -> (u16, Option<Dialect>) {
    let elements = |name| elements(request.headers(), name);
    match accept(request) {
        Ok((answer, dialect)) => {
            assert_eq!(answer.status(), 101);
            assert_eq!(request.method(), Method::GET);
            assert!(request.version() >= Version::HTTP_11);
            assert!(
                elements(CONNECTION).iter().any(|option| option.eq_ignore_ascii_case("upgrade"))
            );
            let is_websocket = |name: &String| {
                ["websocket", "websocket/13"].contains(&&*name.to_ascii_lowercase())
            };
            assert!(elements(UPGRADE).iter().any(is_websocket));
            assert!(elements(SEC_WEBSOCKET_VERSION).iter().all(|version| version == "13"));
            assert!(!elements(SEC_WEBSOCKET_VERSION).is_empty());
            assert!(request.headers().contains_key("sec-websocket-key"));
            assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT].len(), 28);
            let offered =
                elements(SEC_WEBSOCKET_PROTOCOL).iter().any(|name| name == Dialect::V1_SUBPROTOCOL);
            let answered = answer.headers().get(SEC_WEBSOCKET_PROTOCOL);
            assert_eq!(answered.is_some_and(|name| name == Dialect::V1_SUBPROTOCOL), offered);
            assert_eq!(answered.is_some(), dialect == Dialect::V1);
            (101, Some(dialect))
        }
        Err(refusal) => {
            assert!([400, 405, 426].contains(&refusal.status().as_u16()));
            (refusal.status().as_u16(), None)
        }
    }
}

fn elements(headers: &HeaderMap, name: HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    let elements = lines.flat_map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let trimmed = elements.map(|element| element.trim_matches([' ', '\t']).to_owned());
    trimmed.filter(|element| element.is_ascii() && !element.is_empty()).collect()
}

fn in_query(uri: &Uri) -> Option<String> {
    form_urlencoded::parse(uri.query()?.as_bytes())
        .find(|(name, token)| name == "token" && !token.is_empty())
        .map(|(_, token)| token.into_owned())
}

fn in_subprotocols(headers: &HeaderMap) -> Option<String> {
    let token = |element: &String| element.strip_prefix("bearer.").map(str::to_owned);
    elements(headers, SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(token)
        .find(|token| !token.is_empty())
}

fn in_authorization(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    let token = token.trim_matches([' ', '\t']);
    (scheme.eq_ignore_ascii_case("bearer ") && !token.is_empty()).then(|| token.to_owned())
}
