//! What one connection has to write to the store, one thing after the other, so that the
//! connection itself never waits. A steward lives while there is something to do; it is a task where it
//! has to wait.

mod admission;
mod restore;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use futures::{
    future::{join_all, try_join_all},
    try_join,
};
use tokio::time;

use super::{
    Node,
    background::caught,
    hooks::Newcomer,
    local::Local,
    mailbox::Mail,
    writes::{Attach, Ending, RETRY},
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
    /// Attach the connection anew to a session to which it is attached.
    Renew(Arc<SessionRecord>),
    /// End a session that the client leaves.
    Leave(Arc<SessionRecord>),
    /// See whether all is as the connection believes, which is in these sessions.
    LookUp(Vec<Arc<SessionRecord>>),
    /// End a session that has ended before and was put back; the partner is told this.
    EndAgain(Arc<SessionRecord>, PartnerReason),
    /// Put records back that the store has lost.
    Restore(Vec<Arc<SessionRecord>>),
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
    /// The store's generation in which the connection is known.
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

    /// `records`, and those of other sessions to which the connection is attached, without its
    /// client having heard of them yet.
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
            Duty::Restore(_) => agenda.waiting.retain(|duty| !matches!(duty, Duty::Restore(_))),
            Duty::End => agenda.waiting.retain(|duty| !matches!(duty, Duty::End)),
            Duty::EndAgain(again, _) => agenda
                .waiting
                .retain(|duty| !matches!(duty, Duty::EndAgain(r, _) if r.opening == again.opening)),
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
            Duty::Attach(record) => self.attach(record, None).await,
            Duty::Renew(record) => {
                let role = record.attached_as(&self.local.id);
                let own = role.and_then(|role| record.participant(role).attachment());
                let stale = own.map(|own| own.since);
                self.attach(record, stale).await;
            }
            Duty::Leave(record) => self.leave(record).await,
            Duty::EndAgain(record, reason) => self.end_again(record, reason).await,
            Duty::LookUp(records) => Box::pin(self.look_up(records)).await,
            Duty::Restore(records) => Box::pin(self.restore(records)).await,
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
                Some(record) => self.try_attach(Arc::new(record), None).await,
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
        stale: Option<u64>,
    ) -> Result<Option<Arc<SessionRecord>>, StoreError> {
        let Local { id, user, mailbox, duties, .. } = &*self.local;
        let session = record.id.clone();
        let epoch = {
            let mut agenda = duties.agenda();
            agenda.attached.entry(session.clone()).or_insert(None);
            agenda.epoch
        };
        match self.node.attach(record, user, id, epoch, stale).await? {
            Attach::Done(record) => {
                duties.agenda().attached.insert(session, Some(record.clone()));
                self.presume_partner(&record).await?;
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

    async fn attach(&self, record: Arc<SessionRecord>, stale: Option<u64>) {
        match self.try_attach(record.clone(), stale).await {
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
                let duty = if stale.is_some() { Duty::Renew } else { Duty::Attach };
                self.later("not attached yet", &error, duty(record));
            }
        }
    }

    async fn leave(&self, record: Arc<SessionRecord>) {
        let session = record.id.clone();
        let by = record.role_of(&self.local.user);
        let ending = Ending { by, ..EndReason::Left.into() };
        match self.node.end(record.clone(), ending, |_| true).await {
            // Also where the session was gone already, so that the connection knows.
            Ok(_) => {
                let (opening, reason) = (record.opening, PartnerReason::Ended);
                let ended = Notice::Ended { session, opening, reason };
                self.local.mailbox.push(Mail::Notice(ended));
            }
            Err(error) => {
                self.failed("session not ended", &error);
                self.local.mailbox.push(Mail::LeaveFailed(session));
            }
        }
    }

    async fn end_again(&self, record: Arc<SessionRecord>, reason: PartnerReason) {
        let ending = Ending { told: reason, ..EndReason::Left.into() };
        if let Err(error) = self.node.end(record.clone(), ending, |_| true).await {
            self.later("session not ended again yet", &error, Duty::EndAgain(record, reason));
        }
    }

    async fn look_up(&self, believed: Vec<Arc<SessionRecord>>) {
        // One that was refused is not to become its user's after all.
        if self.local.mailbox.closing().is_some() {
            return;
        }
        if let Err(error) = self.try_look_up(&believed).await {
            self.later("not looked up yet", &error, Duty::LookUp(believed));
        }
    }

    async fn try_look_up(&self, believed: &[Arc<SessionRecord>]) -> Result<(), StoreError> {
        let (node, Local { id, user, mailbox, .. }) = (&self.node, &*self.local);
        let mut known = node.store.user(user).await?;
        if known.connection.is_none() {
            if self.store_was_emptied().await? {
                return Ok(());
            }
            // Who came since is newer.
            if let Connect::Taken(newer) = self.connect(self.accepted(), Replace::Nothing).await? {
                known.connection = Some(newer);
            }
        }
        if known.connection.as_ref().is_some_and(|connection| connection != id) {
            if !self.store_was_emptied().await? {
                mailbox.close(DisconnectReason::Replaced);
            }
            return Ok(());
        }
        let believes = |session: &SessionId| believed.iter().any(|record| record.id == *session);
        let others = known.enrolments.iter().filter(|known| !believes(&known.session));
        let followed = try_join_all(others.map(|enrolment| self.follow(enrolment)));
        let loaded = try_join_all(believed.iter().map(|record| async {
            match node.store.load(&record.id).await {
                Err(StoreError::Corrupt(_)) => Ok((None, true)),
                loaded => Ok((loaded?.filter(|now| now.role_of(user).is_some()), false)),
            }
        }));
        let (followed, loaded) = try_join!(followed, loaded)?;
        let mut there: Vec<_> = followed.into_iter().flatten().collect();
        for (record, (mut now, unreadable)) in believed.iter().zip(loaded) {
            if unreadable || now.as_ref().is_some_and(|now| now.lacks(record)) {
                self.put_back(record).await?;
                now = node.load_for(user, &record.id).await?;
            }
            if now.as_ref().is_none_or(|now| now.opening != record.opening) {
                if self.store_was_emptied().await? {
                    return Ok(());
                }
                // Nobody can say any more how.
                let (session, opening) = (record.id.clone(), record.opening);
                let reason = PartnerReason::Ended;
                mailbox.push(Mail::Notice(Notice::Ended { session, opening, reason }));
            }
            there.extend(now);
        }
        for record in there {
            if let Some(record) = self.try_attach(Arc::new(record), None).await? {
                mailbox.push(Mail::Record { record, looked_up: true });
            }
        }
        Ok(())
    }

    /// Whether what is missing in the store is missing because it has lost everything. Then the
    /// connection is about to restore its part.
    async fn store_was_emptied(&self) -> Result<bool, StoreError> {
        self.node.renew_lease().await?;
        Ok(self.node.health.generation() != self.local.duties.agenda().generation)
    }

    /// Goes on until the store knows, for a connection that counts as attached for ever otherwise.
    async fn end(&self) {
        let (node, Local { id, user, duties, mailbox, .. }) = (&self.node, &*self.local);
        // None where this node does not remember the connection.
        let reason = mailbox.closing().unwrap_or(DisconnectReason::Lost);
        self.tell_end(reason);
        let mut attached = Attached::take(duties);
        node.locals.remember_end(id, attached.left.keys());
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
        let lost = loop {
            match self.detach(session, record.clone(), reason).await {
                Ok(lost) => break lost,
                Err(error) => self.failed("not detached yet", &error),
            }
            if self.given_up().await {
                return;
            }
        };
        let Some(lost) = lost else { return };
        while let Err(error) = Box::pin(self.leave_behind(&lost, reason)).await {
            self.failed("not restored yet", &error);
            if self.given_up().await {
                return;
            }
        }
    }

    /// Gives the record when it is the store that has lost it, and not the session that has ended, or
    /// when not all that belongs to it is put back yet.
    async fn detach(
        &self,
        session: &SessionId,
        record: Option<Arc<SessionRecord>>,
        reason: DisconnectReason,
    ) -> Result<Option<Arc<SessionRecord>>, StoreError> {
        let record = match record {
            Some(record) => Some(record),
            None => self.node.load(session).await?.map(Arc::new),
        };
        let Some(record) = record else {
            return Ok(None);
        };
        let Local { id, goodbye, .. } = &*self.local;
        let text = goodbye.get().cloned().unwrap_or_default();
        let there = self.node.detach(record.clone(), id, reason, text).await?;
        let incomplete = self.local.duties.agenda().generation != self.node.health.generation();
        let lost = if there { incomplete } else { self.store_was_emptied().await? };
        Ok(lost.then_some(record))
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
