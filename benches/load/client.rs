//! One client: a connection, and the texts on it.

mod dialect;
mod link;

use std::{collections::VecDeque, error::Error, net::SocketAddr};

use futures::FutureExt;
use tokio_tungstenite::tungstenite::Utf8Bytes;

pub(crate) use self::dialect::Dialect;
use self::{
    dialect::{PONG, Speech},
    link::Link,
};
use crate::contender::{Contender, Place, session};

pub(crate) struct Client {
    link: Link,
    speech: Speech,
    /// Texts that came while it read for something else.
    kept: VecDeque<Utf8Bytes>,
    /// Pings of the server that it has not answered yet, and those that it has.
    owed: u32,
    answered: u32,
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
        let path = contender.path(place);
        let link = match contender {
            Contender::Tcp => Link::tcp(at, path).await?,
            _ => Link::websocket(at, &path).await?,
        };
        let dialect = contender.dialect();
        let speech = Speech::new(dialect, place);
        let mut client = Self { link, speech, kept: VecDeque::new(), owed: 0, answered: 0 };
        match dialect {
            Dialect::Signaling | Dialect::Bare => {}
            Dialect::SocketIo => {
                client.expect("0{").await?;
                let hello = format!(r#"40{{"room":"{}"}}"#, session(place.room));
                client.write(hello.into()).await?;
                client.expect("40{").await?;
            }
            Dialect::PeerServer => client.expect(r#"{"type":"OPEN""#).await?,
            Dialect::Matchbox => client.expect(r#"{"IdAssigned":""#).await?,
        }
        Ok(client)
    }

    /// Learns that its partner is expected, where a contender says so. That somebody left who was there
    /// before is passed over.
    pub(crate) async fn expect_match(&mut self) -> Done<()> {
        if !self.speech.has_match() {
            return Ok(());
        }
        loop {
            let found = self.text().await?;
            if self.speech.is_match(&found) {
                return Ok(());
            }
            if !self.speech.is_gone(&found) {
                return Err(Unexpected(format!("no match: {found}")).into());
            }
        }
    }

    /// Whether a text that was received says that the partner is there.
    pub(crate) fn is_match(&mut self, text: &str) -> bool {
        self.speech.is_match(text)
    }

    pub(crate) async fn feed(&mut self, signal: Utf8Bytes) -> Done<()> {
        self.link.feed(self.speech.wrap(signal)?).await
    }

    pub(crate) async fn flush(&mut self) -> Done<()> {
        self.link.flush().await
    }

    pub(crate) async fn send(&mut self, signal: Utf8Bytes) -> Done<()> {
        self.feed(signal).await?;
        self.flush().await
    }

    /// The next signal, or another text of the contender as it is. Dropped midway, nothing is lost.
    pub(crate) async fn receive(&mut self) -> Done<Utf8Bytes> {
        let text = self.text().await?;
        self.speech.unwrap(text)
    }

    /// One that is there already.
    pub(crate) fn receive_ready(&mut self) -> Option<Done<Utf8Bytes>> {
        self.receive().now_or_never()
    }

    /// What keeps this client's connection, as its contender has it: a message, a ping of the WebSocket,
    /// or the answer to what the server asked; false if there was nothing to do. What came meanwhile is
    /// read, and kept.
    pub(crate) async fn heartbeat(&mut self) -> Done<bool> {
        let answered = self.answered;
        while let Some(listened) = self.listen().now_or_never() {
            self.kept.push_back(listened?.ok_or_else(ended)?);
        }
        match (self.speech.heartbeat(), self.speech.dialect) {
            (Some(heartbeat), _) => self.write(heartbeat).await.map(|()| true),
            (None, Dialect::Bare) => self.link.ping().await,
            (None, _) => Ok(self.answered > answered),
        }
    }

    /// Hangs up as the contender's clients do. The connection stays to be closed, if that was not it.
    pub(crate) async fn leave(&mut self) -> Done<()> {
        match self.speech.leave() {
            Some(leave) => self.write(leave).await,
            None => self.link.finish().await,
        }
    }

    /// Learns that its partner hung up, closed or broke off; what the partner sent before is passed over.
    pub(crate) async fn partner_gone(&mut self) -> Done<()> {
        loop {
            match self.next().await? {
                Some(text) if self.speech.is_gone(&text) => return Ok(()),
                Some(_) => {}
                // A forwarder has no other word for it.
                None if self.speech.dialect == Dialect::Bare => return Ok(()),
                None => return Err(ended()),
            }
        }
    }

    /// Breaks the connection off without a word, as the end of a process does.
    pub(crate) fn abort(self) {
        drop(self);
    }

    /// Ends the connection as a page does that is closed in order.
    pub(crate) async fn close(self) -> Done<()> {
        self.link.close().await
    }

    async fn write(&mut self, text: Utf8Bytes) -> Done<()> {
        self.link.feed(text).await?;
        self.link.flush().await
    }

    async fn expect(&mut self, start: &str) -> Done<()> {
        let text = self.text().await?;
        if !text.starts_with(start) {
            return Err(Unexpected(format!("not {start}: {text}")).into());
        }
        Ok(())
    }

    async fn text(&mut self) -> Done<Utf8Bytes> {
        self.next().await?.ok_or_else(ended)
    }

    /// None where the connection has ended in order. Dropped midway, nothing is lost.
    async fn next(&mut self) -> Done<Option<Utf8Bytes>> {
        match self.kept.pop_front() {
            Some(text) => Ok(Some(text)),
            None => self.listen().await,
        }
    }

    /// The next text on the connection; pings are answered.
    async fn listen(&mut self) -> Done<Option<Utf8Bytes>> {
        loop {
            while self.owed > 0 {
                self.link.feed(PONG.into()).await?;
                self.owed -= 1;
                self.answered += 1;
                self.link.flush().await?;
            }
            match self.link.read().await? {
                Some(text) if self.speech.is_ping(&text) => self.owed += 1,
                read => return Ok(read),
            }
        }
    }
}

fn ended() -> Box<dyn Error> {
    Unexpected("the connection ended".to_owned()).into()
}
