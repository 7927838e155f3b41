//! What one connection has to write to the store, one thing after the other, so that the
//! connection itself never waits. A steward lives while there is something to do; it is a task where it
//! has to wait.

mod admission;
mod look_up;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use futures::future::{join_all, try_join_all};
use tokio::time;

use super::{
    Node,
    background::caught,
    hooks::Newcomer,
    local::Local,
    mailbox::Mail,
    writes::{Attach, Continuity, Ending, RETRY},
};
use crate::{
    event::{DisconnectReason, EndReason},
    id::{ConnectionId, SessionId},
    notice::Notice,
    protocol::PartnerReason,
    session::SessionRecord,
    store::{Accepted, Connect, Connected, Enrolment, Replace, StoreError},
};
use admission::NotAdmitted;

/// Something to write.
#[derive(Debug)]
pub(super) enum Duty {
    /// Make the connection its user's, and attach it to the user's sessions. Its client is to be
    /// told of ICE servers, or not.
    Admit { newcomer: Newcomer, ice_servers: bool },
    /// Attach the connection to a session.
    Attach(Arc<SessionRecord>),
    /// Begin a new negotiation in a session to which the connection is attached.
    Renew(Arc<SessionRecord>),
    /// End a session that the client leaves.
    Leave(Arc<SessionRecord>),
    /// See whether all is as the connection believes, which is in these sessions.
    LookUp(Vec<Arc<SessionRecord>>),
    /// End a session that has ended before and was opened again.
    EndAgain(Arc<SessionRecord>),
    /// The connection has ended, for the reason in its mailbox: detach it everywhere.
    End,
}

#[derive(Debug)]
pub(super) struct Duties(Mutex<Agenda>);

/// What the host was told of a connection.
#[derive(Debug, Default)]
enum Admission {
    /// Nothing, and it need not be: the connection is over, and of that it was told.
    #[default]
    Untold,
    /// Nothing yet.
    Pending,
    /// That it is connected.
    Done,
}

#[derive(Debug, Default)]
struct Agenda {
    /// One of each kind at most for each session; of what concerns no session, one of each kind.
    waiting: VecDeque<Duty>,
    at_work: bool,
    admission: Admission,
    epoch: u64,
    /// The store's generation in which the connection and its sessions are known.
    generation: u64,
    /// Where the connection is attached, as far as is known; none where an attempt was made and its
    /// outcome is not.
    attached: BTreeMap<SessionId, Option<Arc<SessionRecord>>>,
    /// Sessions whose records are looked for.
    awaited: BTreeSet<SessionId>,
}

/// Before the first look for a record that is not there yet; then twice as long, up to [`RETRY`].
const FIRST_LOOK: Duration = Duration::from_millis(50);

impl Duties {
    /// None yet, for a connection of a store in its `generation`.
    pub(super) fn new(generation: u64) -> Self {
        Self(Mutex::new(Agenda { generation, ..Agenda::default() }))
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session is over: there is nothing to detach from.
    pub(super) fn forget(&self, session: &SessionId) {
        self.agenda().attached.remove(session);
    }

    /// The connection may be attached to `session`.
    pub(super) fn may_be_attached(&self, session: &SessionId) {
        self.agenda().attached.entry(session.clone()).or_insert(None);
    }

    /// What `connection`, whose duties these are, knows of where it is attached.
    pub(super) fn learn(&self, connection: &ConnectionId, records: Vec<Arc<SessionRecord>>) {
        let mut agenda = self.agenda();
        for record in records.into_iter().filter(|r| r.attached_as(connection).is_some()) {
            if let Some(Some(known)) = agenda.attached.get_mut(&record.id)
                && (known.opening, known.revision) < (record.opening, record.revision)
                && known.opening == record.opening
            {
                *known = record;
            }
        }
    }

    /// `records`, and those of other sessions to which the connection is attached, of which its client
    /// has not heard yet.
    fn with_unheard(&self, mut records: Vec<Arc<SessionRecord>>) -> Vec<Arc<SessionRecord>> {
        for record in self.agenda().attached.values().flatten() {
            if !records.iter().any(|heard| heard.id == record.id) {
                records.push(record.clone());
            }
        }
        records
    }

    fn next(&self) -> Option<Duty> {
        let mut agenda = self.agenda();
        let duty = agenda.waiting.pop_front();
        agenda.at_work = duty.is_some();
        if duty.is_none() {
            agenda.waiting = VecDeque::new();
        }
        duty
    }
}

impl Node {
    /// Has `duty` done after those that wait already.
    pub(super) fn assign(self: &Arc<Self>, local: &Arc<Local>, duty: Duty) {
        if let Some(steward) = self.steward(local, duty) {
            self.tasks.spawn(steward.work());
        }
    }

