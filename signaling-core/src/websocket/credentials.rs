//! What a request says about who sent it.

use std::borrow::Cow;

use http::{HeaderMap, header::AUTHORIZATION};
use memchr::memchr2;

use super::handshake::subprotocols;
use crate::{auth::Credentials, protocol::Continue};

/// The most negotiations that a client continues at once; the others begin anew.
pub const MAX_CONTINUING: usize = 64;

/// The token of a request; see the [module's page](super) for which counts when there are several.
#[must_use]
pub fn credentials(query: Option<&str>, headers: &HeaderMap) -> Credentials {
    let places = [in_query, in_subprotocols, in_authorization];
    let token = places.iter().find_map(|place| place(query, headers));
    token.map_or_else(Credentials::none, Credentials::bearer)
}

fn in_query(query: Option<&str>, _: &HeaderMap) -> Option<String> {
    query?
        .split('&')
        .filter_map(decoded)
        .find(|(name, token)| name == "token" && !token.is_empty())
        .map(|(_, token)| token.into_owned())
}

/// A name and its value. A token has nothing to decode (RFC 7515, 7.1), and is a few hundred bytes.
fn decoded(pair: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    match memchr2(b'%', b'+', pair.as_bytes()) {
        None => pair.split_once('=').map(|(name, value)| (name.into(), value.into())),
        Some(_) => form_urlencoded::parse(pair.as_bytes()).next(),
    }
}

fn in_subprotocols(_: Option<&str>, headers: &HeaderMap) -> Option<String> {
    subprotocols(headers)
        .filter_map(|protocol| protocol.strip_prefix("bearer."))
        .find(|token| !token.is_empty())
        .map(str::to_owned)
}

/// The negotiations that a client wants to continue, from the query of its request:
/// `continue={sessionId}~{negotiation}~{seq}`, percent-encoded, once for each session. Anything that is not
/// so is left out, and so is what comes after [`MAX_CONTINUING`] of them.
#[must_use]
pub fn continuing(query: Option<&str>) -> Vec<Continue> {
    let pairs = query.into_iter().flat_map(|query| query.split('&')).filter_map(decoded);
    let named = pairs.filter(|(name, _)| name == "continue");
    named.filter_map(|(_, value)| value.parse().ok()).take(MAX_CONTINUING).collect()
}

/// RFC 6750, 2.1; the scheme's name is case-insensitive (RFC 9110, 11.1).
fn in_authorization(_: Option<&str>, headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};

    use super::*;

    fn token(query: Option<&str>, headers: &[(HeaderName, &'static str)]) -> Option<String> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect();
        let credentials = credentials(query, &headers);
        credentials.token().map(str::to_owned)
    }

    #[test]
    fn the_query_is_percent_decoded() {
        assert_eq!(token(Some("a=b&token=x%2By%20z+%C3%A9&c"), &[]).as_deref(), Some("x+y z é"));
        assert_eq!(token(Some("%74oken=x"), &[]).as_deref(), Some("x"));
        assert_eq!(token(Some("a&token=&token=x.y-z_=&b=c"), &[]).as_deref(), Some("x.y-z_="));
        assert_eq!(token(Some("tokens=a&Token=b&token"), &[]), None);
        assert_eq!(token(Some(""), &[]), None);
        assert_eq!(token(None, &[]), None);
    }

    #[test]
    fn what_is_continued_is_in_the_query() {
        let read = |query| {
            let continuing = continuing(query);
            continuing.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (one, other) = ("s:1~0000000000000007~3", "t~00000000000000ff~0");
        let query = format!("token=x&continue={one}&continue=t%7E00000000000000ff%7e0&b");
        assert_eq!(read(Some(&query)), [one, other]);
        let query = format!("continue=&continue=s&continue=%FF~~&Continue={one}&continue={other}");
        assert_eq!(read(Some(&query)), [other]);
        assert!(read(None).is_empty() && read(Some("continue")).is_empty());
        let many = vec![format!("continue={one}"); 100].join("&");
        assert_eq!(read(Some(&many)).len(), MAX_CONTINUING);
    }

    #[test]
    fn the_authorization_header_is_read_for_bearer_tokens_only() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearerabc", None),
        ] {
            assert_eq!(token(None, &[(AUTHORIZATION, value)]).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn a_subprotocol_may_carry_the_token() {
        for (value, expected) in [
            ("signaling.v1, bearer.a.b.c", Some("a.b.c")),
            ("bearer.a.b.c,signaling.v1", Some("a.b.c")),
            ("signaling.v1", None),
            ("bearer.", None),
            ("Bearer.abc", None),
        ] {
            let found = token(None, &[(SEC_WEBSOCKET_PROTOCOL, value)]);
            assert_eq!(found.as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn of_several_tokens_the_one_meant_for_this_endpoint_counts() {
        let header = (AUTHORIZATION, "Bearer header");
        let protocol = (SEC_WEBSOCKET_PROTOCOL, "bearer.protocol");
        let all = [header.clone(), protocol];
        assert_eq!(token(Some("token=query"), &all).as_deref(), Some("query"));
        assert_eq!(token(Some("token="), &all).as_deref(), Some("protocol"));
        assert_eq!(token(None, &[header]).as_deref(), Some("header"));
        let twice = token(Some("token=first&token=second"), &[]);
        assert_eq!(twice.as_deref(), Some("first"));
    }
}
