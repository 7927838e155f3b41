//! What a WebSocket forwarder does with one connection, where the library has it as a stream and sink.

use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::mpsc::Receiver;

use crate::rooms::Side;

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
