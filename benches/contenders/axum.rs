//! The floor for axum: a WebSocket forwarder for two that parses nothing and checks nothing.
//!
//! `contender-axum <port> [split]`; the first two connections to `/{room}` get what the other one sends. With `split`
//! each connection has two tasks, one for each half of the socket, as most applications have it.

use std::{env, error::Error};

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
use tokio::net::TcpListener;

mod forward;

use forward::{Rooms, Side, forward, forward_split};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let port = args.next().ok_or("a port")?.parse::<u16>()?;
    let is_split = args.next().is_some_and(|arg| arg == "split");
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let app = Router::new().route("/{room}", get(join)).with_state((Rooms::new(), is_split));
    axum::serve(listener, app).await?;
    Ok(())
}

async fn join(
    State((rooms, is_split)): State<(Rooms<Message>, bool)>,
    Path(room): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.read_buffer_size(4096).write_buffer_size(4096).on_upgrade(async move |socket| {
        serve(socket, rooms.join(room), is_split).await;
    })
}

async fn serve(socket: WebSocket, side: Side<Message>, is_split: bool) {
    let is_text = |message: &Message| matches!(message, Message::Text(_));
    if is_split {
        forward_split(socket, side, is_text).await;
    } else {
        forward(socket, side, is_text).await;
    }
}
