//! The floor for tokio-tungstenite: the same forwarder without axum.
//!
//! `contender-tungstenite <port>`; the first two connections to `/{room}` get what the other sends.

use std::{env, error::Error};

use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::WebSocketConfig,
    },
};

mod forward;

use forward::{Rooms, forward};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).ok_or("a port")?.parse::<u16>()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let rooms = Rooms::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(serve(socket, rooms.clone()));
    }
}

#[expect(clippy::result_large_err, reason = "the library has it so")]
async fn serve(socket: TcpStream, rooms: Rooms<Message>) {
    let mut room = String::new();
    let read_room = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut room);
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096);
    let accepted = accept_hdr_async_with_config(socket, read_room, Some(config)).await;
    if let Ok(socket) = accepted {
        forward(socket, rooms.join(room), Message::is_text).await;
    }
}
