//! What a WebSocket forwarder does with one connection, where the library has it as a stream and sink.

use futures::{Sink, SinkExt, Stream, StreamExt};

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
                let Some(mut message) = message else { break };
                // All that waits, and one flush.
                let sent = loop {
                    if let Err(error) = socket.feed(message).await {
                        break Err(error);
                    }
                    message = match from_other.try_recv() {
                        Ok(next) => next,
                        Err(_) => break socket.flush().await,
                    };
                };
                if sent.is_err() {
                    break;
                }
            }
        }
    }
    let _ = socket.close().await;
}
