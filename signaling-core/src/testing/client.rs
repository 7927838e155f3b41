//! A scripted client: a real WebSocket over TCP that says what a test tells it to, and panics where
//! the server does not answer as expected.
//!
//! Everything it reads is checked on the way: a message is one of the protocol, with exactly its
//! fields, each once.

mod dial;
mod message;

pub(super) use message::take_negotiation;
mod wire;

use std::{fmt, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{self, Instant},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Bytes, Message},
};

pub use dial::Dial;
pub use wire::{Opcode, RawFrame};

use crate::{
    frame::CloseCode,
    protocol::{Dialect, ErrorCode, ServerMessage},
    reason::PartnerReason,
};

/// How long a client waits for what it expects, unless it is told otherwise. Long, because it is
/// spent only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// One connected client. Between calls it reads nothing, so it answers no ping either.
pub struct Client {
    name: String,
    socket: WebSocketStream<TcpStream>,
    subprotocol: Option<String>,
    abandon_after: Duration,
    /// The number of the last heartbeat that asked for an ack.
    heartbeats: u64,
}

/// What a client reads, pings and pongs included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A message of the protocol.
    Text(String),
    /// The server pings; the answer is on its way.
    Ping,
    /// The answer to a ping of ours, with its payload.
    Pong(Vec<u8>),
    /// The server closes, or answers a close.
    Close(Option<(u16, String)>),
    /// Nothing more can come; why.
    End(String),
}

impl Client {
    /// Who it is in panics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls it by another name in panics from now on.
    pub fn rename(&mut self, name: impl Into<String>) {
        self.name = name.into();
    }

    /// The subprotocol that the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// What the server speaks to it.
    fn dialect(&self) -> Dialect {
        match self.subprotocol() {
            Some(Dialect::V1_SUBPROTOCOL) => Dialect::V1,
            _ => Dialect::Base,
        }
    }

    /// Waits this long for what it expects from now on, instead of [`PATIENCE`].
    pub fn set_patience(&mut self, abandon_after: Duration) {
        self.abandon_after = abandon_after;
    }

    /// Sends a text frame.
    pub async fn send(&mut self, text: impl Into<String>) {
        self.send_message(Message::text(text.into())).await;
    }

    /// Sends a text frame with this JSON.
    pub async fn send_json(&mut self, json: Value) {
        self.send(json.to_string()).await;
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: impl Into<Vec<u8>>) {
        let bytes: Vec<u8> = bytes.into();
        self.send_message(Message::binary(bytes)).await;
    }

    /// Sends a ping.
    pub async fn ping(&mut self, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        self.send_message(Message::Ping(payload)).await;
    }

    async fn send_message(&mut self, message: Message) {
        if let Err(error) = self.try_send(message).await {
            panic!("{self:?} could not send: {error}");
        }
    }

    /// Sends a text frame, as far as the server takes it: it may close at any moment.
    pub async fn send_if_possible(&mut self, text: impl Into<String>) -> bool {
        self.try_send(Message::text(text.into())).await.is_ok()
    }

    async fn try_send(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        match time::timeout(self.abandon_after, self.socket.send(message)).await {
            Ok(sent) => sent,
            Err(_) => panic!("{self:?} could not send within {:?}", self.abandon_after),
        }
    }

