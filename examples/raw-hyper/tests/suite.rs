//! The endpoint suite, against the example's own server.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../src/main.rs"]
#[allow(dead_code, reason = "what the binary alone does is tested in call.rs")]
mod example;

use signaling_core::testing::endpoint::{Endpoint, Hosted, Setup, Unsupported};
use tokio::net::TcpListener;

async fn start(setup: Setup) -> Result<Box<dyn Endpoint>, Unsupported> {
    setup.relay_only()?;
    let relay = setup.relay().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws/signaling", listener.local_addr().unwrap());
    tokio::spawn(example::serve(listener, relay.clone()));
    Ok(Box::new(Hosted::new(relay, url)))
}

signaling_core::endpoint_tests!(start);