    /// The same, and begins it here: what has to wait for nothing is done when this returns. A task is made
    /// for the rest.
    pub(super) fn begin(self: &Arc<Self>, local: &Arc<Local>, duty: Duty) {
        if let Some(steward) = self.steward(local, duty) {
            let mut work = Box::pin(self.tasks.track_future(steward.work()));
            let begun = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if begun.is_pending() {
                tokio::spawn(work);
            }
        }
    }

    /// Whoever is to see to it, where nobody is at work.
    fn steward(self: &Arc<Self>, local: &Arc<Local>, duty: Duty) -> Option<Steward> {
        let mut agenda = local.duties.agenda();
        match &duty {
            Duty::LookUp(_) => agenda.waiting.retain(|duty| !matches!(duty, Duty::LookUp(_))),
            Duty::End => agenda.waiting.retain(|duty| !matches!(duty, Duty::End)),
            Duty::EndAgain(again) => agenda
                .waiting
                .retain(|duty| !matches!(duty, Duty::EndAgain(r) if r.opening == again.opening)),
            Duty::Attach(newer) => agenda
                .waiting
                .retain(|duty| !matches!(duty, Duty::Attach(r) if r.opening == newer.opening)),
            Duty::Renew(newer) => agenda
                .waiting
                .retain(|duty| !matches!(duty, Duty::Renew(r) if r.opening == newer.opening)),
            Duty::Admit { .. } | Duty::Leave(_) => {}
        }
        agenda.waiting.push_back(duty);
        let idle = !std::mem::replace(&mut agenda.at_work, true);
        idle.then(|| Steward { node: self.clone(), local: local.clone() })
    }
}

/// Where a connection that has ended is still to be detached. What is left when this is dropped, because of
/// a panic or the end of the node, stays to be done.
struct Attached<'a> {
    duties: &'a Duties,
    left: BTreeMap<SessionId, Option<Arc<SessionRecord>>>,
}

impl<'a> Attached<'a> {
    fn take(duties: &'a Duties) -> Self {
        Self { duties, left: std::mem::take(&mut duties.agenda().attached) }
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        if !self.left.is_empty() {
            let attached = &mut self.duties.agenda().attached;
            for (session, record) in std::mem::take(&mut self.left) {
                attached.entry(session).or_insert(record);
            }
        }
    }
}

pub(super) struct Steward {
    pub(super) node: Arc<Node>,
    pub(super) local: Arc<Local>,
}

impl Steward {
    /// What is seldom done is boxed, so that what is done for each connection is small.
    async fn work(self) {
        let mut ended = false;
        while let Some(duty) = self.local.duties.next() {
            let end = matches!(duty, Duty::End);
            match caught(self.carry_out(duty)).await {
                Ok(()) => ended |= end,
                Err(_) => self.panicked(end).await,
            }
        }
        // Until the end is written, a late notice must find this entry: it has the reason.
        if ended {
            self.node.locals.ended(self.local.id.number());
        }
    }

