//! What one connection has to write to the store, one thing after the other, so that the
//! connection itself never waits. A steward is a task that lives while there is something to do.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time;

use super::{
    Node,
    local::Local,
    mailbox::Mail,
    writes::{Attach, RETRY},
};
use crate::{
    event::{DisconnectReason, EndReason},
    id::SessionId,
    notice::Notice,
    session::SessionRecord,
    store::{Connected, Created, StoreError},
};

/// Something to write.
#[derive(Debug)]
pub(super) enum Duty {
    /// Make the connection its user's, and attach it to the user's sessions.
    Admit,
    /// Attach the connection to a session.
    Attach(Arc<SessionRecord>),
    /// End a session that the client leaves.
    Leave(Arc<SessionRecord>),
    /// See whether all is as the connection believes, which is in these sessions.
    LookUp(Vec<Arc<SessionRecord>>),
    /// Put records back that the store has lost.
    Restore(Vec<Arc<SessionRecord>>),
    /// The connection has ended: detach it everywhere.
    End(DisconnectReason),
}

#[derive(Debug, Default)]
pub(super) struct Duties(Mutex<Agenda>);

#[derive(Debug, Default)]
struct Agenda {
    /// One look-up at most, one leave for each seat, and one attach each time that the host opens a
    /// session; the rest once.
    waiting: VecDeque<Duty>,
    at_work: bool,
    epoch: u64,
    /// The store's generation in which the connection is known.
    generation: u64,
    /// Where the connection is attached, as far as is known; none where an attempt was made and its
    /// outcome is not.
    attached: BTreeMap<SessionId, Option<Arc<SessionRecord>>>,
}

impl Duties {
    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session is over: there is nothing to detach from.
    pub(super) fn forget(&self, session: &SessionId) {
        self.agenda().attached.remove(session);
    }

    fn next(&self) -> Option<Duty> {
        let mut agenda = self.agenda();
        let duty = agenda.waiting.pop_front();
        agenda.at_work = duty.is_some();
        duty
    }
}

impl Node {
    /// Has `duty` done after those that wait already.
    pub(super) fn assign(self: &Arc<Self>, local: &Arc<Local>, duty: Duty) {
        let mut agenda = local.duties.agenda();
        if matches!(duty, Duty::LookUp(_)) {
            agenda.waiting.retain(|duty| !matches!(duty, Duty::LookUp(_)));
        }
        agenda.waiting.push_back(duty);
        if !std::mem::replace(&mut agenda.at_work, true) {
            let steward = Steward { node: self.clone(), local: local.clone() };
            self.tasks.spawn(steward.work());
        }
    }
}

struct Steward {
    node: Arc<Node>,
    local: Arc<Local>,
}

impl Steward {
    async fn work(self) {
        while let Some(duty) = self.local.duties.next() {
            match duty {
                Duty::Admit => self.admit().await,
                Duty::Attach(record) => self.attach(record).await,
                Duty::Leave(record) => self.leave(record).await,
                Duty::LookUp(records) => self.look_up(records).await,
                Duty::Restore(records) => self.restore(records).await,
                Duty::End(reason) => self.end(reason).await,
            }
        }
    }

    async fn admit(&self) {
        match self.try_admit().await {
            Ok(admitted) => self.local.mailbox.push(admitted),
            Err(error) => {
                self.failed("connection not admitted", &error);
                self.local.mailbox.close(match error {
                    StoreError::Unavailable(_) => DisconnectReason::StoreUnavailable,
                    StoreError::Corrupt(_) => DisconnectReason::Internal,
                });
            }
        }
    }

    async fn try_admit(&self) -> Result<Mail, StoreError> {
        let (node, user) = (&self.node, &self.local.user);
        let connected = self.connect().await?;
        let mut records = Vec::new();
        for enrolment in &connected.enrolments {
            if let Some(record) = node.follow(user, enrolment).await? {
                records.extend(self.try_attach(Arc::new(record)).await?);
            }
        }
        Ok(Mail::Admitted { epoch: connected.epoch, records })
    }

    /// Makes the connection its user's.
    async fn connect(&self) -> Result<Connected, StoreError> {
        let (node, Local { id, user, duties, .. }) = (&self.node, &*self.local);
        node.check_lease()?;
        let generation = node.health.generation();
        let connected = node.store.connect(user, id, node.clock.now()).await?;
        {
            let mut agenda = duties.agenda();
            (agenda.epoch, agenda.generation) = (connected.epoch, generation);
        }
        if let Some(previous) = connected.previous.as_ref().filter(|previous| *previous != id) {
            node.notify(previous, Notice::Replaced);
        }
        Ok(connected)
    }

