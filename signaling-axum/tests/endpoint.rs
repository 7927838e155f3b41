//! What is particular to this adapter, with a real WebSocket client over loopback.
#![allow(clippy::unwrap_used, reason = "tests, of which clippy knows only the functions marked so")]

use std::{io, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode},
    middleware::{self, Next},
    routing::get,
};
use futures::{SinkExt, StreamExt};
use signaling_axum::{Endpoint, OnInvalidToken};
use signaling_core::{
    Config, Relay,
    auth::{AuthError, Authenticator, Credentials, Identity},
    id::UserId,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Bytes, Error, Message,
        client::IntoClientRequest,
        http::{HeaderName, Response},
    },
};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A token is the user's name, unless it is `bad` or `busy`.
#[derive(Debug)]
struct NameIsToken;

#[async_trait]
impl Authenticator for NameIsToken {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        match credentials.token().ok_or(AuthError::Missing)? {
            "bad" => Err(AuthError::Expired),
            "busy" => Err(AuthError::Unavailable(io::Error::other("busy").into())),
            name => Ok(Identity::new(UserId::new(name).map_err(AuthError::invalid)?)),
        }
    }
}

async fn relay() -> Relay {
    Relay::builder(NameIsToken).start().await.unwrap()
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn connect(
    address: SocketAddr,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Client, Response<Option<Vec<u8>>>), Error> {
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    for (name, value) in headers {
        let name = HeaderName::from_static(name);
        request.headers_mut().append(name, value.parse().unwrap());
    }
    connect_async(request).await
}

async fn next(client: &mut Client) -> Option<Result<Message, Error>> {
    let next = timeout(Duration::from_secs(10), client.next()).await;
    next.expect("an answer within 10 s")
}

/// The next text; a heartbeat with an id is how these tests ask whether somebody is there.
async fn heartbeat(client: &mut Client) -> String {
    let text = r#"{"type":"heartbeat","id":7}"#;
    client.send(Message::text(text)).await.unwrap();
    match next(client).await {
        Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
        other => panic!("no text: {other:?}"),
    }
}

async fn close_code(client: &mut Client) -> u16 {
    loop {
        match next(client).await {
            Some(Ok(Message::Close(Some(close)))) => {
                // Reading on sends the answer.
                assert!(next(client).await.is_none());
                return close.code.into();
            }
            Some(Ok(_)) => {}
            other => panic!("no close code: {other:?}"),
        }
    }
}

async fn is_served(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) {
    let (mut client, _) = connect(address, path, headers).await.unwrap();
    assert_eq!(heartbeat(&mut client).await, r#"{"type":"heartbeat-ack","id":7}"#);
}

async fn closes_with(address: SocketAddr, path: &str, code: u16) {
    let (mut client, _) = connect(address, path, &[]).await.unwrap();
    assert_eq!(close_code(&mut client).await, code);
}

async fn refused_with(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    match connect(address, path, headers).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn the_router_has_the_endpoint_at_its_path() {
    let address = serve(signaling_axum::router(relay().await)).await;
    is_served(address, "/ws/signaling?token=ann", &[]).await;
}

#[tokio::test]
async fn it_fits_an_application_with_state_middleware_and_nested_routers() {
    #[derive(Clone)]
    struct App {
        name: &'static str,
    }
    async fn name(State(app): State<App>) -> &'static str {
        app.name
    }
    async fn mark(request: axum::extract::Request, next: Next) -> axum::response::Response {
        let mut response = next.run(request).await;
        let marked = HeaderValue::from_static("yes");
        response.headers_mut().insert("x-marked", marked);
        response
    }

    let relay = relay().await;
    let inner: Router<App> = Router::new()
        .route("/name", get(name))
        .route("/rtc", signaling_axum::endpoint(relay.clone()))
        .merge(signaling_axum::router(relay.clone()))
        .layer(middleware::from_fn(mark));
    let app = Router::new()
        .nest("/v1", inner)
        .route("/own", Endpoint::new(relay).into())
        .with_state(App { name: "host" });
    let address = serve(app).await;

    for path in ["/v1/rtc?token=ann", "/v1/ws/signaling?token=ann", "/own?token=ann"] {
        is_served(address, path, &[]).await;
    }
    let (_, response) = connect(address, "/v1/rtc?token=ann", &[]).await.unwrap();
    assert_eq!(response.headers()["x-marked"], "yes");
}

#[tokio::test]
async fn the_token_comes_in_three_ways() {
    let relay = relay().await;
    let address = serve(signaling_axum::router(relay.clone())).await;
    let ways: [(&str, &[(&str, &str)]); 3] = [
        ("/ws/signaling?x=1&token=z%C3%B6e%2B1", &[]),
        ("/ws/signaling", &[("authorization", "Bearer bob")]),
        ("/ws/signaling", &[("sec-websocket-protocol", "signaling.v1, bearer.cy")]),
    ];
    for (user, (path, headers)) in ["zöe+1", "bob", "cy"].into_iter().zip(ways) {
        let (mut client, _) = connect(address, path, headers).await.unwrap();
        heartbeat(&mut client).await;
        assert!(relay.is_connected(&UserId::new(user).unwrap()).await.unwrap());
    }
}

#[tokio::test]
async fn of_the_subprotocols_only_our_own_is_answered() {
    let address = serve(signaling_axum::router(relay().await)).await;
    let (_, response) = connect(
        address,
        "/ws/signaling",
        &[("sec-websocket-protocol", "bearer.ann, chat, signaling.v1")],
    )
    .await
    .unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "signaling.v1");

    // This client refuses an answer without the subprotocol that it asked for; it may not get one.
    for offered in ["chat", "bearer.ann", "signaling.v2"] {
        let answer = raw_upgrade(address, &format!("Sec-WebSocket-Protocol: {offered}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        assert!(!answer.to_lowercase().contains("protocol:"), "{answer}");
    }
}

/// The head of the answer to an upgrade with these headers.
async fn raw_upgrade(address: SocketAddr, headers: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /ws/signaling?token=ann HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_token_that_is_not_accepted_closes_cleanly_after_the_upgrade() {
    let address = serve(signaling_axum::router(relay().await)).await;
    closes_with(address, "/ws/signaling", 4401).await;
    closes_with(address, "/ws/signaling?token=bad", 4401).await;
    closes_with(address, "/ws/signaling?token=busy", 4503).await;
}

#[tokio::test]
async fn or_it_gets_an_http_status() {
    let endpoint = Endpoint::new(relay().await).on_invalid_token(OnInvalidToken::HttpStatus);
    let address = serve(endpoint.into_router()).await;
    assert_eq!(refused_with(address, "/ws/signaling", &[]).await, 401);
    assert_eq!(refused_with(address, "/ws/signaling?token=bad", &[]).await, 401);
    assert_eq!(refused_with(address, "/ws/signaling?token=busy", &[]).await, 503);
    is_served(address, "/ws/signaling?token=ann", &[]).await;
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_before_the_upgrade() {
    let endpoint = Endpoint::new(relay().await).allowed_origins(["https://app.example"]);
    let address = serve(endpoint.into_router()).await;
    let path = "/ws/signaling?token=ann";
    is_served(address, path, &[]).await;
    is_served(address, path, &[("origin", "https://app.example")]).await;
    for origin in [
        "https://evil.example",
        "https://app.example.evil.example",
        "https://app.example:8443",
        "http://app.example",
        "https://APP.example",
        "null",
        "",
    ] {
        let status = refused_with(address, path, &[("origin", origin)]).await;
        assert_eq!(status, 403, "{origin}");
    }
    let both = [("origin", "https://app.example"), ("origin", "https://evil.example")];
    assert_eq!(refused_with(address, path, &both).await, 403);
}

#[tokio::test]
async fn without_that_option_every_origin_may_connect() {
    let address = serve(signaling_axum::router(relay().await)).await;
    is_served(address, "/ws/signaling?token=ann", &[("origin", "https://any.example")]).await;
}

#[tokio::test]
async fn what_is_no_websocket_is_refused_as_http() {
    let address = serve(signaling_axum::router(relay().await)).await;
    for (request, status) in [
        ("GET /ws/signaling?token=ann HTTP/1.1", StatusCode::BAD_REQUEST),
        ("POST /ws/signaling?token=ann HTTP/1.1", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("{request}\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert_eq!(&answer[9..12], status.as_str());
    }
}

#[tokio::test]
async fn frames_that_break_the_rules_get_the_right_close_code() {
    let mut config = Config::default();
    config.max_frame_bytes = 1000;
    let relay = Relay::builder(NameIsToken).config(config).start().await.unwrap();
    let address = serve(signaling_axum::router(relay)).await;

    let unknown = |length: usize| format!("{{\"type\":\"{}\"}}", "x".repeat(length - 11));
    let (mut client, _) = connect(address, "/ws/signaling?token=a", &[]).await.unwrap();
    client.send(Message::text(unknown(1000))).await.unwrap();
    assert!(matches!(next(&mut client).await, Some(Ok(Message::Text(_)))));
    client.send(Message::text(unknown(1001))).await.unwrap();
    assert_eq!(close_code(&mut client).await, 1009);

    // A message may not grow over the limit in fragments either.
    assert_eq!(raw_close_code(address, &[frame(0x01, 900), frame(0x80, 900)].concat()).await, 1009);
    // FIN and text, one byte, mask 0: the byte 0xff is no UTF-8.
    assert_eq!(raw_close_code(address, &[0x81, 0x81, 0, 0, 0, 0, 0xff]).await, 1007);
    // A client's frame without a mask, and a reserved opcode.
    assert_eq!(raw_close_code(address, &[0x81, 0x01, b'x']).await, 1002);
    assert_eq!(raw_close_code(address, &[0x83, 0x80, 0, 0, 0, 0]).await, 1002);
}

#[tokio::test]
async fn the_close_code_reaches_a_client_that_is_still_sending() {
    let address = serve(signaling_axum::router(relay().await)).await;
    let mut sent = frame(0x81, 16 * 1024 * 1024);
    sent.extend_from_slice(&[0x88, 0x80, 0, 0, 0, 0]);
    assert_eq!(raw_close_code(address, &sent).await, 1009);
}

/// A masked frame of spaces.
fn frame(first: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 127];
    frame.extend_from_slice(&(length as u64).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.resize(frame.len() + length, b' ');
    frame
}

/// Sends all of `bytes` before it reads, as a browser does with a message.
async fn raw_close_code(address: SocketAddr, bytes: &[u8]) -> u16 {
    let (client, _) = connect(address, "/ws/signaling?token=raw", &[]).await.unwrap();
    let MaybeTlsStream::Plain(mut socket) = client.into_inner() else {
        unreachable!("a plain address")
    };
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    let close = answer.iter().rposition(|&byte| byte == 0x88).expect("a close frame");
    u16::from_be_bytes([answer[close + 2], answer[close + 3]])
}

#[tokio::test]
async fn a_shutdown_closes_connections_that_the_server_no_longer_knows() {
    let relay = relay().await;
    let address = serve(signaling_axum::router(relay.clone())).await;
    let (mut client, _) = connect(address, "/ws/signaling?token=ann", &[]).await.unwrap();
    heartbeat(&mut client).await;
    let stopping = relay.shutdown(Duration::from_secs(10));
    let (_, code) = futures::join!(stopping, close_code(&mut client));
    assert_eq!(code, 1001);
    client.send(Message::Ping(Bytes::new())).await.unwrap_err();
    closes_with(address, "/ws/signaling?token=late", 1001).await;
}
