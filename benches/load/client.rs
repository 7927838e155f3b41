//! One client: a connection, and the texts on it.

mod dialect;
mod link;
mod signal;

use std::{error::Error, net::SocketAddr};

use futures::FutureExt;

pub(crate) use self::{dialect::Dialect, link::Prepared, signal::Payload};
use self::{
    dialect::{PONG, Speech},
    link::{Link, Read},
    signal::signal,
};
use crate::{
    Done,
    contender::{Contender, Place, session},
};

pub(crate) struct Client {
    link: Link,
    speech: Speech,
    place: Place,
    /// Whether a signal was received: the first one tells who the partner is.
    has_heard: bool,
    /// Pings in texts that were answered.
    answered: u32,
}

/// What a client receives, beside pings.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The number of a signal.
    Signal(u32),
    Text(String),
    /// The connection ended in order.
    End,
}

impl Client {
    /// Connects, to the end of the handshake.
    pub(crate) async fn connect(contender: Contender, at: SocketAddr, place: Place) -> Done<Self> {
        let path = contender.path(place);
        let link = match contender {
            Contender::Tcp => Link::tcp(at, &path).await?,
            _ => Link::websocket(at, &path).await?,
        };
        let dialect = contender.dialect();
        let speech = Speech::new(dialect, place);
        let mut client = Self { link, speech, place, has_heard: false, answered: 0 };
        match dialect {
            Dialect::Signaling | Dialect::Bare => {}
            Dialect::SocketIo => {
                client.expect("0{").await?;
                client.link.feed(&format!(r#"40{{"room":"{}"}}"#, session(place.room)));
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
            match self.hear().await? {
                Heard::Text(text) if self.speech.is_match(&text) => return Ok(()),
                Heard::Text(text) if self.speech.is_gone(&text) => {}
                other => return Err(format!("no match: {other:?}").into()),
            }
        }
    }

    /// Whether a text that was received says that the partner is there.
    pub(crate) fn is_match(&mut self, text: &str) -> bool {
        self.speech.is_match(text)
    }

    /// A signal to its partner, to be sent as often as needed.
    pub(crate) fn prepare(&self, payload: Payload) -> Done<Prepared> {
        self.link.prepare(&self.speech.wrap(signal(self.place.room, payload))?)
    }

    pub(crate) fn feed(&mut self, signal: &Prepared, number: u32) {
        self.link.feed_signal(signal, number);
    }

    pub(crate) async fn flush(&mut self) -> Done<()> {
        self.link.flush().await
    }

    pub(crate) async fn send(&mut self, signal: &Prepared, number: u32) -> Done<()> {
        self.feed(signal, number);
        self.flush().await
    }

    /// The number of the next signal. Cancel-safe.
    pub(crate) async fn receive(&mut self) -> Done<u32> {
        number_of(self.hear().await?)
    }

    /// The number of one that was read already.
    pub(crate) fn receive_ready(&mut self) -> Done<Option<u32>> {
        self.ready()?.map(number_of).transpose()
    }

    /// Writes what was fed and waits for the next message. Cancel-safe.
    pub(crate) async fn hear(&mut self) -> Done<Heard> {
        loop {
            if let Some(heard) = self.ready()? {
                return Ok(heard);
            }
            if self.link.fill().await? == 0 {
                // A WebSocket has a close frame for an end in order.
                return if self.link.is_websocket() { Err(ended()) } else { Ok(Heard::End) };
            }
        }
    }

    /// What was read already. Pings are answered with what is written next.
    fn ready(&mut self) -> Done<Option<Heard>> {
        while let Some(read) = self.link.ready()? {
            match read {
                Read::Signal { number, text } => {
                    if !self.has_heard {
                        self.has_heard = true;
                        self.speech.learn(self.link.text(text)?);
                    }
                    return Ok(Some(Heard::Signal(number)));
                }
                Read::Text(text) => {
                    let text = self.link.text(text)?;
                    if !self.speech.is_ping(text) {
                        return Ok(Some(Heard::Text(text.to_owned())));
                    }
                    self.link.feed(PONG);
                    self.answered += 1;
                }
                Read::End => return Ok(Some(Heard::End)),
            }
        }
        Ok(None)
    }

    /// What keeps this client's connection, as its contender has it: a message, a ping of the WebSocket,
    /// or the answer to what the server asked; false if there was nothing to do.
    pub(crate) async fn heartbeat(&mut self) -> Done<bool> {
        let answered = self.answered;
        if let Some(heard) = self.hear().now_or_never() {
            return Err(format!("instead of silence: {:?}", heard?).into());
        }
        let is_alive = match (self.speech.heartbeat(), self.speech.dialect) {
            (Some(heartbeat), _) => {
                self.link.feed(&heartbeat);
                true
            }
            (None, Dialect::Bare) => self.link.ping(),
            (None, _) => self.answered > answered,
        };
        self.flush().await?;
        Ok(is_alive)
    }

    /// Hangs up as the contender's clients do. The connection stays to be closed, if that was not it.
    pub(crate) async fn leave(&mut self) -> Done<()> {
        match self.speech.leave() {
            Some(leave) => {
                self.link.feed(&leave);
                self.flush().await
            }
            None => self.link.finish().await,
        }
    }

    /// Learns that its partner hung up, closed or broke off; what the partner sent before is passed over.
    pub(crate) async fn partner_gone(&mut self) -> Done<()> {
        loop {
            match self.hear().await? {
                Heard::Text(text) if self.speech.is_gone(&text) => return Ok(()),
                Heard::Text(_) | Heard::Signal(_) => {}
                // A forwarder has no other word for it.
                Heard::End if self.speech.dialect == Dialect::Bare => return Ok(()),
                Heard::End => return Err(ended()),
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

    async fn expect(&mut self, start: &str) -> Done<()> {
        match self.hear().await? {
            Heard::Text(text) if text.starts_with(start) => Ok(()),
            other => Err(format!("not {start}: {other:?}").into()),
        }
    }
}

fn number_of(heard: Heard) -> Done<u32> {
    match heard {
        Heard::Signal(number) => Ok(number),
        Heard::Text(text) => Err(format!("no signal of ours: {text}").into()),
        Heard::End => Err(ended()),
    }
}

fn ended() -> Box<dyn Error> {
    "the connection ended".into()
}
