//! The floor for fastwebsockets: the same forwarder, on hyper for the handshake.
//!
//! `contender-fastwebsockets <port>`; the first two connections to `/{room}` get what the other
//! sends. The library writes each frame at once: a buffer around the socket makes one write of all
//! that waits.

use std::{env, error::Error, io::Cursor};

use fastwebsockets::{
    Frame, OpCode, Payload, Role, after_handshake_split,
    upgrade::{UpgradeFut, upgrade},
};
use http_body_util::Empty;
use hyper::{
    Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, BufWriter},
    net::{TcpListener, TcpStream},
    sync::mpsc::channel,
};

mod rooms;

use rooms::Rooms;

/// Written at a time.
const BUFFER: usize = 4096;
/// Pongs and closes that may wait for one side.
const ANSWERS: usize = 4;

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).ok_or("a port")?.parse::<u16>()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let rooms = Rooms::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let rooms = rooms.clone();
        let join = service_fn(move |request| join(request, rooms.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), join);
        tokio::spawn(connection.with_upgrades());
    }
}

async fn join(
    mut request: Request<Incoming>,
    rooms: Rooms<Frame<'static>>,
) -> Done<Response<Empty<Bytes>>> {
    let room = request.uri().path().to_owned();
    let (response, upgraded) = upgrade(&mut request)?;
    tokio::spawn(async move {
        let _ = forward(upgraded, rooms, room).await;
    });
    Ok(response)
}

/// Hands on what is a text, until the socket ends or the other one has.
async fn forward(upgraded: UpgradeFut, rooms: Rooms<Frame<'static>>, room: String) -> Done<()> {
    let upgraded = upgraded.await?.into_inner().into_inner();
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| "not a socket")?;
    let (read, write) = parts.io.into_inner().into_split();
    let read = Cursor::new(parts.read_buf).chain(read);
    let write = BufWriter::with_capacity(BUFFER, write);
    let (mut read, mut write) = after_handshake_split(read, write, Role::Server);
    let (to_other, mut from_other) = rooms.join(room);
    let (answer, mut answers) = channel(ANSWERS);

    // Neither can be dropped midway, so each goes on until one ends.
    let reading = async {
        loop {
            let frame = read.read_frame(&mut |frame| answer.send(frame)).await?;
            match (frame.opcode, frame.payload) {
                (OpCode::Text, Payload::Bytes(text)) => {
                    to_other.send(Frame::text(Payload::Bytes(text))).await?;
                }
                (OpCode::Close, _) => return Done::Ok(()),
                _ => {}
            }
        }
    };
    let writing = async {
        while let Some(mut frame) = tokio::select! {
            frame = answers.recv() => frame,
            frame = from_other.recv() => frame,
        } {
            // All that waits, and one flush.
            loop {
                write.write_frame(frame).await?;
                frame = match from_other.try_recv() {
                    Ok(next) => next,
                    Err(_) => break,
                };
            }
            write.flush().await?;
        }
        Done::Ok(())
    };
    let ended = tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    };
    write.write_frame(Frame::close_raw(Vec::new().into())).await?;
    write.flush().await?;
    ended
}
