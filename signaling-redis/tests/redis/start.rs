//! How a start goes wrong, and that it says so.

use std::{error::Error, time::Duration};

use signaling_redis::{ConnectError, Redis, Settings, testing::Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::harness::{Node, now, pair, talk};

const LIMIT: Duration = Duration::from_secs(10);

async fn failure(url: &str) -> ConnectError {
    let started = now();
    let error = Redis::connect(Settings::url(url).unwrap()).await.unwrap_err();
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    let mut said = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        said += &format!(" {error} {error:?}");
        cause = error.source();
    }
    assert!(!said.contains("s3cret"), "{said}");
    error
}

#[tokio::test]
async fn nobody_at_the_address_is_one_error_in_time() {
    // Bound without listening: nobody else gets the port.
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = reserved.local_addr().unwrap();
    for scheme in ["redis", "redis-cluster"] {
        let error = failure(&format!("{scheme}://ann:s3cret@{nobody}")).await;
        assert!(
            matches!(&error, ConnectError::Unreachable { at, .. } if *at == nobody.to_string())
        );
    }
    let error = failure(&format!("redis-sentinel://:s3cret@{nobody}?sentinelServiceName=x")).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_one_error_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = failure(&format!("redis://:s3cret@{}", silent.local_addr().unwrap())).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_comes_a_little_later_is_waited_for() {
    let mut server = Server::start();
    server.kill();
    let settings = Settings::url(&server.url()).unwrap();
    let connecting = tokio::spawn(Redis::connect(settings));
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.restart();
    connecting.await.unwrap().unwrap();
}

#[tokio::test]
async fn wrong_credentials_are_refused_at_once() {
    let server = Server::start_with(&["--requirepass", "right"]);
    let port = server.port();
    for credentials in [":s3cret@", "ann:s3cret@", ""] {
        let started = now();
        let error = failure(&format!("redis://{credentials}127.0.0.1:{port}")).await;
        assert!(matches!(error, ConnectError::Refused { .. }), "{credentials}: {error:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

/// Lets `client` talk to a server that says that it is of version 6.0.
async fn before_an_old_one(client: TcpStream, port: u16) -> std::io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port)).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from_server.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let version = b"redis_version:";
        let found = buffer[..read].windows(version.len()).position(|bytes| bytes == version);
        if let Some(at) = found {
            buffer[at + version.len()..][..4].copy_from_slice(b"6.0.");
        }
        to_client.write_all(&buffer[..read]).await?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_is_too_old_is_one_error() {
    let server = Server::start();
    let port = server.port();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let old = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(before_an_old_one(client, port));
        }
    });
    let error = failure(&format!("redis://{old}")).await;
    let ConnectError::TooOld { at, version } = &error else { panic!("{error:?}") };
    assert_eq!(*at, old.to_string());
    assert!(version.starts_with("6.0."), "{version}");
}

#[tokio::test]
async fn braces_in_a_prefix_are_refused() {
    let server = Server::start();
    for prefix in ["{app}", "a\n"] {
        let settings = Settings::url(&server.url()).unwrap().prefix(prefix);
        let error = Redis::connect(settings).await.unwrap_err();
        assert!(matches!(error, ConnectError::Prefix), "{error:?}");
    }
}

/// What the crate's documentation says that a user of ours must be allowed.
const ACL: &str = include_str!("../../acl.txt");

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_password_and_a_user_with_few_rights_are_enough() {
    let server = Server::start_with(&["--requirepass", "r:ght"]);
    let mut command = vec!["acl", "setuser", "sig", "on", ">p@ss"];
    command.extend(ACL.split_whitespace());
    assert_eq!(server.cli(&command), "OK");
    let port = server.port();
    for (n, credentials) in [":r%3Aght", "sig:p%40ss"].into_iter().enumerate() {
        let url = format!("redis://{credentials}@127.0.0.1:{port}");
        let (a, b) = (Node::start(&url).await, Node::start(&url).await);
        let names = [format!("ann-{n}"), format!("bob-{n}")];
        let (mut ann, mut bob, session) = pair(&a, &b, names.each_ref().map(String::as_str)).await;
        talk(&mut ann, &mut bob, &session, "hello").await;
        drop(bob);
        ann.expect("partner-disconnected").await;
        let log = server.cli(&["acl", "log"]);
        assert_eq!(log, "", "denied");
        let _ = a.relay.shutdown(Duration::from_secs(5)).await;
        let _ = b.relay.shutdown(Duration::from_secs(5)).await;
    }
}
