//! An endpoint without an adapter: any stream and sink of frames is a transport of the relay, and
//! this one is made by hand, of a WebSocket that was opened over plain hyper.
//!
//! ```sh
//! cargo run -p raw-hyper
//! ```
//!
//! Tokens are signed with your login's secret if `JWT_SECRET` has it (32 bytes or more). If not, the
//! example makes a key and says how to make tokens with it.
//!
//! Connect to `ws://127.0.0.1:3000/?token=…`; to match two users, type their ids.

#[path = "../../development_key.rs"]
mod development_key;
mod frames;

use std::{convert::Infallible, env, error::Error, future::ready, io::Write, time::Duration};

use frames::{failed, incoming, outgoing};
use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn, upgrade};
use hyper_util::rt::TokioIo;
use signaling_core::{
    Relay,
    auth::{AuthError, Client},
    frame::CloseCode,
    jwt::{Algorithm, JwtAuthenticator, JwtKey},
    protocol::Dialect,
    websocket,
};
use tokio::{
    io::{self, AsyncBufReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

/// Between attempts to accept a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = JwtKey::secret(Algorithm::HS256, development_key::jwt_secret("raw-hyper")?);
    let relay = Relay::builder(JwtAuthenticator::builder().key(key).build()?).start().await?;
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    // Written by a thread of its own: a reader who has gone, or does not read, holds nothing up.
    let (mut out, _flushed_when_dropped) = tracing_appender::non_blocking(std::io::stdout());
    let line = format!("raw-hyper listening on http://{}\n", listener.local_addr()?);
    out.write_all(line.as_bytes())?;
    tokio::spawn(serve(listener, relay.clone()));
    let mut lines = io::BufReader::new(io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (first, second) = line.split_once(' ').ok_or("two user ids, please")?;
        relay.open_session(&first.parse()?, &second.parse()?).await?;
    }
    Ok(())
}

pub(crate) async fn serve(listener: TcpListener, relay: Relay) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // All files are in use, or the client was gone already.
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let relay = relay.clone();
        let service =
            service_fn(move |request| ready(Ok::<_, Infallible>(answer(&relay, request))));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection.with_upgrades());
    }
}

fn answer<B>(relay: &Relay, request: Request<B>) -> Response<Full<Bytes>> {
    let accepted = websocket::accept(&request);
    let answer = accepted.map(|(answer, dialect)| {
        tokio::spawn(connection(relay.clone(), request.map(drop), dialect));
        answer
    });
    answer.unwrap_or_else(|refusal| *refusal).map(Full::from)
}

async fn connection(relay: Relay, request: Request<()>, dialect: Dialect) {
    let credentials = websocket::credentials(request.uri().query(), request.headers());
    let continuing = websocket::continuing(request.uri().query());
    let Ok(upgraded) = upgrade::on(request).await else { return };
    let limit = Some(relay.config().max_frame_bytes);
    let config = Some(WebSocketConfig::default().max_message_size(limit).max_frame_size(limit));
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, config).await;
    let frames = (&mut socket).map(|next| next.map(incoming).map_err(failed)).sink_map_err(failed);
    let frames = frames.with(|frame| ready(Ok(outgoing(frame))));
    match relay.authenticate(&credentials).await {
        Ok(identity) => {
            let client = Client::new(identity).speaking(dialect).continuing(continuing);
            let _ = relay.serve(frames, client).await;
        }
        Err(AuthError::Unavailable(_)) => relay.refuse(frames, CloseCode::Unavailable).await,
        Err(_) => relay.refuse(frames, CloseCode::Unauthorized).await,
    }
    // A socket that is dropped while the peer still sends is reset, and the close code lost.
    let (mut io, mut nowhere) = (socket.into_inner(), io::sink());
    let _ = io.shutdown().await;
    let _ = tokio::time::timeout(Duration::from_secs(2), io::copy(&mut io, &mut nowhere)).await;
}
