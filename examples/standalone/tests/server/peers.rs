//! Peers that keep the server waiting, or send it what nobody needs.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use signaling_core::{
    frame::CloseCode,
    testing::client::{Dial, Opcode, RawFrame},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::support::{API_KEY, PATIENCE, Server, token};

const GET: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// Sends a request on a connection that is kept, and reads its answer.
async fn ask(socket: &mut TcpStream) {
    socket.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let byte = timeout(PATIENCE, socket.read_u8()).await.expect("an answer in time");
        answer.push(byte.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

/// How long the server takes to end this connection.
async fn ended(socket: &mut TcpStream) -> Duration {
    let since = Instant::now();
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("an end in time");
    since.elapsed()
}

#[tokio::test]
async fn idle_connections_and_slow_heads_have_limits_of_their_own() {
    let args = ["--http-idle-timeout", "3s", "--http-head-timeout", "1s"];
    let server = Server::start(&args).await;
    let connect = async || TcpStream::connect(&server.address).await.unwrap();
    let (mut silent, mut idle, mut slow, mut late) =
        (connect().await, connect().await, connect().await, connect().await);
    let slow = async {
        slow.write_all(&GET[..20]).await.unwrap();
        ended(&mut slow).await
    };
    let late = async {
        ask(&mut late).await;
        // Longer than a head may take, and then one that takes too long.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        ask(&mut late).await;
        late.write_all(&GET[..1]).await.unwrap();
        ended(&mut late).await
    };
    let idle = async {
        ask(&mut idle).await;
        ended(&mut idle).await
    };
    let (silent, idle, slow, late) = futures::join!(ended(&mut silent), idle, slow, late);
    let within = |seconds: f64, waited: Duration| {
        assert!((seconds - 0.2..seconds + 1.5).contains(&waited.as_secs_f64()), "{waited:?}");
    };
    within(3.0, silent);
    within(3.0, idle);
    within(1.0, slow);
    within(1.0, late);
}

#[tokio::test]
async fn a_client_that_sends_requests_and_never_reads_is_dropped() {
    // In development it serves a page, of which few answers fill the buffers between the two.
    let server = Server::start_with(&["--dev", "--http-write-timeout", "1s"], &[]).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut deaf = socket.connect(server.address.parse().unwrap()).await.unwrap();
    let head = format!("GET /signaling-client.js HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let requests = head.repeat(100);
    let until_dropped = async { while deaf.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, until_dropped).await.expect("an end in time");
    assert_eq!(server.request("GET", "/healthz", "", "").await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start(&[]).await;
    let mut half = TcpStream::connect(&server.address).await.unwrap();
    let head = format!(
        "POST /api/queue HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    half.write_all(head.as_bytes()).await.unwrap();
    let waited = ended(&mut half).await;
    assert!((9..15).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test]
async fn idle_connections_give_way_when_there_are_no_more_descriptors() {
    let server = Server::start_with_files(100, &["--http-idle-timeout", "1h"]).await;
    let mut idle = Vec::new();
    for _ in 0..120 {
        idle.push(TcpStream::connect(&server.address).await.unwrap());
    }
    let since = Instant::now();
    assert_eq!(server.request("GET", "/healthz", "", "").await.status, 200);
    let mut ann = server.connect("ann").await;
    ann.send(&json!({"type": "heartbeat", "id": 2})).await;
    assert_eq!(ann.next().await["id"], 2);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[tokio::test]
async fn wrong_api_keys_are_slowed_down_and_the_right_one_is_not() {
    let server = Server::start(&[]).await;
    let since = Instant::now();
    let wrong = async || {
        let headers = "Authorization: Bearer wrong-api-key\r\n";
        let answer = server.request("GET", "/api/counts", headers, "").await;
        assert_eq!(answer.error(), (401, "unauthorized".to_owned()));
        since.elapsed()
    };
    // The first 30 are answered at once, the last after 5 s.
    let guesses = join_all((0..40).map(|_| wrong()));
    let right = async {
        for _ in 0..20 {
            assert_eq!(server.api("GET", "/api/counts", None).await.status, 200);
        }
        since.elapsed()
    };
    let (mut guesses, right) = futures::join!(guesses, right);
    guesses.sort();
    assert!(guesses[29] < Duration::from_secs(3), "{guesses:?}");
    assert!(guesses[39] > Duration::from_secs(4), "{guesses:?}");
    assert!(right < Duration::from_secs(2), "{right:?}");
    let (_, said) = server.stop().await;
    let warnings = said.lines().filter(|line| line.contains("without the right key"));
    assert_eq!(warnings.count(), 1, "{said}");
}

/// tungstenite joins fragments by itself, so that nobody sees how many there are.
#[tokio::test]
async fn fragments_that_hold_nothing_close_with_4429() {
    let server = Server::start(&[]).await;
    let url = format!("ws://{}/ws/signaling", server.address);
    let fragments = |payload: &str| {
        let first = RawFrame::new(Opcode::Text, payload).unfinished();
        let next = RawFrame::new(Opcode::Continuation, payload).unfinished();
        [first.to_bytes(), next.to_bytes().repeat(60_000)].concat()
    };
    for payload in ["", "x"] {
        let mut eve = Dial::to(&url).query_token(&token("eve")).connect().await;
        eve.send_bytes(&fragments(payload)).await;
        eve.expect_close_in_the_end(CloseCode::RateLimited).await;
    }
    // The largest message in small pieces is no flood.
    let mut ann = Dial::to(&url).query_token(&token("ann")).connect().await;
    let text = format!(r#"{{"type":"heartbeat","id":1,"x":"{}"}}"#, "x".repeat(60_000));
    let pieces: Vec<_> = text.as_bytes().chunks(100).collect();
    for (n, piece) in pieces.iter().enumerate() {
        let opcode = if n == 0 { Opcode::Text } else { Opcode::Continuation };
        let mut frame = RawFrame::new(opcode, *piece);
        frame.fin = n + 1 == pieces.len();
        ann.send_frame(&frame).await;
    }
    ann.expect_text(r#"{"type":"heartbeat-ack","id":1}"#).await;
}
