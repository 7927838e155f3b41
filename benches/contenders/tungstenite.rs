//! The floor for tokio-tungstenite: the same forwarder without axum.
//!
//! `contender-tungstenite <port>`; the first two connections to `/{room}` get what the other sends.

use std::{
    collections::HashMap,
    env,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::WebSocketConfig,
    },
};

/// What may wait for one side.
const QUEUED: usize = 256;

type Side = (Sender<Message>, Receiver<Message>);
type Rooms = Arc<Mutex<HashMap<String, Side>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).ok_or("a port")?.parse::<u16>()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let rooms = Rooms::default();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(serve(socket, rooms.clone()));
    }
}

#[expect(clippy::result_large_err, reason = "the library has it so")]
async fn serve(socket: TcpStream, rooms: Rooms) {
    let mut room = String::new();
    let read_room = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut room);
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096);
    let accepted = accept_hdr_async_with_config(socket, read_room, Some(config)).await;
    let Ok(mut socket) = accepted else { return };
    let (to_other, mut from_other) = {
        let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.remove(&room).unwrap_or_else(|| {
            let ((to_first, first), (to_second, second)) = (channel(QUEUED), channel(QUEUED));
            rooms.insert(room, (to_first, second));
            (to_second, first)
        })
    };
    loop {
        tokio::select! {
            received = socket.next() => match received {
                Some(Ok(message @ Message::Text(_))) => {
                    if to_other.send(message).await.is_err() {
                        break;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            message = from_other.recv() => {
                let Some(mut message) = message else { break };
                // All that waits, and one flush.
                let sent = loop {
                    if let Err(error) = socket.feed(message).await {
                        break Err(error);
                    }
                    message = match from_other.try_recv() {
                        Ok(next) => next,
                        Err(_) => break socket.flush().await,
                    };
                };
                if sent.is_err() {
                    break;
                }
            }
        }
    }
    let _ = socket.close(None).await;
}
