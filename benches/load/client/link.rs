//! The connection beneath a client: frames of a WebSocket, or lines of plain TCP.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU8, Ordering},
};

use futures::{SinkExt, StreamExt};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Bytes, Message, Utf8Bytes, protocol::WebSocketConfig},
};

use super::{Done, Unexpected};

/// Read and written at a time.
const BUFFER: usize = 4096;

/// Addresses that clients come from, in turn. Where one address has more than half of its ports in use, the
/// kernel takes long to find a free one, and the server would be waiting for its clients.
const SOURCES: u8 = 8;

async fn dial(at: SocketAddr) -> Done<TcpStream> {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let source = Ipv4Addr::new(127, 0, 0, 1 + NEXT.fetch_add(1, Ordering::Relaxed) % SOURCES);
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    // The port is chosen when it connects, so that one may be used again that has just been closed.
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind((source, 0).into())?;
    Ok(socket.connect(at).await?)
}

pub(super) enum Link {
    WebSocket(Box<WebSocketStream<TcpStream>>),
    Tcp { read: BufReader<OwnedReadHalf>, write: BufWriter<OwnedWriteHalf>, line: Vec<u8> },
}

impl Link {
    pub(super) async fn websocket(at: SocketAddr, path: &str) -> Done<Self> {
        let socket = dial(at).await?;
        let config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER);
        let url = format!("ws://{at}{path}");
        let (socket, _) = client_async_with_config(url, socket, Some(config)).await?;
        Ok(Self::WebSocket(Box::new(socket)))
    }

    /// The answer to its first line stands for the handshake.
    pub(super) async fn tcp(at: SocketAddr, first: String) -> Done<Self> {
        let socket = dial(at).await?;
        let (read, write) = socket.into_split();
        let (read, write) = (BufReader::new(read), BufWriter::new(write));
        let mut link = Self::Tcp { read, write, line: Vec::new() };
        link.feed(first.into()).await?;
        link.flush().await?;
        link.read().await?.ok_or("no answer to the first line")?;
        Ok(link)
    }

    pub(super) async fn feed(&mut self, text: Utf8Bytes) -> Done<()> {
        match self {
            Self::WebSocket(socket) => socket.feed(Message::Text(text)).await?,
            Self::Tcp { write, .. } => {
                write.write_all(text.as_bytes()).await?;
                write.write_all(b"\n").await?;
            }
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Done<()> {
        match self {
            Self::WebSocket(socket) => socket.flush().await?,
            Self::Tcp { write, .. } => write.flush().await?,
        }
        Ok(())
    }

    /// None where the connection has ended in order. Dropped midway, nothing is lost.
    pub(super) async fn read(&mut self) -> Done<Option<Utf8Bytes>> {
        match self {
            Self::WebSocket(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(Some(text)),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_))) | None => return Ok(None),
                    other => return Err(Unexpected(format!("not a text: {other:?}")).into()),
                }
            },
            Self::Tcp { read, line, .. } => {
                if read.read_until(b'\n', line).await? == 0 {
                    return Ok(None);
                }
                line.pop();
                Ok(Some(Utf8Bytes::try_from(std::mem::take(line))?))
            }
        }
    }

    /// A ping, where there is one.
    pub(super) async fn ping(&mut self) -> Done<bool> {
        match self {
            Self::WebSocket(socket) => {
                socket.send(Message::Ping(Bytes::new())).await?;
                Ok(true)
            }
            Self::Tcp { .. } => Ok(false),
        }
    }

    /// Says that it is the end; what still comes can be read.
    pub(super) async fn finish(&mut self) -> Done<()> {
        match self {
            Self::WebSocket(socket) => SinkExt::close(&mut **socket).await?,
            Self::Tcp { write, .. } => write.shutdown().await?,
        }
        Ok(())
    }

    /// Ends the connection in order.
    pub(super) async fn close(mut self) -> Done<()> {
        self.finish().await?;
        if let Self::WebSocket(socket) = &mut self {
            while let Some(Ok(_)) = socket.next().await {}
        }
        Ok(())
    }
}
