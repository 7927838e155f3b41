//! The floor for axum: a WebSocket forwarder for two that parses nothing and checks nothing.
//!
//! `contender-axum <port>`; the first two connections to `/{room}` get what the other one sends.

use std::{env, error::Error};

use axum::{
    Router,
    extract::{
        Path, State,
        ws::{Message, WebSocketUpgrade},
    },
    response::Response,
    routing::get,
    serve::ListenerExt,
};
use tokio::net::TcpListener;

mod forward;
mod rooms;

use forward::forward;
use rooms::Rooms;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).ok_or("a port")?.parse::<u16>()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let app = Router::new().route("/{room}", get(join)).with_state(Rooms::new());
    axum::serve(listener, app).await?;
    Ok(())
}

async fn join(
    State(rooms): State<Rooms<Message>>,
    Path(room): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.read_buffer_size(4096).write_buffer_size(4096).on_upgrade(async move |socket| {
        let is_text = |message: &Message| matches!(message, Message::Text(_));
        forward(socket, rooms.join(room), is_text).await;
    })
}
