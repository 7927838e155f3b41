//! A room of two on socketioxide: a `signal` event goes to the other one in the room.
//!
//! `peer-socketioxide <port>`. A client names its room as it connects. As the crate's documents have
//! it: a layer of an axum application, handlers that are async functions, data as a
//! `serde_json::Value`, all settings at their defaults, and an axum listener without `TCP_NODELAY`.

use std::{env, error::Error, net::Ipv4Addr};

use axum::Router;
use serde::Deserialize;
use serde_json::Value;
use socketioxide::{
    SocketIo,
    extract::{Data, SocketRef},
};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct Place {
    room: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).ok_or("a port")?.parse::<u16>()?;
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", connected);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    axum::serve(listener, Router::new().layer(layer)).await?;
    Ok(())
}

async fn connected(socket: SocketRef, Data(Place { room }): Data<Place>) {
    socket.join(room.clone());
    let signals_to = room.clone();
    socket.on("signal", async move |socket: SocketRef, Data::<Value>(signal)| {
        let _ = socket.to(signals_to).emit("signal", &signal).await;
    });
    socket.on_disconnect(async move |socket: SocketRef| {
        let _ = socket.to(room).emit("partner-left", &()).await;
    });
}