    /// A connection of which it is not known any more what was written ends, and its end is written
    /// again and again.
    async fn panicked(&self, end: bool) {
        let (node, connection) = (&self.node, &self.local.id);
        if let Some(suppressed) = node.warnings.pass("panic") {
            tracing::error!(%connection, end, suppressed, "a panic while a connection's sessions were written");
        }
        if !end {
            self.local.mailbox.close(DisconnectReason::Internal);
        } else if !self.given_up().await {
            self.local.duties.agenda().waiting.push_back(Duty::End);
        }
    }

    async fn carry_out(&self, duty: Duty) {
        match duty {
            Duty::Admit { newcomer, ice_servers } => self.admit(&newcomer, ice_servers).await,
            Duty::Attach(record) => self.attach(record, Continuity::New).await,
            Duty::Renew(record) => {
                let stale = record.negotiation;
                self.attach(record, Continuity::Restart(stale)).await;
            }
            Duty::Leave(record) => self.leave(record).await,
            Duty::EndAgain(record) => self.end_again(record).await,
            Duty::LookUp(records) => Box::pin(self.look_up(records)).await,
            Duty::End => self.end().await,
        }
    }

    async fn admit(&self, newcomer: &Newcomer, ice_servers: bool) {
        match self.try_admit(newcomer, ice_servers).await {
            Ok(admitted) => self.local.mailbox.push(admitted),
            Err(not) => self.not_admitted(not),
        }
    }

    async fn try_admit(&self, newcomer: &Newcomer, ice_servers: bool) -> Result<Mail, NotAdmitted> {
        let generation = self.node.health.generation();
        let connected = match ice_servers {
            true => Box::pin(self.win_and_ask(newcomer)).await?,
            false => self.win(newcomer).await?,
        };
        self.local.duties.agenda().generation = generation;
        let attached = connected.enrolments.iter().map(|enrolment| async {
            match self.follow(enrolment).await? {
                Some(record) => self.try_attach(Arc::new(record), Continuity::New).await,
                None => Ok(None),
            }
        });
        let records = try_join_all(attached).await?.into_iter().flatten().collect();
        Ok(Mail::Admitted { epoch: connected.epoch, records })
    }

    /// The record that an enrolment of the user leads to. One that is not there yet is waited for beside
    /// this, and so is an unreadable one, until the partner has written it again or it has expired.
    async fn follow(&self, enrolment: &Enrolment) -> Result<Option<SessionRecord>, StoreError> {
        let record = match self.node.follow(&self.local.user, enrolment).await {
            Err(StoreError::Corrupt(_)) => {
                let (session, since) = (enrolment.session.clone(), self.node.now());
                self.await_record(Enrolment { session, since });
                return Ok(None);
            }
            followed => followed?,
        };
        if record.is_none() && self.node.is_opening(enrolment) {
            self.await_record(enrolment.clone());
        }
        Ok(record)
    }

    /// Looks for the record of a session that is being opened until it is there, and has the connection
    /// learn of it: the host that opens it may know of no connection, or its news may be faster than the
    /// record.
    fn await_record(&self, enrolment: Enrolment) {
        let (node, local) = (self.node.clone(), self.local.clone());
        if !local.duties.agenda().awaited.insert(enrolment.session.clone()) {
            return;
        }
        self.node.tasks.spawn(async move {
            let mut pause = FIRST_LOOK;
            while local.mailbox.closing().is_none() && node.is_opening(&enrolment) {
                if node.stopped.run_until_cancelled(time::sleep(pause)).await.is_none() {
                    break;
                }
                pause = RETRY.min(pause * 2);
                match caught(node.load_for(&local.user, &enrolment.session)).await {
                    Ok(Ok(Some(record))) => {
                        node.hand(&local.id, Notice::Opened(Arc::new(record)));
                        break;
                    }
                    Ok(Ok(None)) | Err(_) => {}
                    Ok(Err(error)) => node.health.note(&error),
                }
            }
            local.duties.agenda().awaited.remove(&enrolment.session);
        });
    }

