//! What waits for one connection: the one queue in front of its client, bounded.
//!
//! Signals are charged to the session they belong to: each session has its share of the queue (see
//! [`share`]), and a signal beyond that is refused to its sender. Anything else is charged to the
//! client itself, and closes the connection when it does not fit: the answers to what it sends. News
//! that others cause is merged, so that it does not add up (see [`merge`]).

mod merge;

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Context,
    time::Duration,
};

use futures::task::AtomicWaker;

use super::share::{self, Load};
use crate::{
    config::Config,
    connection::Refresh,
    frame::Text,
    ice::IceServers,
    id::SessionId,
    notice::{Notice, RelayedSignal},
    protocol::ErrorCode,
    reason::DisconnectReason,
    session::SessionRecord,
};

/// Something for a connection, handled when its client can take what follows from it.
#[derive(Debug)]
pub(super) enum Mail {
    /// A message for the client.
    Send(Text),
    /// Another connection or the host has something to say.
    Notice(Notice),
    /// In the place of signals that did not fit.
    Refused(Refused),
    /// The store has the connection now, and it is attached to these sessions.
    Admitted { epoch: u64, records: Vec<Arc<SessionRecord>> },
    /// A session as the store has it.
    Record { record: Arc<SessionRecord>, looked_up: bool },
    /// A session that the client left could not be ended.
    LeaveFailed(SessionId),
    /// The client's ICE servers; none where they are not to be had now.
    IceServers(Option<IceServers>),
    /// The token of a `refresh` was validated.
    Refreshed(Refresh),
    /// The node is draining: the client is to open a connection elsewhere after this time. If it is in no session,
    /// it is closed instead where that is asked for.
    Move { after: Duration, close_idle: bool },
    /// The client's signals with these numbers could not be handed on.
    Undelivered { session: SessionId, negotiation: u64, numbers: Range<u64>, code: ErrorCode },
    /// Notices to this node may be lost.
    NoticesLost,
    /// The store may know something else than this connection.
    Doubt,
}

/// Signals of one partner that did not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) session: SessionId,
    pub(super) negotiation: u64,
    pub(super) numbers: Range<u64>,
    /// Whether the sender's client numbered them, and is to send them again.
    pub(super) numbered: bool,
    /// The sender was told already.
    pub(super) reported: bool,
}

impl Mail {
    /// What counts towards the bounds. A refusal does not: between two of one session there is a
    /// signal of it that was accepted.
    fn load(&self) -> Load {
        match self {
            Self::Send(text) => Load::message(text.len()),
            Self::Notice(Notice::Signal(signal)) => Load::message(signal.text.len()),
            Self::Refused(_) => Load::default(),
            _ => Load::message(0),
        }
    }
}

#[derive(Debug)]
pub(super) struct Mailbox {
    capacity: Load,
    queue: Mutex<Queue>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    mails: VecDeque<Mail>,
    /// What signals take.
    signals: Load,
    /// What anything else takes.
    others: Load,
    /// There may be refusals of which the sender was not told.
    unreported: bool,
    /// What waits is copied. Otherwise texts are slices of their senders' read buffers, which saves a
    /// copy for a client that reads.
    copied: bool,
    closing: Option<DisconnectReason>,
    task: TaskState,
}

/// What the connection's task does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum TaskState {
    /// It waits, and is to be woken.
    #[default]
    Idle,
    /// It runs, and looks into the mailbox before it waits.
    Running,
    /// It runs, and something has come since its turn began.
    Notified,
}

impl Mailbox {
    pub(super) fn new(config: &Config) -> Self {
        let capacity =
            Load { messages: config.max_queued_messages, bytes: config.max_queued_bytes };
        // As much as one that was emptied keeps; what the first mail would make is four times that.
        let queue = Queue { mails: VecDeque::with_capacity(1), ..Queue::default() };
        Self { capacity, queue: Mutex::new(queue), waker: AtomicWaker::new() }
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
        queue.add(mail, self.capacity);
        self.notify(queue);
        true
    }

    /// Asks for the connection's end, ahead of everything queued. The first reason counts.
    pub(super) fn close(&self, reason: DisconnectReason) {
        let mut queue = self.queue();
        queue.closing.get_or_insert(reason);
        self.notify(queue);
    }

    fn notify(&self, mut queue: MutexGuard<'_, Queue>) {
        let is_idle = queue.task == TaskState::Idle;
        if !is_idle {
            queue.task = TaskState::Notified;
        }
        drop(queue);
        if is_idle {
            self.waker.wake();
        }
    }

