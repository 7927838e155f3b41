//! How a connection ends: what its transport says last waits for the pacer, then the connection is taken
//! out of the registry, and its end is submitted to its worker.

use std::{
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Sink, SinkExt, Stream, StreamExt, future::BoxFuture};
use tokio::{
    task,
    time::{self, Instant},
};

use super::{
    super::{jobs::Job, mailbox::Mail, node::Node},
    Driver,
};
use crate::{
    frame::{CloseFrame, Frame, TransportError},
    notice::Notice,
    reason::DisconnectReason,
};

/// The life of a connection, as its task knows it.
pub(super) enum Life {
    /// It reads and writes.
    Open,
    /// Its transport was closed or failed. It waits until the pacer has let other connections end.
    Paced(Box<Paced>),
    /// It has ended and left the registry. The next poll submits its end.
    Ended(Ended),
    /// Its end is with its worker.
    Submitted,
}

/// The last input of a transport.
pub(super) enum Last {
    Close(Option<CloseFrame>),
    Error(TransportError),
    Nothing,
}

pub(super) struct Paced {
    last: Last,
    pass: BoxFuture<'static, ()>,
}

/// How a connection has ended, and what its client is still to be told.
pub(super) struct Ended {
    pub(super) reason: DisconnectReason,
    pub(super) frame: Option<CloseFrame>,
    pub(super) unsent: Vec<Frame>,
}

/// Sends the `unsent` frames and a close frame, then reads until the peer's close frame, for at most
/// `wait`. A socket that is dropped with unread input is reset, and the peer would never see the frame.
pub(in super::super) async fn close<T, E>(
    transport: T,
    unsent: Vec<Frame>,
    frame: Option<CloseFrame>,
    wait: Duration,
) where
    T: Stream<Item = Result<Frame, E>> + Sink<Frame, Error = E>,
{
    let goodbye = async {
        let mut transport = pin!(transport);
        for frame in unsent {
            transport.feed(frame).await?;
        }
        if let Some(frame) = frame {
            transport.send(Frame::Close(Some(frame))).await?;
            while let Some(Ok(frame)) = transport.next().await {
                if matches!(frame, Frame::Close(_)) {
                    break;
                }
                // The time limit is looked at between polls only, and a transport that always has
                // another frame ready would never end this one.
                task::consume_budget().await;
            }
        }
        transport.close().await
    };
    // A peer that is gone or too slow does not get the close frame. Nobody else needs to know.
    let _ = time::timeout(wait, goodbye).await;
}

impl Driver {
    /// Ends the connection, now or when the pacer lets it.
    pub(super) fn pace_end(&mut self, last: Last) {
        let Node { end_pacer, tasks, .. } = &*self.node;
        if end_pacer.try_pass() {
            self.on_last(last);
        } else {
            self.life = Life::Paced(Box::new(Paced { last, pass: end_pacer.wait(tasks) }));
        }
    }

    /// Ready unless the connection waits for the pacer.
    #[inline]
    pub(super) fn poll_pacer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.life {
            Life::Paced(_) => self.poll_paced(cx),
            Life::Open | Life::Ended(_) | Life::Submitted => Poll::Ready(()),
        }
    }

    #[cold]
    fn poll_paced(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Life::Paced(paced) = &mut self.life {
            ready!(paced.pass.as_mut().poll(cx));
            if let Life::Paced(paced) = std::mem::replace(&mut self.life, Life::Open) {
                self.on_last(paced.last);
            }
        }
        Poll::Ready(())
    }

    fn on_last(&mut self, last: Last) {
        match last {
            Last::Close(close) => {
                self.connection.on_frame(&Frame::Close(close), Instant::now().into_std());
            }
            Last::Error(error) => {
                tracing::debug!(
                    connection = %self.handle.id,
                    error = &error as &dyn std::error::Error,
                    "transport failed"
                );
                self.connection.on_transport_error(&error);
            }
            Last::Nothing => self.connection.on_close(DisconnectReason::Lost),
        }
        let _ = self.carry_out_to_client(Self::queue);
    }

    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.life, Life::Ended(_) | Life::Submitted)
    }

    /// Closes the mailbox and leaves the registry, so that no notice reaches this connection any more. The
    /// store learns of the end later, from [`Job::End`].
    pub(super) fn end(&mut self, reason: DisconnectReason) {
        if self.has_ended() {
            return;
        }
        // The mailbox first: it refuses what comes later, and the sender acts on that. So no notice is lost
        // before the connection leaves the registry.
        self.handle.mailbox.close(reason);
        let queued = self.handle.mailbox.take();
        for mail in &queued {
            if let Mail::Notice(Notice::Ended { session, first_opening, .. }) = mail {
                self.handle.jobs.forget(session, *first_opening);
            }
        }
        let mut unsent = Vec::new();
        if reason != DisconnectReason::ReadsTooSlowly {
            unsent.extend(self.outgoing.drain(..));
            unsent.extend(queued.into_iter().filter_map(|mail| match mail {
                Mail::Send(text) => Some(Frame::Text(text)),
                _ => None,
            }));
        }
        self.node.registry.end(self.handle.id.number());
        self.handle.jobs.learn(&self.handle.id, self.connection.records());
        self.life = Life::Ended(Ended { reason, frame: self.close_frame(reason), unsent });
        // Last, since the host's subscriber may panic.
        tracing::debug!(connection = %self.handle.id, user = %self.handle.user, %reason, "disconnected");
    }

    /// The close frame for `reason`, with the host's text if there is one; none if the peer is gone.
    fn close_frame(&self, reason: DisconnectReason) -> Option<CloseFrame> {
        let said = match reason {
            DisconnectReason::ByHost | DisconnectReason::Refused => self.handle.goodbye.get(),
            _ => None,
        };
        let code = reason.close_code()?;
        Some(said.map_or_else(|| code.into(), |said| CloseFrame::new(code, said)))
    }

    /// Submits the end of a connection that has ended.
    #[inline]
    pub(super) fn submit_end(&mut self) -> Option<Ended> {
        if !matches!(self.life, Life::Ended(_)) {
            return None;
        }
        self.node.run_job(&self.handle, Job::End);
        match std::mem::replace(&mut self.life, Life::Submitted) {
            Life::Ended(ended) => Some(ended),
            Life::Open | Life::Paced(_) | Life::Submitted => None,
        }
    }
}

impl Drop for Driver {
    /// A host that drops the future midway has lost the connection.
    fn drop(&mut self) {
        if !self.has_ended() {
            self.connection.on_close(DisconnectReason::Lost);
            let _ = self.carry_out();
            // Also if a panic came between what the connection asked for and this.
            self.end(DisconnectReason::Lost);
        }
        if matches!(self.life, Life::Ended(_)) {
            // Not begun here: nobody polls any more.
            self.node.spawn_job(&self.handle, Job::End);
        }
        self.node.users.disconnected(&self.handle.user, Instant::now().into_std());
    }
}
