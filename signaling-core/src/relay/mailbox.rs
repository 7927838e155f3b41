//! What waits for one connection: the one queue in front of its client, bounded.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Context,
};

use futures::task::AtomicWaker;

use crate::{
    config::Config,
    connection::DisconnectReason,
    frame::Text,
    ice::IceServers,
    id::SessionId,
    notice::{Notice, Pair},
    session::SessionRecord,
};

/// Something for a connection, handled when its client can take what follows from it.
#[derive(Debug)]
pub(super) enum Mail {
    /// A message for the client.
    Send(Text),
    /// Another connection or the host has something to say.
    Notice(Notice),
    /// The store has the connection now, and the user is in these sessions.
    Admitted { epoch: u64, records: Vec<Arc<SessionRecord>> },
    /// A session as the store has it.
    Record { record: Arc<SessionRecord>, looked_up: bool },
    /// A session that the client left could not be ended.
    LeaveFailed(SessionId),
    /// The client's ICE servers; none where they are not to be had now.
    IceServers(Option<IceServers>),
    /// The signal with this number could not be handed on.
    Undelivered { session: SessionId, pair: Pair, number: u64 },
    /// Notices to this node may be lost.
    NoticesLost,
    /// The store knows something else than this connection.
    Doubt,
    /// The store has lost its records.
    StoreEmptied,
}

impl Mail {
    fn bytes(&self) -> usize {
        match self {
            Self::Send(text) => text.len(),
            Self::Notice(Notice::Signal(signal)) => signal.text.len(),
            _ => 0,
        }
    }
}

/// The bounds: a mailbox that would exceed one closes the connection with 4413.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    messages: usize,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Mailbox {
    bounds: Bounds,
    queue: Mutex<Queue>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    mails: VecDeque<Mail>,
    bytes: usize,
    closing: Option<DisconnectReason>,
}

impl Mailbox {
    pub(super) fn new(config: &Config) -> Self {
        let bounds =
            Bounds { messages: config.max_queued_messages, bytes: config.max_queued_bytes };
        // As much as one that was emptied keeps; what the first mail would make is four times that.
        let queue = Queue { mails: VecDeque::with_capacity(1), ..Queue::default() };
        Self { bounds, queue: Mutex::new(queue), waker: AtomicWaker::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `mail`. A mailbox that is closing drops it: whoever cares learns of the end by the
    /// session's record.
    pub(super) fn push(&self, mail: Mail) {
        let _ = self.offer(mail);
    }

    /// Like [`Self::push`]; false when the mailbox was closing already.
    #[must_use]
    pub(super) fn offer(&self, mail: Mail) -> bool {
        let mut queue = self.queue();
        if queue.closing.is_some() {
            return false;
        }
        let bytes = queue.bytes + mail.bytes();
        if queue.mails.len() >= self.bounds.messages || bytes > self.bounds.bytes {
            queue.closing = Some(DisconnectReason::ReadsTooSlowly);
        } else {
            queue.bytes = bytes;
            queue.mails.push_back(mail);
        }
        drop(queue);
        self.waker.wake();
        true
    }

    /// Asks for the connection's end, ahead of everything queued. The first reason counts.
    pub(super) fn close(&self, reason: DisconnectReason) {
        let mut queue = self.queue();
        queue.closing.get_or_insert(reason);
        drop(queue);
        self.waker.wake();
    }

    /// Why the connection is to end, once it is.
    pub(super) fn closing(&self) -> Option<DisconnectReason> {
        self.queue().closing
    }

    pub(super) fn pop(&self) -> Option<Mail> {
        let mut queue = self.queue();
        let mail = queue.mails.pop_front()?;
        queue.bytes -= mail.bytes();
        if queue.mails.is_empty() {
            queue.mails.shrink_to(1);
        }
        Some(mail)
    }

    /// Empties the queue of a connection that has ended.
    pub(super) fn take(&self) -> VecDeque<Mail> {
        let mut queue = self.queue();
        queue.bytes = 0;
        std::mem::take(&mut queue.mails)
    }

    /// Has the task of `cx` woken by the next [`Self::push`] or [`Self::close`].
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> Mailbox {
        let mut config = Config::default();
        (config.max_queued_messages, config.max_queued_bytes) = (3, 10);
        Mailbox::new(&config)
    }

    #[test]
    fn mail_comes_out_in_order() {
        let mailbox = mailbox();
        mailbox.push(Mail::Send("a".into()));
        mailbox.push(Mail::Send("b".into()));
        assert!(matches!(mailbox.pop(), Some(Mail::Send(text)) if text.as_str() == "a"));
        assert!(matches!(mailbox.pop(), Some(Mail::Send(text)) if text.as_str() == "b"));
        assert!(mailbox.pop().is_none());
    }

    #[test]
    fn one_message_too_many_closes() {
        let mailbox = mailbox();
        for _ in 0..3 {
            mailbox.push(Mail::Send("a".into()));
        }
        assert_eq!(mailbox.closing(), None);
        mailbox.push(Mail::Send("a".into()));
        assert_eq!(mailbox.closing(), Some(DisconnectReason::ReadsTooSlowly));
    }

    #[test]
    fn one_byte_too_many_closes() {
        let mailbox = mailbox();
        mailbox.push(Mail::Send("0123456789".into()));
        assert_eq!(mailbox.closing(), None);
        mailbox.push(Mail::Send("x".into()));
        assert_eq!(mailbox.closing(), Some(DisconnectReason::ReadsTooSlowly));
    }

    #[test]
    fn what_was_read_no_longer_counts() {
        let mailbox = mailbox();
        for _ in 0..100 {
            mailbox.push(Mail::Send("0123456789".into()));
            assert!(mailbox.pop().is_some());
        }
        assert_eq!(mailbox.closing(), None);
    }

    #[test]
    fn the_first_reason_counts() {
        let mailbox = mailbox();
        mailbox.close(DisconnectReason::Replaced);
        mailbox.close(DisconnectReason::ShuttingDown);
        assert_eq!(mailbox.closing(), Some(DisconnectReason::Replaced));
    }
}