    /// Writes these bytes to the socket, past all that knows of frames.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let written = self.try_send_bytes(bytes).await;
        written.unwrap_or_else(|error| panic!("{self:?} could not write: {error}"));
    }

    async fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let stream = self.socket.get_mut();
        stream.write_all(bytes).await?;
        stream.flush().await
    }

    /// Sends a frame that is made by hand.
    pub async fn send_frame(&mut self, frame: &RawFrame) {
        self.send_bytes(&frame.to_bytes()).await;
    }

    /// Sends a frame that is made by hand, as far as the server takes it.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn try_send_frame(&mut self, frame: &RawFrame) -> std::io::Result<()> {
        self.try_send_bytes(&frame.to_bytes()).await
    }

    /// The next thing of any kind.
    ///
    /// # Panics
    ///
    /// When nothing comes in time, or a text is no message of the protocol.
    pub async fn next_incoming(&mut self) -> Incoming {
        self.next_by(Instant::now() + self.abandon_after).await
    }

    async fn next_by(&mut self, deadline: Instant) -> Incoming {
        let Ok(next) = time::timeout_at(deadline, self.socket.next()).await else {
            panic!("nothing came for {self:?} within {:?}", self.abandon_after);
        };
        match next {
            None => Incoming::End("the stream ended".into()),
            Some(Err(error)) => Incoming::End(error.to_string()),
            Some(Ok(Message::Text(text))) => {
                if let Err(error) = message::check(&text, self.dialect()) {
                    panic!("{self:?} got what is no message of the protocol ({error}): {text}");
                }
                Incoming::Text(text.to_string())
            }
            Some(Ok(Message::Ping(_))) => Incoming::Ping,
            Some(Ok(Message::Pong(payload))) => Incoming::Pong(payload.to_vec()),
            Some(Ok(Message::Close(frame))) => {
                let frame = frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                Incoming::Close(frame)
            }
            Some(Ok(other)) => panic!("{self:?} got a frame that no server sends: {other:?}"),
        }
    }

    /// The next thing that is neither ping nor pong.
    async fn next_significant(&mut self) -> Incoming {
        let deadline = Instant::now() + self.abandon_after;
        loop {
            match self.next_by(deadline).await {
                Incoming::Ping | Incoming::Pong(_) => {}
                other => return other,
            }
        }
    }

    /// The next message.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn next_text(&mut self) -> String {
        match self.next_significant().await {
            Incoming::Text(text) => text,
            other => panic!("{self:?} expected a message, got {other:?}"),
        }
    }

    /// Expects this very text, byte for byte, as the next message.
    pub async fn expect_text(&mut self, expected: &str) {
        match self.next_significant().await {
            Incoming::Text(text) if text == expected => {}
            other => panic!("{self:?} expected the text {expected}, got {other:?}"),
        }
    }

    /// Expects this signal of a base client as the next message: byte for byte, or with its place in the
    /// negotiation if this client negotiated `signaling.v1`.
    pub async fn expect_relayed(&mut self, sent: &str) {
        if self.dialect() == Dialect::Base {
            return self.expect_text(sent).await;
        }
        let text = self.next_text().await;
        let got: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut expected: Value = serde_json::from_str(sent).unwrap_or_default();
        for place in ["negotiation", "seq"] {
            expected[place] = got[place].clone();
        }
        assert_eq!(got, expected, "what {self:?} got");
    }

    /// Expects this JSON as the next message, in whatever order its fields are.
    pub async fn expect(&mut self, expected: Value) {
        match self.next_significant().await {
            Incoming::Text(text) if serde_json::from_str(&text).ok() == Some(expected.clone()) => {}
            other => panic!("{self:?} expected {expected}, got {other:?}"),
        }
    }

    /// Expects `match-found` as the next message.
    ///
    /// Returns the negotiation that begins, for a client that negotiated `signaling.v1`.
    pub async fn expect_match(
        &mut self,
        session: &str,
        partner: &str,
        is_initiator: bool,
    ) -> Option<String> {
        self.expect_found(json!({
            "type": "match-found",
            "sessionId": session,
            "partnerId": partner,
            "isInitiator": is_initiator,
        }))
        .await
    }

    /// Expects this `match-found` as the next message, apart from the negotiation, which is returned.
    pub async fn expect_found(&mut self, expected: Value) -> Option<String> {
        let text = self.next_text().await;
        let mut found = serde_json::from_str(&text).unwrap_or_default();
        let negotiation = take_negotiation(&mut found, self.dialect());
        assert_eq!(found, expected, "what {self:?} got");
        negotiation
    }

    /// Expects `partner-disconnected` for `reason` as the next message, as a client that negotiated
    /// `signaling.v1`.
    pub async fn expect_partner_gone(&mut self, session: &str, reason: PartnerReason) {
        let reason = reason.as_str();
        self.expect(json!({
            "type": "partner-disconnected",
            "sessionId": session,
            "reason": reason,
        }))
        .await;
    }

    /// Expects `partner-disconnected` as the next message.
    pub async fn expect_partner_disconnected(&mut self, session: &str) {
        self.expect(json!({"type": "partner-disconnected", "sessionId": session})).await;
    }

    /// Expects `error` as the next message, with the fixed text that goes with `code`.
    pub async fn expect_error(&mut self, code: ErrorCode, session: Option<&str>) {
        let session = session.map(|session| {
            session.parse().unwrap_or_else(|error| panic!("{session:?} is no session id: {error}"))
        });
        let expected = ServerMessage::error(code, session.as_ref()).to_text();
        let expected: Value =
            serde_json::from_str(&expected).expect("an error message is valid JSON");
        self.expect(expected).await;
    }

    /// Sends a heartbeat that asks for an ack, and expects that ack as the next message: the
    /// server has handled all that was sent before, and nothing else was on its way here.
    pub async fn expect_nothing(&mut self) {
        self.heartbeats += 1;
        let id = self.heartbeats;
        self.send_json(json!({"type": "heartbeat", "id": id})).await;
        self.expect(json!({"type": "heartbeat-ack", "id": id})).await;
    }

    /// All messages that were on their way here, in their order: those before the ack of a
    /// heartbeat that is sent now.
    pub async fn drain(&mut self) -> Vec<String> {
        self.heartbeats += 1;
        let ack = json!({"type": "heartbeat-ack", "id": self.heartbeats});
        let heartbeat = json!({"type": "heartbeat", "id": self.heartbeats});
        self.send_json(heartbeat).await;
        let mut texts = Vec::new();
        loop {
            let text = self.next_text().await;
            if serde_json::from_str(&text).ok().as_ref() == Some(&ack) {
                return texts;
            }
            texts.push(text);
        }
    }

    /// Expects a ping of the server before anything else, and has it answered.
    pub async fn expect_ping(&mut self) {
        match self.next_incoming().await {
            Incoming::Ping => self.flush().await,
            other => panic!("{self:?} expected a ping, got {other:?}"),
        }
    }

    /// Expects the answer to a ping, before any message.
    pub async fn expect_pong(&mut self, payload: &[u8]) {
        loop {
            match self.next_incoming().await {
                Incoming::Ping => {}
                Incoming::Pong(pong) if pong == payload => return,
                other => panic!("{self:?} expected the pong {payload:?}, got {other:?}"),
            }
        }
    }

    async fn flush(&mut self) {
        let flushed = time::timeout(self.abandon_after, self.socket.flush()).await;
        assert!(matches!(flushed, Ok(Ok(()))), "{self:?} could not flush");
    }

    /// Answers the server's pings until `span` is over.
    ///
    /// # Panics
    ///
    /// When anything else comes.
    pub async fn idle_for(&mut self, span: Duration) {
        let until = Instant::now() + span;
        while let Ok(next) = time::timeout_at(until, self.next_incoming()).await {
            assert_eq!(next, Incoming::Ping, "{self:?} expected pings only");
        }
    }

    /// Expects a close frame with `code` and its reason before any message, answers it, and
    /// expects that nothing follows.
    pub async fn expect_close(&mut self, code: CloseCode) {
        self.expect_close_for(code, code.reason()).await;
    }

    /// The same with this text in the place of the code's own.
    pub async fn expect_close_for(&mut self, code: CloseCode, reason: &str) {
        let expected = Incoming::Close(Some((code.code(), reason.to_owned())));
        match self.next_significant().await {
            other if other == expected => self.expect_end().await,
            other => panic!("{self:?} expected {expected:?}, got {other:?}"),
        }
    }

    /// Reads on, past whatever messages there are, until the close frame, which is to have `code`.
    /// Says how many messages there were.
    pub async fn expect_close_in_the_end(&mut self, code: CloseCode) -> usize {
        let expected = Incoming::Close(Some((code.code(), code.reason().to_owned())));
        let mut messages = 0;
        loop {
            match self.next_significant().await {
                Incoming::Text(_) => messages += 1,
                other if other == expected => break,
                other => panic!("{self:?} expected {expected:?} in the end, got {other:?}"),
            }
        }
        self.expect_end().await;
        messages
    }

    /// Expects that the server ends the TCP connection, with nothing before that.
    pub async fn expect_end(&mut self) {
        match self.next_significant().await {
            Incoming::End(_) => {}
            other => panic!("{self:?} expected the end, got {other:?}"),
        }
    }

    /// Waits until bytes or the end of the TCP connection are there to be read, and reads nothing:
    /// a close frame that came stays without an answer. False when neither came within `span`.
    pub async fn sense(&self, span: Duration) -> bool {
        time::timeout(span, self.socket.get_ref().peek(&mut [0])).await.is_ok()
    }

    /// Closes with code 1000, and expects the same in answer.
    pub async fn close(mut self) {
        use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode as Code};
        let frame = CloseFrame { code: Code::Normal, reason: "bye".into() };
        self.send_message(Message::Close(Some(frame))).await;
        loop {
            match self.next_significant().await {
                Incoming::Text(_) => {}
                Incoming::Close(Some((1000, _))) => break self.expect_end().await,
                other => panic!("{self:?} expected its close to be answered, got {other:?}"),
            }
        }
    }

    /// Ends the TCP connection without a close frame.
    pub async fn cut(mut self) {
        // Fails where the server was faster.
        let _ = self.socket.get_mut().shutdown().await;
    }

    /// Resets the TCP connection: the server sees an error, and no end.
    pub fn reset(self) {
        let socket = self.socket.get_ref();
        socket
            .set_zero_linger()
            .unwrap_or_else(|error| panic!("{self:?} could not set SO_LINGER: {error}"));
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {:?}", self.name)
    }
}
