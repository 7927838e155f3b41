//! A WebSocket as a transport of the relay. Texts and bytes are handed on, not copied.

use std::{
    borrow::Cow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Sink, Stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes, error::ProtocolError, protocol, protocol::WebSocketConfig,
    },
};

use super::read_ahead::ReadAhead;
use crate::frame::{CloseFrame, Frame, Text, TransportError};

type Socket = WebSocketStream<ReadAhead<TokioIo<Upgraded>>>;

/// How much is thrown away at a time.
const DISCARD_BYTES: usize = 4 * 1024;
/// The largest header of a frame (RFC 6455, section 5.2).
const HEADER_BYTES: u64 = 14;
/// What a peer may send beyond its messages, each in one frame: at once, and each second. A fragment
/// is six bytes or more of that. The largest message in pieces of 125 bytes takes 3 KiB.
const EXCESS_BYTES: u64 = 64 * 1024;
const EXCESS_BYTES_PER_SECOND: u64 = 4 * 1024;

/// Messages that are looked at for the peer's close frame after ours was sent. One that sends more
/// is read on without looking.
const MESSAGES_AFTER_CLOSE: usize = 256;

pub(super) struct Transport {
    socket: Socket,
    fragments: Fragments,
    /// Messages after our close frame; none before it.
    after_close: Option<usize>,
    /// The peer broke the rules: what else it sent cannot be understood, and may be on its way.
    broken: bool,
    shut_down: bool,
}

impl Transport {
    pub(super) async fn new(upgraded: Upgraded, config: WebSocketConfig) -> Self {
        let (io, role) = (ReadAhead::new(TokioIo::new(upgraded)), protocol::Role::Server);
        Self {
            fragments: Fragments::new(config.max_message_size),
            socket: Socket::from_raw_socket(io, role, Some(config)).await,
            after_close: None,
            broken: false,
            shut_down: false,
        }
    }

    /// Counts a message that came after our close frame; whether it is one too many.
    fn is_too_late(&mut self) -> bool {
        self.after_close.as_mut().is_some_and(|messages| {
            *messages += 1;
            *messages > MESSAGES_AFTER_CLOSE
        })
    }

    /// Reads to the end without looking: a socket that is dropped with unread input is reset, and
    /// a peer that is still sending then loses the close frame. The relay limits the time.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let mut io = Pin::new(self.socket.get_mut());
        if !self.shut_down {
            ready!(io.as_mut().poll_shutdown(cx)).map_err(lost)?;
            self.shut_down = true;
        }
        let mut bytes = [0; DISCARD_BYTES];
        loop {
            let mut bytes = ReadBuf::new(&mut bytes);
            ready!(io.as_mut().poll_read(cx, &mut bytes)).map_err(lost)?;
            if bytes.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Stream for Transport {
    type Item = Result<Frame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let next = Pin::new(&mut self.socket).poll_next(cx);
            let read = self.socket.get_ref().handed_on();
            self.fragments.read(read);
            let next = match next {
                Poll::Pending if !self.fragments.too_many() => return Poll::Pending,
                Poll::Pending => Some(Err(TransportError::TooManyFrames)),
                Poll::Ready(Some(Ok(message))) => {
                    self.fragments.message(message.len());
                    match frame(message) {
                        _ if self.is_too_late() => Some(Err(TransportError::TooManyFrames)),
                        Some(frame) => Some(frame),
                        None => continue,
                    }
                }
                Poll::Ready(Some(Err(cause))) => Some(Err(error(cause))),
                Poll::Ready(None) => None,
            };
            if let Some(Err(error)) = &next {
                self.broken = error.close_code().is_some();
            }
            return Poll::Ready(next);
        }
    }
}

/// Notices a peer that sends little but the headers of fragments: a WebSocket that is read message by
/// message shows neither how many they are, nor those of a message that has no end.
struct Fragments {
    /// How many bytes were read.
    read: u64,
    /// How many of them are no messages, as far as that is known.
    excess: u64,
    /// What is not yet known to be a message may be one of this size.
    largest: u64,
    /// Until when `excess` has been paid off.
    since: Instant,
}

impl Fragments {
    fn new(largest: Option<usize>) -> Self {
        let largest = largest.map_or(u64::MAX / 2, |bytes| bytes as u64);
        Self { read: 0, excess: 0, largest, since: Instant::now() }
    }

    /// So many bytes were read by now.
    fn read(&mut self, bytes: u64) {
        self.excess += bytes - self.read;
        self.read = bytes;
    }

    /// A message came of them.
    fn message(&mut self, bytes: usize) {
        self.excess = self.excess.saturating_sub(bytes as u64 + HEADER_BYTES);
    }

