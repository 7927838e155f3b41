//! The jobs of one connection that wait, and what its worker knows of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{backoff::Backoff, hooks::Newcomer};
use crate::{
    connection::RecentEnds,
    id::{ConnectionId, SessionId},
    protocol::NegotiationId,
    session::SessionRecord,
    time::Timestamp,
};

/// Something to write for one connection.
#[derive(Debug)]
pub(super) enum Job {
    /// Make the connection its user's, and attach it to the user's sessions. Its client is to be
    /// told of ICE servers, or not.
    Admit { newcomer: Newcomer, ice_servers: bool },
    /// Attach the connection to a session, to continue that negotiation if it can.
    Attach { record: Arc<SessionRecord>, continuing: Option<NegotiationId> },
    /// Begin a new negotiation in a session to which the connection is attached.
    Renew(Arc<SessionRecord>),
    /// End a session that the client leaves.
    Leave(Arc<SessionRecord>),
    /// See whether all is as the connection believes.
    LookUp(Beliefs),
    /// End a session that has ended before and was opened again.
    EndAgain(Arc<SessionRecord>),
    /// The connection has ended, for the reason in its mailbox: detach it everywhere.
    End,
}

/// What a connection believes when it looks up.
#[derive(Debug)]
pub(super) struct Beliefs {
    /// That it is in these sessions.
    pub(super) records: Vec<Arc<SessionRecord>>,
    /// That its client can continue these negotiations.
    pub(super) continuing: Vec<(SessionId, NegotiationId)>,
    /// When the token of its client was issued; 0 if that is not known.
    pub(super) issued_at: Timestamp,
}

impl Job {
    /// Whether it makes `queued`, an earlier job of the same connection, needless.
    pub(super) fn supersedes(&self, queued: &Self) -> bool {
        match (self, queued) {
            (Self::LookUp(_), Self::LookUp(_)) | (Self::End, Self::End) => true,
            (Self::Attach { record, .. }, Self::Attach { record: older, .. })
            | (Self::Renew(record), Self::Renew(older))
            | (Self::EndAgain(record), Self::EndAgain(older)) => record.opening == older.opening,
            _ => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct JobQueue(Mutex<State>);

/// What the host was told of a connection.
#[derive(Debug, Default)]
pub(super) enum Admission {
    /// Nothing more: the host was told that the connection has ended, or is not told of it at all.
    #[default]
    Untold,
    /// Nothing yet.
    Pending,
    /// That it is connected.
    Done,
}

/// Whether the store was asked to make the connection its user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Claim {
    #[default]
    NotMade,
    /// It was, and whether it did so is not known.
    Unanswered,
    Answered,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// At most one of each kind for each session, and for the connection; see [`Job::supersedes`].
    pub(super) waiting: VecDeque<Job>,
    pub(super) running: bool,
    pub(super) admission: Admission,
    pub(super) epoch: u64,
    pub(super) claim: Claim,
    /// The user's older connection that the claim replaced, until it is told. Boxed, since there is rarely one.
    pub(super) replaced: Option<Box<ConnectionId>>,
    retries: Backoff,
    /// When jobs that failed are done again; see [`JobQueue::retry_at`].
    retry_at: Option<Instant>,
    /// The store's generation in which the connection and its sessions are known.
    pub(super) generation: u64,
    /// Where the connection is attached, as far as is known; none where an attempt was made and its
    /// outcome is not.
    pub(super) attached: BTreeMap<SessionId, Option<Arc<SessionRecord>>>,
    /// Sessions whose records are looked for.
    pub(super) awaited: BTreeSet<SessionId>,
    ended: RecentEnds,
}

impl JobQueue {
    /// None yet, for a connection of a store in its `generation`.
    pub(super) fn new(generation: u64) -> Self {
        Self(Mutex::new(State { generation, ..State::default() }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to retry a job that has just failed. Jobs that fail before then are retried at the same time, so
    /// that one failure of the store is one step of the backoff, whatever the number of sessions.
    pub(super) fn retry_at(&self) -> Instant {
        let (mut state, now) = (self.state(), Instant::now());
        match state.retry_at {
            Some(at) if at > now => at,
            _ => {
                let at = now + state.retries.next_pause();
                *state.retry_at.insert(at)
            }
        }
    }

    /// A job was done, so that the store serves again.
    pub(super) fn succeeded(&self) {
        self.state().retries.reset();
    }

    /// The session with this `first_opening` has ended: there is nothing to detach from, unless it was opened
    /// again.
    pub(super) fn forget(&self, session: &SessionId, first_opening: u64) {
        let mut state = self.state();
        let is_same = |record: &Arc<SessionRecord>| {
            record.first_opening == first_opening && record.reopened == 0
        };
        if state.attached.get(session).and_then(Option::as_ref).is_some_and(is_same) {
            state.attached.remove(session);
        }
        state.ended.add(first_opening);
    }

    /// Whether the session of `record` has ended. It may be opened again after that, by a connection that did
    /// not know, or by a look-up of this one that was under way.
    pub(super) fn has_ended(&self, record: &SessionRecord) -> bool {
        self.state().ended.contains(record.first_opening)
    }

    /// The connection is attached to no session with this id.
    pub(super) fn not_attached(&self, session: &SessionId) {
        self.state().attached.remove(session);
    }

    /// The connection may be attached to `session`.
    pub(super) fn may_be_attached(&self, session: &SessionId) {
        self.state().attached.entry(session.clone()).or_insert(None);
    }

    /// What `connection`, whose jobs these are, knows of where it is attached.
    pub(super) fn learn(&self, connection: &ConnectionId, records: Vec<Arc<SessionRecord>>) {
        let mut state = self.state();
        for record in records.into_iter().filter(|r| r.attached_as(connection).is_some()) {
            if let Some(Some(known)) = state.attached.get_mut(&record.id)
                && known.opening == record.opening
                && known.revision < record.revision
            {
                *known = record;
            }
        }
    }

    /// `records`, and those of other sessions to which the connection is attached, of which its client
    /// has not heard yet.
    pub(super) fn with_unheard(
        &self,
        mut records: Vec<Arc<SessionRecord>>,
    ) -> Vec<Arc<SessionRecord>> {
        for record in self.state().attached.values().flatten() {
            if !records.iter().any(|heard| heard.id == record.id) {
                records.push(record.clone());
            }
        }
        records
    }

    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state();
        let job = state.waiting.pop_front();
        state.running = job.is_some();
        if job.is_none() {
            state.waiting = VecDeque::new();
        }
        job
    }
}
