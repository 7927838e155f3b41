//! Frames of the relay from messages of tungstenite, and back.

use signaling_core::frame::{CloseFrame, Frame, TransportError};
use tokio_tungstenite::tungstenite::{
    Message,
    error::{Error, ProtocolError},
    protocol::CloseFrame as Close,
};

pub(crate) fn incoming(message: Message) -> Frame {
    match message {
        Message::Text(text) => Frame::Text(text.as_str().into()),
        Message::Ping(bytes) => Frame::Ping(bytes),
        Message::Pong(bytes) => Frame::Pong(bytes),
        Message::Close(close) => Frame::Close(close.map(|Close { code, reason }| CloseFrame {
            code: code.into(),
            reason: reason.to_string().into(),
        })),
        other => Frame::Binary(other.into_data()),
    }
}

pub(crate) fn outgoing(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::text(text.as_str()),
        Frame::Ping(bytes) => Message::Ping(bytes),
        Frame::Pong(bytes) => Message::Pong(bytes),
        Frame::Close(close) => Message::Close(close.map(|CloseFrame { code, reason }| Close {
            code: code.into(),
            reason: reason.into_owned().into(),
        })),
        Frame::Binary(bytes) => Message::Binary(bytes),
    }
}

/// What the peer did wrong gets a close code; what the network did gets none.
pub(crate) fn failed(error: Error) -> TransportError {
    match error {
        Error::Capacity(_) => TransportError::TooLarge,
        Error::Utf8(_) => TransportError::InvalidText,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            TransportError::Lost(error.into())
        }
        Error::Protocol(_) => TransportError::Protocol(error.into()),
        _ => TransportError::Lost(error.into()),
    }
}
