//! The endpoint suite against [`websocket::Endpoint`] on plain hyper.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use signaling_core::{
    testing::endpoint::{Endpoint, Hosted, PANIC, Setup, Unsupported},
    websocket,
};
use tokio::net::TcpListener;

async fn start(setup: Setup) -> Result<Box<dyn Endpoint>, Unsupported> {
    let relay = setup.relay().await;
    let endpoint = setup.endpoint(&relay);
    // It looks at no path, so it is beneath any.
    let prefix = setup.prefix.map(|prefix| format!("/{prefix}")).unwrap_or_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}{prefix}/ws/signaling", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let endpoint = endpoint.clone();
            let service = service_fn(move |request| handle(endpoint.clone(), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    Ok(Box::new(Hosted::new(relay, url).panicking_at("/panic")))
}

async fn handle(
    endpoint: websocket::Endpoint,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_ne!(request.uri().path(), "/panic", "{PANIC}");
    let (head, _) = request.into_parts();
    Ok(endpoint.answer(head).await.map(Full::from))
}

signaling_core::endpoint_tests!(start);
