//! Two nodes, one Redis, and a call across them, from match to hang-up.
//!
//! ```text
//! cargo run -p two-nodes
//! ```
//!
//! It starts a `redis-server`, which must be installed, and two nodes. In a deployment each node is a
//! process of its own, behind a load balancer; here both are in one process, and share nothing but
//! Redis all the same. Ann is on the one, Bob on the other.

use std::{
    error::Error,
    io::{self, Write},
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use async_trait::async_trait;
use axum::serve::ListenerExt;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use signaling_core::{
    Relay,
    auth::{AuthError, Authenticator, Credentials, Identity},
    id::UserId,
};
use signaling_redis::{Redis, Settings};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    process::{Child, Command},
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};
use tracing_appender::non_blocking::NonBlocking;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// For everything that a client waits for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Written by a thread of its own: a reader who has gone, or does not read, holds nothing up.
static OUT: OnceLock<NonBlocking> = OnceLock::new();

fn say(line: &str) {
    if let Some(mut out) = OUT.get().cloned() {
        let _ = out.write_all(format!("{line}\n").as_bytes());
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (out, _flushed_when_dropped) = tracing_appender::non_blocking(io::stdout());
    let _ = OUT.set(out);
    let (mut redis, _reserved, url) = start_redis()?;
    let (one, url_one) = start_node("one", &url).await?;
    let (two, url_two) = start_node("two", &url).await?;
    let mut ann = User::connect("ann", &url_one).await?;
    let mut bob = User::connect("bob", &url_two).await?;

    // The first one makes the offer. Any node may say who is matched.
    let session = two.open_session(&UserId::new("ann")?, &UserId::new("bob")?).await?;
    say(&format!("matched: session {session}"));
    ann.hears("match-found").await?;
    bob.hears("match-found").await?;

    ann.says(&json!({"type": "offer", "sessionId": session, "sdp": "v=0 …"})).await?;
    bob.hears("offer").await?;
    bob.says(&json!({"type": "answer", "sessionId": session, "sdp": "v=0 …"})).await?;
    ann.hears("answer").await?;
    let candidate = json!({"candidate": "candidate:1 1 udp …", "sdpMLineIndex": 0});
    let candidate = json!({"type": "ice-candidate", "sessionId": session, "candidate": candidate});
    ann.says(&candidate).await?;
    bob.hears("ice-candidate").await?;
    bob.says(&candidate).await?;
    ann.hears("ice-candidate").await?;

    say("ann's connection breaks");
    drop(ann);
    bob.hears("partner-disconnected").await?;
    drop(bob);

    for node in [one, two] {
        let _ = node.shutdown(Duration::from_secs(5)).await;
    }
    redis.kill().await?;
    say("done");
    Ok(())
}

/// One node: what an application adds for signaling with others beside it.
async fn start_node(name: &str, redis: &str) -> Result<(Relay, String)> {
    let redis = Redis::connect(Settings::url(redis)?).await?;
    let relay =
        Relay::builder(Names).node_name(name).store(redis.store()).bus(redis.bus()).start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/ws/signaling", listener.local_addr()?);
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    let app = signaling_axum::router(relay.clone());
    tokio::spawn(async { axum::serve(listener, app).await });
    say(&format!("node {name} at {url}"));
    Ok((relay, url))
}

/// On a port that is free; ends with the handle. The nodes try until it answers. No other process is
/// given the port while the socket is held: it is bound, but does not listen.
fn start_redis() -> Result<(Child, TcpSocket, String)> {
    let reserved = TcpSocket::new_v4()?;
    reserved.set_reuseaddr(true)?;
    reserved.bind("127.0.0.1:0".parse()?)?;
    let port = reserved.local_addr()?.port();
    let redis = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("redis-server does not start: {error}"))?;
    say(&format!("redis-server on port {port}"));
    Ok((redis, reserved, format!("redis://127.0.0.1:{port}")))
}

/// Believes everybody's name, as no deployment does: `JwtAuthenticator` is for that.
#[derive(Debug)]
struct Names;

#[async_trait]
impl Authenticator for Names {
    async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> std::result::Result<Identity, AuthError> {
        let name = credentials.token().ok_or(AuthError::Missing)?;
        UserId::new(name).map(Identity::new).map_err(AuthError::invalid)
    }
}

/// What a page does in the browser.
struct User(&'static str, WebSocketStream<MaybeTlsStream<TcpStream>>);

impl User {
    async fn connect(name: &'static str, url: &str) -> Result<Self> {
        let (socket, _) = connect_async(format!("{url}?token={name}")).await?;
        Ok(Self(name, socket))
    }

    async fn says(&mut self, message: &Value) -> Result<()> {
        say(&format!("{} says  {message}", self.0));
        Ok(self.1.send(Message::text(message.to_string())).await?)
    }

    /// The next message, which is to be of that type.
    async fn hears(&mut self, kind: &str) -> Result<()> {
        loop {
            match timeout(PATIENCE, self.1.next()).await?.ok_or("the connection ended")?? {
                Message::Text(text) => {
                    say(&format!("{} hears {text}", self.0));
                    let message: Value = serde_json::from_str(&text)?;
                    return if message["type"] == kind { Ok(()) } else { Err(kind.into()) };
                }
                Message::Ping(_) => {}
                other => return Err(format!("{} got {other:?}", self.0).into()),
            }
        }
    }
}
