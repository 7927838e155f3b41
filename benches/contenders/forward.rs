//! A bare WebSocket forwarder, where the library has a connection as a stream and sink: two in a room, each of whom
//! gets what the other one sends. Nothing is parsed and nothing is checked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// What may wait for one side.
const QUEUED: usize = 256;

/// To the other one, and from it.
pub(crate) type Side<M> = (Sender<M>, Receiver<M>);

/// Who waits for its partner, by room.
#[derive(Clone)]
pub(crate) struct Rooms<M>(Arc<Mutex<HashMap<String, Side<M>>>>);

impl<M> Rooms<M> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn join(&self, room: String) -> Side<M> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.remove(&room).unwrap_or_else(|| {
            let ((to_first, first), (to_second, second)) = (channel(QUEUED), channel(QUEUED));
            rooms.insert(room, (to_first, second));
            (to_second, first)
        })
    }
}

/// Hands on what is a text, until the socket ends or the other one has.
pub(crate) async fn forward<S, M, E>(
    mut socket: S,
    (to_other, mut from_other): Side<M>,
    is_text: fn(&M) -> bool,
) where
    S: Stream<Item = Result<M, E>> + Sink<M> + Unpin,
{
    loop {
        tokio::select! {
            received = socket.next() => match received {
                Some(Ok(message)) if is_text(&message) => {
                    if to_other.send(message).await.is_err() {
                        break;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
            message = from_other.recv() => {
                let Some(message) = message else { break };
                if write(&mut socket, message, &mut from_other).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = socket.close().await;
}

/// The same with two tasks, one for each half.
#[allow(dead_code, reason = "not in all forwarders")]
pub(crate) async fn forward_split<S, M, E>(
    socket: S,
    (to_other, mut from_other): Side<M>,
    is_text: fn(&M) -> bool,
) where
    S: Stream<Item = Result<M, E>> + Sink<M> + Send + 'static,
    M: Send + 'static,
{
    let (mut sink, mut stream) = socket.split();
    let writing = tokio::spawn(async move {
        while let Some(message) = from_other.recv().await {
            if write(&mut sink, message, &mut from_other).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    });
    while let Some(Ok(message)) = stream.next().await {
        if is_text(&message) && to_other.send(message).await.is_err() {
            break;
        }
    }
    writing.abort();
}

/// Writes all that waits, and flushes once.
async fn write<S, M>(
    sink: &mut S,
    mut message: M,
    waiting: &mut Receiver<M>,
) -> Result<(), S::Error>
where
    S: Sink<M> + Unpin,
{
    loop {
        sink.feed(message).await?;
        message = match waiting.try_recv() {
            Ok(next) => next,
            Err(_) => return sink.flush().await,
        };
    }
}
