//! The endpoint suite, against this adapter inside a host application.
#![allow(clippy::unwrap_used, reason = "tests")]

use signaling_core::testing::endpoint::{Endpoint, Hosted, PANIC, Setup, Unsupported};
use signaling_warp::OnInvalidToken;
use tokio::net::TcpSocket;
use warp::Filter;

async fn start(setup: Setup) -> Result<Box<dyn Endpoint>, Unsupported> {
    let relay = setup.relay().await;
    let mut endpoint = signaling_warp::Endpoint::new(relay.clone());
    if let Some(origins) = setup.allowed_origins {
        endpoint = endpoint.allowed_origins(origins);
    }
    if setup.status_for_bad_tokens {
        endpoint = endpoint.on_invalid_token(OnInvalidToken::HttpStatus);
    }
    let mut signaling = endpoint.route();
    let mut path = "/ws/signaling".to_owned();
    if let Some(prefix) = setup.prefix {
        signaling = warp::path(prefix).and(signaling).boxed();
        path = format!("/{prefix}{path}");
    }
    let home = warp::path::end().map(|| "a page of the host's");
    let panics = warp::path!("panic").map(panics);
    let routes = home.or(signaling).or(panics);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_nodelay(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1024).unwrap();
    let url = format!("ws://{}{path}", listener.local_addr().unwrap());
    tokio::spawn(warp::serve(routes).incoming(listener).run());
    Ok(Box::new(Hosted::new(relay, url).panicking_at("/panic")))
}

fn panics() -> &'static str {
    panic!("{PANIC}");
}

signaling_core::endpoint_tests!(start);
