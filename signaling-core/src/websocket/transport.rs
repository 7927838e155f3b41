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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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

pub(super) struct Transport {
    socket: Socket,
    /// The peer broke the rules: what else it sent cannot be understood, and may be on its way.
    broken: bool,
    shut_down: bool,
}

impl Transport {
    pub(super) async fn new(upgraded: Upgraded, config: WebSocketConfig) -> Self {
        let (io, role) = (ReadAhead::new(TokioIo::new(upgraded)), protocol::Role::Server);
        Self {
            socket: Socket::from_raw_socket(io, role, Some(config)).await,
            broken: false,
            shut_down: false,
        }
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
            let next = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(message)) => match frame(message) {
                    Some(frame) => Some(frame),
                    None => continue,
                },
                Some(Err(cause)) => Some(Err(error(cause))),
                None => None,
            };
            if let Some(Err(error)) = &next {
                self.broken = error.close_code().is_some();
            }
            return Poll::Ready(next);
        }
    }
}

impl Sink<Frame> for Transport {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.socket).poll_ready(cx).map_err(error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
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
