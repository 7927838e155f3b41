//! Reads all that a socket has at once, though its buffer is small: thousands of connections wait, each
//! with a buffer of its own, and one at a time reads.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that is read at a time: a description, or a burst of candidates.
const AT_ONCE: usize = 8 * 1024;

/// A socket, and what was read of it and not asked for yet.
#[derive(Debug)]
pub(super) struct ReadAhead<S> {
    socket: S,
    ahead: Bytes,
    /// How many bytes were handed on.
    handed_on: u64,
}

impl<S> ReadAhead<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, ahead: Bytes::new(), handed_on: 0 }
    }

    /// How many bytes were handed on so far.
    pub(super) fn handed_on(&self) -> u64 {
        self.handed_on
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, ahead, handed_on } = self.get_mut();
        let before = buf.filled().len();
        if !ahead.is_empty() {
            let some = ahead.len().min(buf.remaining());
            *handed_on += some as u64;
            buf.put_slice(&ahead[..some]);
            ahead.advance(some);
            if ahead.is_empty() {
                *ahead = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        if buf.remaining() >= AT_ONCE {
            ready!(Pin::new(socket).poll_read(cx, buf))?;
            *handed_on += (buf.filled().len() - before) as u64;
            return Poll::Ready(Ok(()));
        }
        let mut room = [MaybeUninit::uninit(); AT_ONCE];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(socket).poll_read(cx, &mut room))?;
        let (asked, rest) = room.filled().split_at(room.filled().len().min(buf.remaining()));
        *handed_on += asked.len() as u64;
        buf.put_slice(asked);
        if !rest.is_empty() {
            *ahead = Bytes::copy_from_slice(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn nothing_is_lost_or_moved_whatever_is_asked_for() {
        let sent: Vec<u8> = (0..40_000_u32).map(|n| n as u8).collect();
        for asked in [1, 300, 1024, AT_ONCE - 1, AT_ONCE, 3 * AT_ONCE] {
            let (mut far, near) = duplex(2 * AT_ONCE);
            let mut near = ReadAhead::new(near);
            let sending = tokio::spawn({
                let sent = sent.clone();
                async move { far.write_all(&sent).await }
            });
            let (mut received, mut some) = (Vec::new(), vec![0; asked]);
            loop {
                match near.read(&mut some).await.unwrap() {
                    0 => break,
                    n => received.extend_from_slice(&some[..n]),
                }
            }
            sending.await.unwrap().unwrap();
            assert!(received == sent, "{asked} at a time");
            assert_eq!(near.handed_on(), 40_000, "{asked} at a time");
        }
    }

    #[tokio::test]
    async fn one_read_takes_what_is_there_and_keeps_no_room_when_it_is_gone() {
        let (mut far, near) = duplex(AT_ONCE);
        let mut near = ReadAhead::new(near);
        far.write_all(&[7; 5000]).await.unwrap();
        let mut some = [0; 1000];
        assert_eq!(near.read(&mut some).await.unwrap(), 1000);
        assert_eq!(near.ahead.len(), 4000);
        far.write_all(&[8; AT_ONCE]).await.unwrap();
        let mut rest = [0; 4000];
        near.read_exact(&mut rest).await.unwrap();
        assert_eq!((rest, near.ahead.len()), ([7; 4000], 0));
    }
}
