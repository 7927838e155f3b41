//! The wall: bytes from one TCP connection to another, without frames.
//!
//! `contender-tcp <port>`; a connection's first line names its room, and the first two in a room get
//! what the other one sends.

use std::{
    collections::HashMap,
    env,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
};

/// What is read at a time.
const BUFFER: usize = 4096;

type Rooms = Arc<Mutex<HashMap<Vec<u8>, TcpStream>>>;

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

async fn serve(mut socket: TcpStream, rooms: Rooms) {
    let mut room = Vec::new();
    loop {
        match socket.read_u8().await {
            Ok(b'\n') => break,
            Ok(byte) => room.push(byte),
            Err(_) => return,
        }
    }
    // Its answer stands for the handshake of the others.
    if socket.write_all(b"\n").await.is_err() {
        return;
    }
    let first = rooms.lock().unwrap_or_else(PoisonError::into_inner).remove(&room);
    match first {
        None => {
            rooms.lock().unwrap_or_else(PoisonError::into_inner).insert(room, socket);
        }
        Some(mut first) => {
            let _ = copy_bidirectional_with_sizes(&mut first, &mut socket, BUFFER, BUFFER).await;
        }
    }
}