    /// The connection's task runs. Returns why the connection is to end, once it is. Until
    /// [`Self::end_turn`], pushes do not wake the task: it causes most of them itself.
    pub(super) fn begin_turn(&self) -> Option<DisconnectReason> {
        let mut queue = self.queue();
        queue.task = TaskState::Running;
        queue.closing
    }

    /// The connection's task has nothing more to do. False if something has come since its turn began.
    #[must_use]
    pub(super) fn end_turn(&self) -> bool {
        let mut queue = self.queue();
        if queue.task == TaskState::Notified {
            return false;
        }
        queue.task = TaskState::Idle;
        true
    }

    /// Why the connection is to end, once it is.
    pub(super) fn closing(&self) -> Option<DisconnectReason> {
        self.queue().closing
    }

    pub(super) fn pop(&self) -> Option<Mail> {
        let mut queue = self.queue();
        let mail = queue.mails.pop_front()?;
        *queue.account(&mail) -= mail.load();
        if queue.mails.is_empty() {
            queue.copied = false;
            if queue.mails.capacity() > 1 {
                queue.mails.shrink_to(1);
            }
        }
        Some(mail)
    }

    /// The client takes nothing now. What waits is copied, until all of it was popped: a short text
    /// must not keep a large read buffer of its sender.
    ///
    /// Shows `report` the refusals that no sender was told of; it says of each whether it told the
    /// sender. One that it did not is told when it is its turn in the queue.
    pub(super) fn blocked(&self, mut report: impl FnMut(&Refused) -> bool) {
        let queue = &mut *self.queue();
        let copied = std::mem::replace(&mut queue.copied, !queue.mails.is_empty());
        if !std::mem::take(&mut queue.unreported) && copied {
            return;
        }
        for mail in &mut queue.mails {
            match mail {
                Mail::Notice(Notice::Signal(signal)) if !copied => {
                    signal.text = signal.text.detached();
                }
                Mail::Refused(refused) if !refused.reported => refused.reported = report(refused),
                _ => {}
            }
        }
    }

    /// Empties the queue of a connection that has ended.
    pub(super) fn take(&self) -> VecDeque<Mail> {
        let mut queue = self.queue();
        (queue.signals, queue.others) = Default::default();
        std::mem::take(&mut queue.mails)
    }

    /// Has the task of `cx` woken by the next [`Self::push`] or [`Self::close`] while it is idle.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}

impl Queue {
    /// What `mail` is charged to.
    fn account(&mut self, mail: &Mail) -> &mut Load {
        match mail {
            Mail::Notice(Notice::Signal(_)) => &mut self.signals,
            _ => &mut self.others,
        }
    }

    fn add(&mut self, mut mail: Mail, capacity: Load) {
        let load = mail.load();
        match &mut mail {
            Mail::Notice(Notice::Signal(signal)) => {
                let own = || self.held_by(signal.first_opening);
                if !share::has_room(capacity, self.signals, load, own) {
                    return self.refuse(signal);
                }
                if self.copied {
                    signal.text = signal.text.detached();
                }
                self.signals += load;
                return self.mails.push_back(mail);
            }
            Mail::Send(_) => {}
            _ => {
                let Some(rest) = self.merge(mail) else {
                    return;
                };
                mail = rest;
            }
        }
        self.others += load;
        if self.others.fits(capacity) {
            self.mails.push_back(mail);
        } else {
            self.closing = Some(DisconnectReason::ReadsTooSlowly);
        }
    }

    /// What the signals of the session with this `first_opening` take of the queue.
    fn held_by(&self, first_opening: u64) -> Load {
        let of_session = |mail: &&Mail| matches!(mail, Mail::Notice(Notice::Signal(signal)) if signal.first_opening == first_opening);
        self.mails.iter().filter(of_session).map(Mail::load).sum()
    }

    /// Leaves word in the queue that `signal` was refused.
    fn refuse(&mut self, signal: &RelayedSignal) {
        let RelayedSignal { session, negotiation, number, numbered, .. } = signal;
        let refused = Refused {
            session: session.clone(),
            negotiation: *negotiation,
            numbers: *number..number + 1,
            numbered: *numbered,
            reported: false,
        };
        self.unreported = true;
        if let Some(mail) = self.merge(Mail::Refused(refused)) {
            self.mails.push_back(mail);
        }
    }
}

#[cfg(test)]
mod tests;
