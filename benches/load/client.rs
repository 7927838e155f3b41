//! One client: a connection, and the texts on it.

use std::{error::Error, net::SocketAddr};

use futures::{FutureExt, SinkExt, StreamExt};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, Utf8Bytes, protocol::WebSocketConfig},
};

use crate::contender::{Contender, Place, session};

/// Read and written at a time.
const BUFFER: usize = 4096;

pub(crate) struct Client(Link);

enum Link {
    WebSocket(Box<WebSocketStream<TcpStream>>),
    Tcp { read: BufReader<OwnedReadHalf>, write: BufWriter<OwnedWriteHalf>, line: Vec<u8> },
}

/// What a contender does against the rules of the comparison, or an end that nobody wanted.
#[derive(Debug)]
pub(crate) struct Unexpected(pub(crate) String);

impl std::fmt::Display for Unexpected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unexpected {}

type Done<T> = Result<T, Box<dyn Error>>;

impl Client {
    /// Connects, to the end of the handshake.
    pub(crate) async fn connect(contender: Contender, at: SocketAddr, place: Place) -> Done<Self> {
        let socket = TcpStream::connect(at).await?;
        socket.set_nodelay(true)?;
        let path = contender.path(place);
        if contender.is_websocket() {
            let config =
                WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER);
            let url = format!("ws://{at}{path}");
            let (socket, _) = client_async_with_config(url, socket, Some(config)).await?;
            return Ok(Self(Link::WebSocket(Box::new(socket))));
        }
        let (read, write) = socket.into_split();
        let (read, write) = (BufReader::new(read), BufWriter::new(write));
        let mut client = Self(Link::Tcp { read, write, line: Vec::new() });
        client.send(path.into()).await?;
        client.receive().await?;
        Ok(client)
    }

    /// Learns that its partner is expected, where a contender says so.
    pub(crate) async fn expect_match(&mut self, contender: Contender, room: usize) -> Done<()> {
        if contender.matches() {
            let found = self.receive().await?;
            let expected = format!(r#"{{"type":"match-found","sessionId":"{}""#, session(room));
            if !found.starts_with(&expected) {
                return Err(Unexpected(format!("no match-found: {found}")).into());
            }
        }
        Ok(())
    }

    pub(crate) async fn feed(&mut self, text: Utf8Bytes) -> Done<()> {
        match &mut self.0 {
            Link::WebSocket(socket) => socket.feed(Message::Text(text)).await?,
            Link::Tcp { write, .. } => {
                write.write_all(text.as_bytes()).await?;
                write.write_all(b"\n").await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Done<()> {
        match &mut self.0 {
            Link::WebSocket(socket) => socket.flush().await?,
            Link::Tcp { write, .. } => write.flush().await?,
        }
        Ok(())
    }

    pub(crate) async fn send(&mut self, text: Utf8Bytes) -> Done<()> {
        self.feed(text).await?;
        self.flush().await
    }

    /// The next text. Dropped midway, nothing is lost.
    pub(crate) async fn receive(&mut self) -> Done<Utf8Bytes> {
        match &mut self.0 {
            Link::WebSocket(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(text),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => return Err(Unexpected(format!("not a text: {other:?}")).into()),
                }
            },
            Link::Tcp { read, line, .. } => {
                if read.read_until(b'\n', line).await? == 0 {
                    return Err(Unexpected("the end".to_owned()).into());
                }
                line.pop();
                Ok(Utf8Bytes::try_from(std::mem::take(line))?)
            }
        }
    }

    /// A text that is there already.
    pub(crate) fn receive_ready(&mut self) -> Option<Done<Utf8Bytes>> {
        self.receive().now_or_never()
    }

    /// Ends the connection as a page does that is closed in order.
    pub(crate) async fn close(mut self) -> Done<()> {
        match &mut self.0 {
            Link::WebSocket(socket) => {
                SinkExt::close(&mut **socket).await?;
                while let Some(Ok(_)) = socket.next().await {}
            }
            Link::Tcp { write, .. } => write.shutdown().await?,
        }
        Ok(())
    }
}
