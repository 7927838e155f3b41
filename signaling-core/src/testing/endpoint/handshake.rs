//! What comes before the upgrade, or instead of it: origins, refusals, the host around it.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};
use tokio_tungstenite::tungstenite::{Error, http::HeaderMap};

use super::{
    Setup,
    faulty::NobodyToAsk,
    stage::{Host, Stage, token},
};
use crate::{
    frame::CloseCode,
    testing::client::{Dial, PATIENCE},
};

/// The HTTP status with which `dial` is refused, and what comes with it.
async fn refused(dial: Dial) -> (u16, HeaderMap) {
    match dial.try_connect().await {
        Err(Error::Http(response)) => (response.status().as_u16(), response.headers().clone()),
        Err(error) => panic!("refused, but not by a status: {error}"),
        Ok(client) => panic!("{client:?} was not refused"),
    }
}

/// The head of the answer to a request that is made by hand.
async fn answer_to(stage: &Stage, method: &str, target: &str, headers: &[&str]) -> String {
    let url = stage.url();
    let (host, _) = url.trim_start_matches("ws://").split_once('/').expect("a URL has a path");
    let mut socket = TcpStream::connect(host).await.expect("the server listens");
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    socket.write_all(request.as_bytes()).await.expect("the server reads");
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    };
    let in_time = time::timeout(PATIENCE, read).await;
    assert!(in_time.is_ok(), "no answer to {request}");
    String::from_utf8_lossy(&head).into_owned()
}

/// The path of the endpoint, with Ann's token.
fn target(stage: &Stage) -> String {
    let url = stage.url();
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    format!("/{path}?token={}", token("ann"))
}