    /// The record with the connection attached; none when there is nothing to attach to.
    async fn try_attach(
        &self,
        record: Arc<SessionRecord>,
    ) -> Result<Option<Arc<SessionRecord>>, StoreError> {
        let Local { id, user, mailbox, duties } = &*self.local;
        let session = record.id.clone();
        let epoch = {
            let mut agenda = duties.agenda();
            agenda.attached.entry(session.clone()).or_insert(None);
            agenda.epoch
        };
        match self.node.attach(record, user, id, epoch).await? {
            Attach::Done(record) => {
                duties.agenda().attached.insert(session, Some(record.clone()));
                Ok(Some(record))
            }
            Attach::Ended => {
                duties.forget(&session);
                Ok(None)
            }
            Attach::Superseded => {
                mailbox.close(DisconnectReason::Replaced);
                Ok(None)
            }
        }
    }

    async fn attach(&self, record: Arc<SessionRecord>) {
        match self.try_attach(record.clone()).await {
            Ok(Some(record)) => {
                self.local.mailbox.push(Mail::Record { record, looked_up: false });
            }
            Ok(None) => {}
            Err(error) => self.later("not attached yet", &error, Duty::Attach(record)),
        }
    }

    async fn leave(&self, record: Arc<SessionRecord>) {
        let session = record.id.clone();
        match self.node.end(record.clone(), EndReason::Left, |_| true).await {
            // Also where the session was gone already, so that the connection knows.
            Ok(_) => {
                let ended = Notice::Ended { session, opening: record.opening };
                self.local.mailbox.push(Mail::Notice(ended));
            }
            Err(error) => {
                self.failed("session not ended", &error);
                self.local.mailbox.push(Mail::LeaveFailed(session));
            }
        }
    }

    async fn look_up(&self, believed: Vec<Arc<SessionRecord>>) {
        if let Err(error) = self.try_look_up(&believed).await {
            self.later("not looked up yet", &error, Duty::LookUp(believed));
        }
    }

    async fn try_look_up(&self, believed: &[Arc<SessionRecord>]) -> Result<(), StoreError> {
        let (node, Local { id, user, mailbox, .. }) = (&self.node, &*self.local);
        let known = node.store.user(user).await?;
        if known.connection.as_ref().is_some_and(|connection| connection != id) {
            mailbox.close(DisconnectReason::Replaced);
            return Ok(());
        }
        if known.connection.is_none() {
            if self.store_was_emptied().await? {
                return Ok(());
            }
            self.connect().await?;
        }
        let believes = |session: &SessionId| believed.iter().any(|record| record.id == *session);
        let mut there = Vec::new();
        for enrolment in known.enrolments.iter().filter(|known| !believes(&known.session)) {
            there.extend(node.follow(user, enrolment).await?);
        }
        for record in believed {
            let now = node.load_for(user, &record.id).await?;
            if now.as_ref().is_none_or(|now| now.opening != record.opening) {
                if self.store_was_emptied().await? {
                    return Ok(());
                }
                let (session, opening) = (record.id.clone(), record.opening);
                mailbox.push(Mail::Notice(Notice::Ended { session, opening }));
            }
            there.extend(now);
        }
        for record in there {
            if let Some(record) = self.try_attach(Arc::new(record)).await? {
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

    async fn restore(&self, records: Vec<Arc<SessionRecord>>) {
        match self.try_restore(&records).await {
            Ok(()) => self.look_up(records).await,
            Err(error) => self.later("not restored yet", &error, Duty::Restore(records)),
        }
    }

    async fn try_restore(&self, records: &[Arc<SessionRecord>]) -> Result<(), StoreError> {
        let (node, user) = (&self.node, &self.local.user);
        self.connect().await?;
        for record in records {
            let limit = node.config.max_sessions_per_user;
            let _ = node.store.enrol(user, &record.id, node.clock.now(), limit).await?;
            match node.store.create(record).await? {
                Created::Done => tracing::info!(session = %record.id, "record restored"),
                Created::Exists(_) => {}
            }
        }
        Ok(())
    }

    /// Goes on until the store knows, for a connection that counts as attached for ever otherwise.
    async fn end(&self, reason: DisconnectReason) {
        let (node, Local { id, user, duties, .. }) = (&self.node, &*self.local);
        let attached = std::mem::take(&mut duties.agenda().attached);
        for (session, record) in attached {
            while let Err(error) = self.detach(&session, record.clone(), reason).await {
                self.failed("not detached yet", &error);
                if self.given_up().await {
                    return;
                }
            }
        }
        while let Err(error) = node.store.disconnect(user, id).await {
            self.failed("not disconnected yet", &error);
            if self.given_up().await {
                return;
            }
        }
    }

    async fn detach(
        &self,
        session: &SessionId,
        record: Option<Arc<SessionRecord>>,
        reason: DisconnectReason,
    ) -> Result<(), StoreError> {
        let record = match record {
            Some(record) => Some(record),
            None => self.node.store.load(session).await?.map(Arc::new),
        };
        match record {
            Some(record) => self.node.detach(record, &self.local.id, reason).await,
            None => Ok(()),
        }
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
        let error = error as &dyn std::error::Error;
        tracing::warn!(connection = %self.local.id, error, "{what}");
    }
}
