//! The floor for axum: a WebSocket forwarder for two that parses nothing and checks nothing.
//!
//! `contender-axum <port>`; the first two connections to `/{room}` get what the other one sends.

use std::{
    collections::HashMap,
    env,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{
        Path, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::get,
    serve::ListenerExt,
};
use futures::{SinkExt, StreamExt};
use tokio::{
    net::TcpListener,
    sync::mpsc::{Receiver, Sender, channel},
};

/// What may wait for one side.
const QUEUED: usize = 256;

type Side = (Sender<Message>, Receiver<Message>);
type Rooms = Arc<Mutex<HashMap<String, Side>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).ok_or("a port")?.parse::<u16>()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let app = Router::new().route("/{room}", get(join)).with_state(Rooms::default());
    axum::serve(listener, app).await?;
    Ok(())
}

async fn join(
    State(rooms): State<Rooms>,
    Path(room): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.read_buffer_size(4096).write_buffer_size(4096).on_upgrade(async move |socket| {
        let side = {
            let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
            rooms.remove(&room).unwrap_or_else(|| {
                let ((to_first, first), (to_second, second)) = (channel(QUEUED), channel(QUEUED));
                rooms.insert(room, (to_first, second));
                (to_second, first)
            })
        };
        forward(socket, side).await;
    })
}

async fn forward(socket: WebSocket, (to_other, mut from_other): Side) {
    let (mut sink, mut stream) = socket.split();
    loop {
        tokio::select! {
            received = stream.next() => match received {
                Some(Ok(message @ Message::Text(_))) => {
                    if to_other.send(message).await.is_err() {
                        break;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            },
            message = from_other.recv() => {
                let Some(mut message) = message else { break };
                // All that waits, and one flush.
                let sent = loop {
                    if let Err(error) = sink.feed(message).await {
                        break Err(error);
                    }
                    message = match from_other.try_recv() {
                        Ok(next) => next,
                        Err(_) => break sink.flush().await,
                    };
                };
                if sent.is_err() {
                    break;
                }
            }
        }
    }
    let _ = sink.close().await;
}
