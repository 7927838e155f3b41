use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::support::{PATIENCE, Server};

#[tokio::test]
async fn one_line_on_stdout_says_where_it_listens() {
    let server = Server::start(&["--log-level", "off"]).await;
    let expected = format!("signaling-server listening on http://{}\n", server.address);
    let (code, said) = server.stop().await;
    assert_eq!((code, said), (0, expected));
}

#[tokio::test]
async fn both_signals_close_all_connections_and_end_well() {
    for signal in ["TERM", "INT"] {
        let server = Server::start(&[]).await;
        let (ann, bob) = (server.connect("ann").await, server.connect("bob").await);
        let pair = json!({"initiatorId": "ann", "partnerId": "bob"});
        assert_eq!(server.api("POST", "/api/sessions", Some(pair)).await.status, 201);
        server.signal(signal).await;
        let codes = futures::join!(ann.closed(), bob.closed());
        assert_eq!(codes, (1001, 1001));
        let (code, said) = server.ended().await;
        assert_eq!(code, 0, "{said}");
    }
}

/// A client that does not answer the close frame is not waited for beyond the drain timeout; until
/// then the server says that it is not ready.
#[tokio::test]
async fn it_is_not_ready_while_it_ends_and_ends_in_time() {
    let server = Server::start(&["--drain-timeout", "3s", "--close-wait", "1m"]).await;
    let mute = server.connect("mute").await;
    let mut idle = TcpStream::connect(&server.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();

    let start = Instant::now();
    server.signal("TERM").await;
    loop {
        let answer = server.request("GET", "/readyz", "", "").await;
        if answer.status == 503 {
            assert_eq!(answer.error(), (503, "unavailable".to_owned()));
            break;
        }
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(server.request("GET", "/healthz", "", "").await.status, 200);
    let (code, said) = server.ended().await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("not all connections ended in time"), "{said}");
    assert!(start.elapsed() >= Duration::from_secs(3));
    drop((mute, idle));
}

/// 10 s for its head, and no wait for it when the server ends.
#[tokio::test]
async fn who_has_sent_half_a_request_does_not_hold_up_the_end() {
    let server = Server::start(&["--drain-timeout", "1m"]).await;
    let mut half = TcpStream::connect(&server.address).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    // By now that connection was accepted: the next one is answered.
    assert_eq!(server.request("GET", "/healthz", "", "").await.status, 200);
    let start = Instant::now();
    let (code, said) = server.stop().await;
    assert_eq!(code, 0, "{said}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn half_a_request_is_cut_off_after_10_s() {
    let server = Server::start(&[]).await;
    let start = Instant::now();
    let mut half = TcpStream::connect(&server.address).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut answer = Vec::new();
    let end = timeout(PATIENCE, half.read_to_end(&mut answer)).await;
    let end = end.expect("an end of the connection");
    assert!(end.is_ok() || answer.is_empty());
    let waited = start.elapsed();
    assert!((9..15).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test]
async fn before_it_ends_it_serves_on_while_it_says_that_it_is_not_ready() {
    let server = Server::start(&["--drain-delay", "3s"]).await;
    let (mut ann, start) = (server.connect("ann").await, Instant::now());
    server.signal("TERM").await;
    while server.request("GET", "/readyz", "", "").await.status == 200 {
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    // As the balancer may not have looked yet, everything works still.
    let mut bob = server.connect("bob").await;
    let pair = json!({"initiatorId": "ann", "partnerId": "bob"});
    assert_eq!(server.api("POST", "/api/sessions", Some(pair)).await.status, 201);
    let session = ann.next().await["sessionId"].clone();
    assert_eq!(bob.next().await["sessionId"], session);
    ann.send(&json!({"type": "offer", "sessionId": session, "sdp": "v=0"})).await;
    assert_eq!(bob.next().await["sdp"], "v=0");
    assert!(start.elapsed() < Duration::from_secs(3), "a slow machine");
    assert_eq!(futures::join!(ann.closed(), bob.closed()), (1001, 1001));
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(server.ended().await.0, 0);
}

#[tokio::test]
async fn a_second_signal_during_the_delay_ends_it_at_once() {
    let server = Server::start(&["--drain-delay", "1h"]).await;
    server.signal("TERM").await;
    while server.request("GET", "/readyz", "", "").await.status == 200 {}
    server.signal("TERM").await;
    assert_eq!(server.ended().await.0, 1);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let server = Server::start(&["--drain-timeout", "1h", "--close-wait", "1h"]).await;
    let mute = server.connect("mute").await;
    server.signal("TERM").await;
    let start = Instant::now();
    while server.request("GET", "/readyz", "", "").await.status == 200 {
        assert!(start.elapsed() < PATIENCE, "it is ready still");
    }
    server.signal("INT").await;
    let (code, _) = server.ended().await;
    assert_eq!(code, 1);
    drop(mute);
}

/// As a machine that is suspended is: what its clients sent in time is read before they are judged.
#[tokio::test]
async fn a_process_that_was_frozen_gives_up_no_client_that_sent_in_time() {
    let args = ["--heartbeat-timeout", "2s", "--silence-timeout", "2s", "--ping-interval", "1s"];
    let server = Server::start(&args).await;
    let mut clients = Vec::new();
    for n in 0..50 {
        clients.push(server.connect(&format!("u{n}")).await);
    }
    server.signal("STOP").await;
    for client in &mut clients {
        client.send(&json!({"type": "heartbeat", "id": 2})).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.signal("CONT").await;
    for client in &mut clients {
        assert_eq!(client.next().await["id"], 2);
    }
}
