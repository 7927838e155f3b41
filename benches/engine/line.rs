//! The least that can stand between a client and a relay: two queues in memory.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{Sink, Stream};
use signaling_core::frame::{Frame, Text, TransportError};

/// The relay's end.
pub(crate) struct Transport(Arc<Line>);

/// The client's end.
pub(crate) struct Client(Arc<Line>);

#[derive(Default)]
struct Line(Mutex<State>);

#[derive(Default)]
struct State {
    to_relay: VecDeque<Frame>,
    to_client: VecDeque<Frame>,
    relay: Option<Waker>,
    client: Option<Waker>,
}

/// A new connection. Its queues are as long as what is left in them.
pub(crate) fn line() -> (Transport, Client) {
    let line = Arc::new(Line::default());
    (Transport(line.clone()), Client(line))
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the task of `cx` woken by whoever takes `waker`.
fn register(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

impl Client {
    pub(crate) fn say(&self, frame: Frame) {
        let mut state = self.0.state();
        state.to_relay.push_back(frame);
        if let Some(waker) = state.relay.take() {
            waker.wake();
        }
    }

    /// The next frame.
    pub(crate) async fn hear(&self) -> Frame {
        poll_fn(|cx| {
            let mut state = self.0.state();
            match state.to_client.pop_front() {
                Some(frame) => Poll::Ready(frame),
                None => {
                    register(&mut state.client, cx);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next frame, which must be a message of the type `kind`.
    pub(crate) async fn expect(&self, kind: &str) -> Text {
        match self.hear().await {
            Frame::Text(text) if is(&text, kind) => text,
            other => panic!("{kind} was expected, not {other:?}"),
        }
    }
}

/// Whether `text` begins as all messages of the type `kind` do that are written here.
pub(crate) fn is(text: &str, kind: &str) -> bool {
    let after = text.strip_prefix(r#"{"type":""#).and_then(|text| text.strip_prefix(kind));
    after.is_some_and(|after| after.starts_with('"'))
}

impl Stream for Transport {
    type Item = Result<Frame, TransportError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.state();
        match state.to_relay.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => {
                register(&mut state.relay, cx);
                Poll::Pending
            }
        }
    }
}

impl Sink<Frame> for Transport {
    type Error = TransportError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), TransportError> {
        self.0.state().to_client.push_back(frame);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if let Some(waker) = self.0.state().client.take() {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.poll_flush(cx)
    }
}