/// RFC 6455, section 1.3.
const HANDSHAKE: [&str; 4] = [
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

pub(super) async fn pages_of_other_origins_are_refused_before_the_upgrade(host: &Host) {
    // As a person writes them, and as a browser sends them.
    let origins = [
        ("https://app.example", "https://app.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("HTTPS://Lessons.Example:443", "https://lessons.example"),
        ("http://lessons.example:80/", "http://lessons.example"),
        ("https://lessons.example:8443", "https://lessons.example:8443"),
        ("http://[::1]:80", "http://[::1]"),
    ];
    let written = origins.map(|(written, _)| written.to_owned()).to_vec();
    let set_up =
        host.start_if_possible(Setup { allowed_origins: Some(written), ..Setup::default() });
    let Some(stage) = set_up.await else {
        return;
    };
    stage.client("no page").await.expect_nothing().await;
    for (_, origin) in origins {
        let dial = stage.dial("ann").header("origin", origin);
        dial.connect().await.expect_nothing().await;
    }
    for origin in [
        "https://evil.example",
        "https://app.example.evil.example",
        "https://app.example:8443",
        "https://app.example/",
        "https://app.example:443",
        "https://lessons.example:80",
        "http://app.example",
        "https://APP.example",
        "null",
        "",
    ] {
        let (status, _) = refused(stage.dial("eve").header("origin", origin)).await;
        assert_eq!(status, 403, "for {origin:?}");
    }
    let two = stage.dial("eve").header("origin", "https://app.example");
    assert_eq!(refused(two.header("origin", "https://evil.example")).await.0, 403);
}

pub(super) async fn without_that_option_every_origin_may_connect(host: &Host) {
    let stage = host.start().await;
    let dial = stage.dial("ann").header("origin", "https://any.example");
    dial.connect().await.expect_nothing().await;
}

pub(super) async fn what_is_no_handshake_is_refused_as_http(host: &Host) {
    let stage = host.start().await;
    let without = |missing: &str| -> Vec<&str> {
        HANDSHAKE.into_iter().filter(|header| !header.starts_with(missing)).collect()
    };
    let cases: [(&str, &str, Vec<&str>); 8] = [
        ("a page that is asked for", "GET", vec![]),
        ("a form", "POST", vec!["Content-Length: 0"]),
        ("another method", "POST", HANDSHAKE.to_vec()),
        ("no upgrade", "GET", without("Upgrade")),
        ("no upgrade of the connection", "GET", without("Connection")),
        ("no key", "GET", without("Sec-WebSocket-Key")),
        ("no version", "GET", without("Sec-WebSocket-Version")),
        (
            "another version",
            "GET",
            [without("Sec-WebSocket-Version"), vec!["Sec-WebSocket-Version: 8"]].concat(),
        ),
    ];
    for (what, method, headers) in cases {
        let answer = answer_to(&stage, method, &target(&stage), &headers).await;
        let status = answer.get(9..12).unwrap_or_default();
        assert!(matches!(status, "400" | "405" | "426"), "{what} got {answer:?}");
    }
}

pub(super) async fn list_headers_are_read_as_lists_over_all_their_lines(host: &Host) {
    let stage = host.start().await;
    let rest = &HANDSHAKE[2..];
    let usual = &HANDSHAKE[..2];
    // RFC 9110, sections 5.3, 5.6.1.2 and 7.8.
    let accepted: [&[&str]; 12] = [
        &["Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket"],
        &["Connection: Upgrade", "Connection: keep-alive", "Upgrade: websocket"],
        &["Connection: keep-alive,\tUpgrade", "Upgrade: websocket"],
        &["Connection: keep-alive\t,\t uPGRADE \t", "Upgrade:\twebsocket\t"],
        &["Connection: ,,keep-alive, ,Upgrade,", "Upgrade: , websocket,"],
        &["Connection:", "Connection: Upgrade", "Upgrade:", "Upgrade: websocket"],
        &["Connection: Upgrade", "Upgrade: websocket, h2c"],
        &["Connection: Upgrade", "Upgrade: h2c,\tWebSocket"],
        &["Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket"],
        &["Connection: Upgrade", "Upgrade: websocket", "Upgrade: HTTP/2.0, SHTTP/1.3"],
        &["Connection: Upgrade", "Upgrade: websocket/13"],
        &["Connection: HTTP2-Settings, Upgrade", "Upgrade: h2c, websocket"],
    ];
    for headers in accepted {
        let answer = answer_to(&stage, "GET", &target(&stage), &[headers, rest].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{headers:?} got {answer:?}");
    }
    let refused: [&[&str]; 7] = [
        &["Connection: keep-alive", "Connection: close", "Upgrade: websocket"],
        &["Connection: keep-alive Upgrade", "Upgrade: websocket"],
        &["Connection: Upgrades, not-upgrade", "Upgrade: websocket"],
        &["Connection: Upgrade", "Upgrade: h2c", "Upgrade: websockets"],
        &["Connection: Upgrade", "Upgrade: web, socket"],
        &["Connection: Upgrade", "Upgrade: websocket/8"],
        &["Connection: Upgrade", "Upgrade:"],
    ];
    for headers in refused {
        let answer = answer_to(&stage, "GET", &target(&stage), &[headers, rest].concat()).await;
        let status = answer.get(9..12).unwrap_or_default();
        assert!(matches!(status, "400" | "426"), "{headers:?} got {answer:?}");
    }
    let offers: [&[&str]; 4] = [
        &["chat", "signaling.v1"],
        &["signaling.v1", "bearer.x"],
        &["chat,\tsignaling.v1\t,,"],
        &["", "signaling.v1,"],
    ];
    for offers in offers {
        let offers: Vec<_> =
            offers.iter().map(|offer| format!("Sec-WebSocket-Protocol: {offer}")).collect();
        let offers: Vec<_> = offers.iter().map(String::as_str).collect();
        let headers = [usual, rest, &offers].concat();
        let answer = answer_to(&stage, "GET", &target(&stage), &headers).await;
        let answer = answer.to_ascii_lowercase();
        assert!(answer.contains("sec-websocket-protocol: signaling.v1\r\n"), "{answer:?}");
    }
}

pub(super) async fn a_subprotocol_that_is_not_known_is_not_answered(host: &Host) {
    let stage = host.start().await;
    for offered in ["chat", "signaling.v2", "Signaling.V1", "bearer.x, chat"] {
        let offer = format!("Sec-WebSocket-Protocol: {offered}");
        let headers = [&HANDSHAKE[..], &[&offer]].concat();
        let answer = answer_to(&stage, "GET", &target(&stage), &headers).await;
        let answer = answer.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{offered} got {answer:?}");
        assert!(answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer:?}");
        assert!(!answer.contains("sec-websocket-protocol"), "{offered} got {answer:?}");
    }
}

pub(super) async fn a_bad_token_may_get_an_http_status(host: &Host) {
    let Some(stage) =
        host.start_if_possible(Setup { status_for_bad_tokens: true, ..Setup::default() }).await
    else {
        return;
    };
    for dial in [stage.bare("eve"), stage.bare("eve").query_token("bad")] {
        let (status, headers) = refused(dial).await;
        assert_eq!(status, 401);
        // RFC 9110, section 15.5.2.
        assert!(headers.contains_key("www-authenticate"), "{headers:?}");
    }
    stage.client("ann").await.expect_nothing().await;
    let unavailable = Setup {
        status_for_bad_tokens: true,
        authenticator: Some(Arc::new(NobodyToAsk)),
        ..Setup::default()
    };
    if let Some(stage) = host.start_if_possible(unavailable).await {
        host.no_checkup();
        assert_eq!(refused(stage.dial("ann")).await.0, 503);
    }
}

pub(super) async fn beneath_a_prefix_it_is_the_same(host: &Host) {
    let Some(stage) =
        host.start_if_possible(Setup { prefix: Some("school"), ..Setup::default() }).await
    else {
        return;
    };
    assert!(stage.url().contains("/school/"), "{} has no prefix", stage.url());
    let mut call = stage.call().await;
    call.talk().await;
    let mut eve = stage.bare("eve").connect().await;
    eve.expect_close(CloseCode::Unauthorized).await;
    let mut ann = stage.bare("ann").subprotocol_token(&token("ann")).connect().await;
    ann.expect_match(&call.session, "bob", true).await;
}

pub(super) async fn a_panic_in_the_hosts_own_handler_changes_nothing(host: &Host) {
    let stage = host.start().await;
    let Some(path) = stage.panicking_path() else {
        eprintln!("skipped: the host has no handler that panics");
        return;
    };
    let mut call = stage.call().await;
    for _ in 0..3 {
        let answer = answer_to(&stage, "GET", &path, &["Connection: close"]).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 500 "), "{answer:?}");
        call.talk().await;
    }
}
