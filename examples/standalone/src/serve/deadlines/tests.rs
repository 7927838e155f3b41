//! On paused time, with hyper on one end of a pipe in memory.

use std::{convert::Infallible, future::Future};

use axum::body::Body;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn, upgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::Instant,
};

use super::*;

const TIMEOUTS: Timeouts = Timeouts {
    idle: Duration::from_secs(75),
    head: Duration::from_secs(10),
    write: Duration::from_secs(20),
};
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const BODY: usize = 1000;

/// A server whose handlers take `handler`, and a client whose pipe to it holds 2 KiB each way. What
/// comes of the connection is the outcome of the task.
fn serve(handler: Duration) -> (DuplexStream, JoinHandle<hyper::Result<()>>) {
    let (client, server) = duplex(2048);
    let progress = Progress::new();
    let socket = Deadlines::new(server, TIMEOUTS, progress.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        progress.serving();
        let progress = progress.clone();
        async move {
            time::sleep(handler).await;
            let answer = match request.headers().contains_key("upgrade") {
                true => {
                    tokio::spawn(echo(request));
                    let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
                    answer.header("upgrade", "echo").body(Body::empty()).unwrap()
                }
                false => Response::new(Body::from(vec![b'x'; BODY])),
            };
            progress.answered(answer.status());
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .max_buf_size(8 * 1024)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    (client, tokio::spawn(connection))
}

/// Gives back what comes, a chunk at a time.
async fn echo(request: Request<Incoming>) {
    let mut socket = TokioIo::new(upgrade::on(request).await.unwrap());
    let mut chunk = [0; 512];
    while let Ok(read @ 1..) = socket.read(&mut chunk).await {
        socket.write_all(&chunk[..read]).await.unwrap();
    }
}

/// Reads a response to its end.
async fn response(client: &mut DuplexStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    client.read_exact(&mut [0; BODY]).await.unwrap();
}

/// How many seconds it takes.
async fn seconds<T>(what: impl Future<Output = T>) -> (u64, T) {
    let since = Instant::now();
    let outcome = time::timeout(Duration::from_secs(3600), what).await;
    (since.elapsed().as_secs(), outcome.expect("an end within an hour"))
}

async fn nothing_more(client: &mut DuplexStream) {
    assert_eq!(client.read(&mut [0; 100]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_quietly_after_the_idle_timeout() {
    let (mut client, server) = serve(Duration::ZERO);
    assert_eq!(seconds(nothing_more(&mut client)).await.0, 75);
    server.await.unwrap().unwrap();

    let (mut client, server) = serve(Duration::ZERO);
    for pause in [0, 9, 11, 60, 74] {
        time::sleep(Duration::from_secs(pause)).await;
        client.write_all(GET).await.unwrap();
        response(&mut client).await;
    }
    assert_eq!(seconds(nothing_more(&mut client)).await.0, 75);
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_own_deadline_from_its_first_byte_on() {
    for before in [0, 60] {
        let (mut client, server) = serve(Duration::ZERO);
        if before > 0 {
            client.write_all(GET).await.unwrap();
            response(&mut client).await;
        }
        time::sleep(Duration::from_secs(before)).await;
        let (seconds, ()) = seconds(async {
            for byte in GET {
                if client.write_all(&[*byte]).await.is_err() {
                    break;
                }
                time::sleep(Duration::from_secs(1)).await;
            }
        })
        .await;
        assert!((10..=11).contains(&seconds), "{seconds} s");
        assert!(server.await.unwrap().is_err());
    }
    // In time, and then idle again.
    let (mut client, server) = serve(Duration::ZERO);
    for part in GET.chunks(5) {
        client.write_all(part).await.unwrap();
        time::sleep(Duration::from_secs(1)).await;
    }
    response(&mut client).await;
    assert!((73..=75).contains(&seconds(nothing_more(&mut client)).await.0));
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_dropped() {
    let (mut client, server) = serve(Duration::ZERO);
    // The server reads on until as much as it may keep waits to be written.
    let (sent, ()) = seconds(async { while client.write_all(GET).await.is_ok() {} }).await;
    assert_eq!(sent, 20);
    assert_eq!(seconds(server).await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_is_not_dropped_and_idle_afterwards() {
    let (mut client, server) = serve(Duration::ZERO);
    client.write_all(&GET.repeat(5)).await.unwrap();
    for _ in 0..5 {
        time::sleep(Duration::from_secs(19)).await;
        response(&mut client).await;
    }
    // The last response was in the pipe 19 s ago, and nothing has woken the server since.
    assert_eq!(seconds(nothing_more(&mut client)).await.0, 75 - 19);
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_not_a_slow_peer() {
    let (mut client, server) = serve(Duration::from_secs(600));
    for _ in 0..2 {
        client.write_all(GET).await.unwrap();
        assert_eq!(seconds(response(&mut client)).await.0, 600);
    }
    assert_eq!(seconds(nothing_more(&mut client)).await.0, 75);
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_has_no_deadlines() {
    let (mut client, server) = serve(Duration::ZERO);
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    server.await.unwrap().unwrap();
    time::sleep(Duration::from_secs(600)).await;
    client.write_all(b"a").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'a');
    // More than the pipe holds, read after a while.
    let (mut from, mut to) = tokio::io::split(client);
    let sending = tokio::spawn(async move { to.write_all(&[7; 8000]).await });
    time::sleep(Duration::from_secs(600)).await;
    let mut all = vec![0; 8000];
    from.read_exact(&mut all).await.unwrap();
    sending.await.unwrap().unwrap();
    assert_eq!(all, [7; 8000]);
}