    /// At the same time, has its ICE servers asked for.
    async fn win_and_ask(&self, newcomer: &Newcomer) -> Result<Connected, NotAdmitted> {
        let asked = async {
            self.node.ask_for_ice_servers(&self.local).await;
            Ok(())
        };
        let (connected, ()) = tokio::try_join!(self.win(newcomer), asked)?;
        Ok(connected)
    }

    fn accepted(&self) -> Accepted {
        self.node.health.accepted(self.local.accepted)
    }

    /// Claims the user for this connection, accepted at `accepted`, if `replace` allows it.
    async fn connect(
        &self,
        accepted: Accepted,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError> {
        let (node, Local { id, user, duties, .. }) = (&self.node, &*self.local);
        node.check_lease()?;
        let connect = node.store.connect(user, id, accepted, replace).await?;
        if let Connect::Done(connected) = &connect {
            duties.agenda().epoch = connected.epoch;
            if let Some(previous) = connected.previous.as_ref().filter(|previous| *previous != id) {
                node.notify(previous, Notice::Replaced);
            }
        }
        Ok(connect)
    }

    /// The record with the connection attached; none when there is nothing to attach to.
    async fn try_attach(
        &self,
        record: Arc<SessionRecord>,
        continuity: Continuity,
    ) -> Result<Option<Arc<SessionRecord>>, StoreError> {
        let Local { id, user, mailbox, duties, .. } = &*self.local;
        let session = record.id.clone();
        let epoch = {
            let mut agenda = duties.agenda();
            agenda.attached.entry(session.clone()).or_insert(None);
            agenda.epoch
        };
        match self.node.attach(record, user, id, epoch, continuity).await? {
            Attach::Done(record) => {
                duties.agenda().attached.insert(session, Some(record.clone()));
                Ok(Some(record))
            }
            Attach::Ended => {
                duties.forget(&session);
                Ok(None)
            }
            Attach::Superseded => {
                // The user's own record says which connection is the newest. If it is this one, the
                // number in the session's record is wrong, and only that session is lost to it.
                let newest = self.node.store.user(user).await?.connection;
                if newest.as_ref() == Some(id) {
                    tracing::warn!(%session, connection = %id, "not attached: the record has a higher epoch");
                    duties.forget(&session);
                } else {
                    mailbox.close(DisconnectReason::Replaced);
                }
                Ok(None)
            }
        }
    }

    async fn attach(&self, record: Arc<SessionRecord>, continuity: Continuity) {
        match self.try_attach(record.clone(), continuity).await {
            Ok(Some(record)) => {
                self.local.mailbox.push(Mail::Record { record, looked_up: false });
            }
            Ok(None) if record.revision == 0 => {
                // The news was faster than the record, or the session has ended already.
                let since = self.node.now();
                self.await_record(Enrolment { session: record.id.clone(), since });
            }
            Ok(None) => {}
            Err(error) => {
                let duty = match continuity {
                    Continuity::Restart(_) => Duty::Renew,
                    Continuity::New | Continuity::Continue(_) => Duty::Attach,
                };
                self.later("not attached yet", &error, duty(record));
            }
        }
    }

    async fn leave(&self, record: Arc<SessionRecord>) {
        let session = record.id.clone();
        let by = record.role_of(&self.local.user);
        let ending = Ending { by, ..EndReason::Left.into() };
        match self.node.end(record.clone(), ending, |_| true).await {
            // Also if the session was gone already, so that the connection knows.
            Ok(_) => {
                // Here, and not when the connection learns of it: its own end may come before that, and would
                // open the session again in a store that has lost records.
                self.local.duties.forget(&session);
                let (first_opening, reason) = (record.first_opening, PartnerReason::Ended);
                let ended = Notice::Ended { session, first_opening, reason };
                self.local.mailbox.push(Mail::Notice(ended));
            }
            Err(error) => {
                self.failed("session not ended", &error);
                self.local.mailbox.push(Mail::LeaveFailed(session));
            }
        }
    }

    async fn end_again(&self, record: Arc<SessionRecord>) {
        let ending = Ending { told: PartnerReason::Ended, ..EndReason::Left.into() };
        if let Err(error) = self.node.end(record.clone(), ending, |_| true).await {
            self.later("session not ended again yet", &error, Duty::EndAgain(record));
        }
    }

    /// Goes on until the store knows, for a connection that counts as attached for ever otherwise.
    async fn end(&self) {
        let (node, Local { id, user, duties, mailbox, .. }) = (&self.node, &*self.local);
        // None where this node does not remember the connection.
        let reason = mailbox.closing().unwrap_or(DisconnectReason::Lost);
        self.tell_end(reason);
        let mut attached = Attached::take(duties);
        let detached = attached.left.iter().map(|(session, record)| async move {
            self.detach_until_known(session, record.clone(), reason).await;
        });
        join_all(detached).await;
        attached.left.clear();
        while let Err(error) = node.store.disconnect(user, id).await {
            self.failed("not disconnected yet", &error);
            if self.given_up().await {
                return;
            }
        }
    }

    /// Detaches from one session, until the store knows or the node stops.
    async fn detach_until_known(
        &self,
        session: &SessionId,
        record: Option<Arc<SessionRecord>>,
        reason: DisconnectReason,
    ) {
        while let Err(error) = self.detach(session, record.clone(), reason).await {
            self.failed("not detached yet", &error);
            if self.given_up().await {
                return;
            }
        }
    }

    /// If the store has lost the session, it is opened again for those who come after this connection.
    async fn detach(
        &self,
        session: &SessionId,
        record: Option<Arc<SessionRecord>>,
        reason: DisconnectReason,
    ) -> Result<(), StoreError> {
        let record = match record {
            Some(record) => Some(record),
            None => self.node.load(session).await?.map(Arc::new),
        };
        let Some(record) = record else {
            return Ok(());
        };
        let Local { id, goodbye, duties, .. } = &*self.local;
        let text = goodbye.get().cloned().unwrap_or_default();
        let there = self.node.detach(record.clone(), id, reason, text).await?;
        let lost_records = match there {
            true => duties.agenda().generation != self.node.health.generation(),
            false => self.store_lost_records().await?,
        };
        let (now, patience) = (self.node.now(), self.node.config.abandon_after);
        if lost_records && let Some(left) = record.detach(id, reason.into(), now, patience) {
            // Once more if the store loses a part of it meanwhile: this connection learns of no later loss.
            loop {
                let generation = self.node.health.generation();
                Box::pin(self.open_again(&left)).await?;
                self.node.renew_lease().await?;
                if self.node.health.generation() == generation {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Waits before another attempt; true when the node stops instead.
    async fn given_up(&self) -> bool {
        self.node.stopped.run_until_cancelled(time::sleep(RETRY)).await.is_none()
    }

    /// Has `duty` done again after a while, if the connection still lives then.
    fn later(&self, what: &'static str, error: &StoreError, duty: Duty) {
        self.failed(what, error);
        let (node, local) = (self.node.clone(), self.local.clone());
        self.node.tasks.spawn(async move {
            let waited = node.stopped.run_until_cancelled(time::sleep(RETRY)).await;
            if waited.is_some() && local.mailbox.closing().is_none() {
                node.assign(&local, duty);
            }
        });
    }

    fn failed(&self, what: &'static str, error: &StoreError) {
        self.node.health.note(error);
        if let Some(suppressed) = self.node.warnings.pass(what) {
            let error = error as &dyn std::error::Error;
            tracing::warn!(connection = %self.local.id, error, suppressed, "{what}");
        }
    }
}
