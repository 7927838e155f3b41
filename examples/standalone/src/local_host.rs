//! In development every request must name this machine as its host.
//!
//! A foreign page can give its own name the address 127.0.0.1 (DNS rebinding). The browser then
//! takes this server for that page's own, and the page could read the answers of the demonstration.
//! The name still stands in the request.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{StatusCode, header::HOST, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::error::ApiError;

/// Answers requests for this machine, and refuses all others.
pub(crate) async fn only_local_host(request: Request, next: Next) -> Response {
    match is_for_local_host(&request) {
        true => next.run(request).await,
        false => ApiError::new(
            StatusCode::FORBIDDEN,
            "forbidden-host",
            "with --dev the host must be localhost or a loopback address",
        )
        .into_response(),
    }
}

/// Whether there is one `Host` or `:authority`, and each that there is names this machine.
fn is_for_local_host<B>(request: &axum::http::Request<B>) -> bool {
    let authority = request.uri().authority();
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        // HTTP/2 has `:authority` in its place.
        (None, _) => return authority.is_some_and(is_local),
        (Some(host), None) => host,
        (Some(_), Some(_)) => return false,
    };
    let host = Authority::try_from(host.as_bytes());
    host.is_ok_and(|host| is_local(&host)) && authority.is_none_or(is_local)
}

/// RFC 6761, 6.3: `localhost` and all names below it are this machine.
fn is_local(authority: &Authority) -> bool {
    // Before an `@` there would be a user, which no `Host` has.
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http;

    use super::*;

    fn accepted(uri: &str, hosts: &[&str]) -> bool {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        is_for_local_host(&request.body(()).unwrap())
    }

    #[test]
    fn only_loopback_names_and_addresses_are_accepted() {
        for host in [
            "localhost",
            "localhost:8080",
            "LocalHost:1",
            "localhost.",
            "app.localhost:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.1.2.3:8080",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:8080",
        ] {
            assert!(accepted("/", &[host]), "{host}");
            assert!(accepted(&format!("http://{host}/"), &[host]), "{host}");
            assert!(accepted(&format!("http://{host}/"), &[]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "evil-localhost",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io:8080",
            "0.0.0.0:8080",
            "192.168.0.1",
            "10.0.0.1:8080",
            "[::]:8080",
            "[::2]",
            "[fe80::1]",
            "localhost:8080@evil.example",
            "localhost@evil.example",
            "evil.example@localhost",
            ".",
            ".localhost.evil",
            "127.0.0.1:8080, evil.example",
            "localhost evil.example",
            "[::1",
            "2130706433",
        ] {
            assert!(!accepted("/", &[host]), "{host}");
        }
        assert!(!accepted("/", &[]));
        assert!(!accepted("/", &["localhost", "evil.example"]));
        assert!(!accepted("/", &["localhost", "localhost"]));
        assert!(!accepted("http://evil.example/", &["localhost"]));
        assert!(!accepted("http://localhost/", &["evil.example"]));
        assert!(!accepted("http://evil.example/", &[]));
    }
}
