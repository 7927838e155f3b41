//! A transport in memory, with a client at its other end, for tests on paused time.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Sink, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::frame::{CloseFrame, Frame, TransportError};

/// The server's end: a transport for [`Relay::serve`](crate::Relay::serve).
#[derive(Debug)]
pub struct Wire {
    incoming: mpsc::Receiver<Frame>,
    outgoing: PollSender<Frame>,
}

/// The client's end. Dropping it breaks the connection without a close frame.
#[derive(Debug)]
pub struct Client {
    incoming: mpsc::Receiver<Frame>,
    outgoing: mpsc::Sender<Frame>,
}

/// A connection that holds up to `capacity` frames in each direction.
#[must_use]
pub fn wire(capacity: usize) -> (Wire, Client) {
    let (to_server, from_client) = mpsc::channel(capacity);
    let (to_client, from_server) = mpsc::channel(capacity);
    (
        Wire { incoming: from_client, outgoing: PollSender::new(to_client) },
        Client { incoming: from_server, outgoing: to_server },
    )
}

fn gone() -> TransportError {
    TransportError::Lost("the client is gone".into())
}

impl Stream for Wire {
    type Item = Result<Frame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

impl Sink<Frame> for Wire {
    type Error = TransportError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        self.outgoing.poll_reserve(cx).map_err(|_| gone())
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), TransportError> {
        self.outgoing.send_item(frame).map_err(|_| gone())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}

/// What a client receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Text(String),
    /// The server's close frame.
    Closed(Option<CloseFrame>),
    /// The end of a connection that nobody closed.
    Lost,
}

impl Client {
    /// Sends a message; one to a server that is gone goes nowhere, as on any network.
    pub async fn send(&self, text: impl Into<String>) {
        let _ = self.outgoing.send(Frame::Text(text.into().into())).await;
    }

    /// Sends a close frame.
    pub async fn close(&self) {
        let _ = self.outgoing.send(Frame::Close(None)).await;
    }

    /// The next thing from the server. Pings are answered on the way. Dropping the future loses
    /// nothing.
    pub async fn receive(&mut self) -> Received {
        loop {
            match self.incoming.recv().await {
                None => return Received::Lost,
                Some(Frame::Text(text)) => return Received::Text(text.as_str().to_owned()),
                Some(Frame::Close(close)) => {
                    let _ = self.outgoing.try_send(Frame::Close(None));
                    return Received::Closed(close);
                }
                Some(Frame::Ping(payload)) => {
                    let _ = self.outgoing.try_send(Frame::Pong(payload));
                }
                Some(Frame::Pong(_) | Frame::Binary(_)) => {}
            }
        }
    }
}