    fn too_many(&mut self) -> bool {
        let most = self.largest + EXCESS_BYTES;
        if self.excess <= most {
            return false;
        }
        let (now, per_millisecond) = (Instant::now(), EXCESS_BYTES_PER_SECOND / 1000);
        let paid = now.duration_since(self.since).as_millis() as u64 * per_millisecond;
        self.excess = self.excess.saturating_sub(paid);
        self.since = now;
        self.excess > most
    }
}

impl Sink<Frame> for Transport {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.socket).poll_ready(cx).map_err(error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        if let Frame::Close(_) = frame {
            self.after_close = Some(0);
        }
        let message = message(frame)?;
        Pin::new(&mut self.socket).start_send(message).map_err(error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(error)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(Pin::new(&mut self.socket).poll_close(cx)).map_err(error)?;
        match self.broken {
            true => self.poll_discard(cx),
            false => Poll::Ready(Ok(())),
        }
    }
}

/// None for what never comes out of a socket that is read message by message.
fn frame(message: Message) -> Option<Result<Frame, TransportError>> {
    Some(Ok(match message {
        Message::Text(text) => match Text::try_from(Bytes::from(text)) {
            Ok(text) => Frame::Text(text),
            Err(_) => return Some(Err(TransportError::InvalidText)),
        },
        Message::Binary(bytes) => Frame::Binary(bytes),
        Message::Ping(bytes) => Frame::Ping(bytes),
        Message::Pong(bytes) => Frame::Pong(bytes),
        Message::Close(close) => Frame::Close(close.map(|close| CloseFrame {
            code: close.code.into(),
            reason: Cow::Owned(close.reason.as_str().to_owned()),
        })),
        Message::Frame(_) => return None,
    }))
}

fn message(frame: Frame) -> Result<Message, TransportError> {
    Ok(match frame {
        Frame::Text(text) => {
            let text = Utf8Bytes::try_from(Bytes::from(text));
            Message::Text(text.map_err(|_| TransportError::InvalidText)?)
        }
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Ping(bytes) => Message::Ping(bytes),
        Frame::Pong(bytes) => Message::Pong(bytes),
        Frame::Close(close) => Message::Close(close.map(|close| protocol::CloseFrame {
            code: close.code.into(),
            reason: match close.reason {
                Cow::Borrowed(reason) => Utf8Bytes::from_static(reason),
                Cow::Owned(reason) => reason.into(),
            },
        })),
    })
}

/// Tells what the peer did wrong from what the network did; the relay answers the former with a
/// close frame, which the WebSocket does not send by itself.
fn error(cause: Error) -> TransportError {
    match cause {
        Error::Capacity(_) => TransportError::TooLarge,
        Error::Utf8(_) => TransportError::InvalidText,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => lost(cause),
        Error::Protocol(_) => TransportError::Protocol(cause.into()),
        _ => lost(cause),
    }
}

fn lost(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TransportError {
    TransportError::Lost(cause.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time;

    use super::*;

    const LARGEST: u64 = 64 * 1024;

    /// How many bytes of fragments and nothing else are let through.
    fn let_through(fragments: &mut Fragments) -> u64 {
        let before = fragments.read;
        while !fragments.too_many() {
            fragments.read(fragments.read + 6);
        }
        fragments.read - before
    }

    #[tokio::test(start_paused = true)]
    async fn fragments_beyond_messages_are_limited_at_once_and_by_time() {
        let mut fragments = Fragments::new(Some(LARGEST as usize));
        let all = LARGEST + EXCESS_BYTES;
        assert!((all..all + 12).contains(&let_through(&mut fragments)));
        time::advance(Duration::from_secs(2)).await;
        assert!((7990..8010).contains(&let_through(&mut fragments)));
        // What was saved up over a day is no more than what there was at first, twice.
        time::advance(Duration::from_secs(86_400)).await;
        assert!(let_through(&mut fragments) < 2 * all + 12);
    }

    #[tokio::test(start_paused = true)]
    async fn whole_messages_are_not_limited_here_nor_are_the_largest_in_fair_pieces() {
        let mut fragments = Fragments::new(Some(LARGEST as usize));
        for _ in 0..100_000 {
            fragments.read(fragments.read + 8 + 200);
            fragments.message(200);
            assert!(!fragments.too_many());
        }
        for _ in 0..10 {
            for _ in 0..LARGEST / 125 {
                fragments.read(fragments.read + 6 + 125);
                assert!(!fragments.too_many());
            }
            fragments.message(LARGEST as usize);
        }
    }
}
