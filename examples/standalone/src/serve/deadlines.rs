//! Deadlines for every wait of a plain HTTP connection on its peer. hyper has one for a request's
//! head only, which it also applies to idle connections, and none for writing a response.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Sleep},
};

/// How long a plain HTTP connection waits for its peer. A request's body and its handler have a
/// limit of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// For the first byte of the next request, or of the first.
    pub(crate) idle: Duration,
    /// For a request's head, from its first byte on.
    pub(crate) head: Duration,
    /// For a response of which nothing can be written.
    pub(crate) write: Duration,
}

/// What a connection is doing. Its service tells [`Deadlines`], which sees bytes only.
#[derive(Debug)]
pub(super) struct Progress(AtomicU8);

/// No request, or a part of its head.
const WAITING: u8 = 0;
/// A request was read to the end of its head; its handler runs.
const SERVING: u8 = 1;
/// The response is being written.
const ANSWERED: u8 = 2;
/// The response that accepts an upgrade is being written.
const UPGRADING: u8 = 3;

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(WAITING)))
    }

    /// A handler was called.
    pub(super) fn serving(&self) {
        self.set(SERVING);
    }

    /// A handler answered with `status`.
    pub(super) fn answered(&self, status: StatusCode) {
        self.set(match status {
            StatusCode::SWITCHING_PROTOCOLS => UPGRADING,
            _ => ANSWERED,
        });
    }

    // One task does all of this, so the order is that of its steps.
    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

type Timer = Option<Pin<Box<Sleep>>>;

/// A socket that fails when its peer keeps it waiting. After an upgrade it is the socket alone:
/// the relay has its own deadlines.
#[derive(Debug)]
pub(super) struct Deadlines<S> {
    socket: S,
    timeouts: Timeouts,
    /// None after an upgrade.
    progress: Option<Arc<Progress>>,
    /// The first byte of a head has come.
    in_head: bool,
    /// Runs while a request is awaited: to `timeouts.head` in a head, else to `timeouts.idle`.
    request: Timer,
    /// Runs while nothing can be written.
    write: Timer,
}

impl<S> Deadlines<S> {
    pub(super) fn new(socket: S, timeouts: Timeouts, progress: Arc<Progress>) -> Self {
        let progress = Some(progress);
        Self { socket, timeouts, progress, in_head: false, request: None, write: None }
    }

    /// Ready when the request that is awaited has not come in time.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = if self.in_head { self.timeouts.head } else { self.timeouts.idle };
        self.request.get_or_insert_with(|| Box::pin(time::sleep(limit))).as_mut().poll(cx)
    }

    /// Bytes have come.
    fn on_read(&mut self, progress: u8) {
        if progress == WAITING && !self.in_head {
            self.in_head = true;
            self.request = None;
        }
    }

    /// Passes on what came of a write, unless nothing could be written for too long.
    fn in_time<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() || self.progress.is_none() {
            self.write = None;
            return written;
        }
        let limit = self.timeouts.write;
        ready!(self.write.get_or_insert_with(|| Box::pin(time::sleep(limit))).as_mut().poll(cx));
        Poll::Ready(Err(late("the peer does not read")))
    }

    /// All that hyper had to write is written.
    fn on_flushed(&mut self, cx: &mut Context<'_>) {
        let Some(progress) = &self.progress else {
            return;
        };
        match progress.get() {
            ANSWERED => {
                progress.set(WAITING);
                self.in_head = false;
                self.request = None;
                // Begins here: after a response that took several writes hyper does not ask for
                // the next request again before something wakes it. It looks for the deadline when
                // it reads.
                let _ = self.poll_late(cx);
            }
            UPGRADING => {
                self.progress = None;
                self.request = None;
            }
            _ => {}
        }
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadlines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        let Some(progress) = self.progress.as_ref().map(|progress| progress.get()) else {
            return read;
        };
        if read.is_ready() {
            self.on_read(progress);
            return read;
        }
        if progress != WAITING {
            return Poll::Pending;
        }
        ready!(self.poll_late(cx));
        match self.in_head {
            true => Poll::Ready(Err(late("the head of a request took too long"))),
            // As if the peer had closed.
            false => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadlines<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.in_time(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.in_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        let flushed = ready!(self.in_time(flushed, cx));
        if flushed.is_ok() {
            self.on_flushed(cx);
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.in_time(shut_down, cx)
    }
}

#[cfg(test)]
mod tests;
