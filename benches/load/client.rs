//! One client: a connection, and the texts on it.

use std::{collections::VecDeque, error::Error, net::SocketAddr};

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
    tungstenite::{Bytes, Message, Utf8Bytes, protocol::WebSocketConfig},
};

use crate::contender::{Contender, Kind, Place, session};

/// Read and written at a time.
const BUFFER: usize = 4096;

pub(crate) struct Client {
    link: Link,
    contender: Contender,
    place: Place,
    /// What came while it read for something else.
    kept: VecDeque<Utf8Bytes>,
}

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
            return Ok(Self::new(contender, place, Link::WebSocket(Box::new(socket))));
        }
        let (read, write) = socket.into_split();
        let (read, write) = (BufReader::new(read), BufWriter::new(write));
        let mut client = Self::new(contender, place, Link::Tcp { read, write, line: Vec::new() });
        client.send(path.into()).await?;
        client.receive().await?;
        Ok(client)
    }

    fn new(contender: Contender, place: Place, link: Link) -> Self {
        Self { link, contender, place, kept: VecDeque::new() }
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
        match &mut self.link {
            Link::WebSocket(socket) => socket.feed(Message::Text(text)).await?,
            Link::Tcp { write, .. } => {
                write.write_all(text.as_bytes()).await?;
                write.write_all(b"\n").await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Done<()> {
        match &mut self.link {
            Link::WebSocket(socket) => socket.flush().await?,
            Link::Tcp { write, .. } => write.flush().await?,
        }
        Ok(())
    }

    pub(crate) async fn send(&mut self, text: Utf8Bytes) -> Done<()> {
        self.feed(text).await?;
        self.flush().await
    }

    /// The next text from the partner. Dropped midway, nothing is lost.
    pub(crate) async fn receive(&mut self) -> Done<Utf8Bytes> {
        if let Some(text) = self.kept.pop_front() {
            return Ok(text);
        }
        self.read().await?.ok_or_else(|| Unexpected("the end".to_owned()).into())
    }

    /// None where the connection has ended in order. Dropped midway, nothing is lost.
    async fn read(&mut self) -> Done<Option<Utf8Bytes>> {
        match &mut self.link {
            Link::WebSocket(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(Some(text)),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_))) | None => return Ok(None),
                    other => return Err(Unexpected(format!("not a text: {other:?}")).into()),
                }
            },
            Link::Tcp { read, line, .. } => {
                if read.read_until(b'\n', line).await? == 0 {
                    return Ok(None);
                }
                line.pop();
                Ok(Some(Utf8Bytes::try_from(std::mem::take(line))?))
            }
        }
    }

    /// A text that is there already.
    pub(crate) fn receive_ready(&mut self) -> Option<Done<Utf8Bytes>> {
        self.receive().now_or_never()
    }

    /// What keeps this client's connection, as its contender has it; false where it has nothing. What
    /// the server asked or answered meanwhile is read too, and texts are kept for [`receive`](Self::receive).
    #[allow(dead_code, reason = "no scenario of this commit has heartbeats")]
    pub(crate) async fn heartbeat(&mut self) -> Done<bool> {
        while let Some(read) = self.read().now_or_never() {
            let Some(text) = read? else { return Err(Unexpected("the end".to_owned()).into()) };
            self.kept.push_back(text);
        }
        match (self.contender.kind(), &mut self.link) {
            (Kind::Ours, _) => {
                let session = session(self.place.room);
                let heartbeat = format!(r#"{{"type":"heartbeat","sessionId":"{session}"}}"#);
                self.send(heartbeat.into()).await?;
            }
            // Answered by its server with a pong.
            (Kind::Floor | Kind::Peer, Link::WebSocket(socket)) => {
                socket.send(Message::Ping(Bytes::new())).await?;
            }
            (Kind::Floor | Kind::Peer, Link::Tcp { .. }) => return Ok(false),
        }
        Ok(true)
    }

    /// Hangs up with the contender's message for that. The connection stays, to be closed.
    pub(crate) async fn leave(&mut self) -> Done<()> {
        let session = session(self.place.room);
        let leave = format!(r#"{{"type":"leave","sessionId":"{session}"}}"#);
        self.send(leave.into()).await
    }

    /// Learns that its partner hung up, closed or broke off; what the partner sent before is passed over.
    pub(crate) async fn partner_gone(&mut self) -> Done<()> {
        loop {
            let gone = match (self.contender.kind(), self.read().await?) {
                (Kind::Ours, Some(text)) => text.starts_with(r#"{"type":"partner-disconnected""#),
                (Kind::Ours, None) => return Err(Unexpected("the end".to_owned()).into()),
                // A forwarder forwards what hangs up, and ends the connection when the other ends.
                (Kind::Floor | Kind::Peer, Some(text)) => text.starts_with(r#"{"type":"leave""#),
                (Kind::Floor | Kind::Peer, None) => true,
            };
            if gone {
                return Ok(());
            }
        }
    }

    /// Breaks the connection off without a word, as the end of a process does.
    #[allow(dead_code, reason = "no scenario of this commit breaks connections off")]
    pub(crate) fn abort(self) {
        drop(self);
    }

    /// Ends the connection as a page does that is closed in order.
    pub(crate) async fn close(mut self) -> Done<()> {
        match &mut self.link {
            Link::WebSocket(socket) => {
                SinkExt::close(&mut **socket).await?;
                while let Some(Ok(_)) = socket.next().await {}
            }
            Link::Tcp { write, .. } => write.shutdown().await?,
        }
        Ok(())
    }
}
