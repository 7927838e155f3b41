//! axum's WebSocket as a transport of the relay. Texts and bytes are handed on, not copied.

use std::{
    borrow::Cow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    Error,
    extract::ws::{self, Message, Utf8Bytes, WebSocket},
};
use futures::{Sink, Stream};
use signaling_core::frame::{CloseFrame, Frame, Text, TransportError};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

pub(crate) struct Transport(pub(crate) WebSocket);

impl Stream for Transport {
    type Item = Result<Frame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.0).poll_next(cx));
        Poll::Ready(next.map(|message| frame(message.map_err(error)?)))
    }
}

impl Sink<Frame> for Transport {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        Pin::new(&mut self.0)
            .start_send(message(frame)?)
            .map_err(error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(error)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_close(cx).map_err(error)
    }
}

fn frame(message: Message) -> Result<Frame, TransportError> {
    Ok(match message {
        Message::Text(text) => {
            let text = Text::try_from(axum::body::Bytes::from(text));
            Frame::Text(text.map_err(|_| TransportError::InvalidText)?)
        }
        Message::Binary(bytes) => Frame::Binary(bytes),
        Message::Ping(bytes) => Frame::Ping(bytes),
        Message::Pong(bytes) => Frame::Pong(bytes),
        Message::Close(close) => Frame::Close(close.map(|close| CloseFrame {
            code: close.code,
            reason: Cow::Owned(close.reason.as_str().to_owned()),
        })),
    })
}

fn message(frame: Frame) -> Result<Message, TransportError> {
    Ok(match frame {
        Frame::Text(text) => {
            let text = Utf8Bytes::try_from(axum::body::Bytes::from(text));
            Message::Text(text.map_err(|_| TransportError::InvalidText)?)
        }
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Ping(bytes) => Message::Ping(bytes),
        Frame::Pong(bytes) => Message::Pong(bytes),
        Frame::Close(close) => Message::Close(close.map(|close| ws::CloseFrame {
            code: close.code,
            reason: match close.reason {
                Cow::Borrowed(reason) => Utf8Bytes::from_static(reason),
                Cow::Owned(reason) => reason.into(),
            },
        })),
    })
}

/// Tells what the peer did wrong from what the network did; the relay answers the former with a
/// close frame, which the WebSocket does not send by itself.
fn error(error: Error) -> TransportError {
    use tungstenite::Error as Cause;
    let cause = error.into_inner();
    match cause.downcast_ref::<Cause>() {
        Some(Cause::Capacity(_)) => TransportError::TooLarge,
        Some(Cause::Utf8(_)) => TransportError::InvalidText,
        Some(Cause::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
            TransportError::Lost(cause)
        }
        Some(Cause::Protocol(_)) => TransportError::Protocol(cause),
        _ => TransportError::Lost(cause),
    }
}
