//! Per-connection job queue that serialises store writes, so that the connection itself never waits.
//!
//! A job is submitted by [`Node::run_job`] or [`Node::spawn_job`]. If no job of the connection is running, a
//! [`Worker`] is made, which runs the queued jobs one after the other until none is left. `run_job` polls it
//! once in the caller's task and spawns a task only if it has to wait; with the store in memory it never
//! has.

mod admission;
mod look_up;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use futures::future::{join_all, try_join_all};
use tokio::time;

use super::{
    background::caught,
    backoff::Backoff,
    hooks::Newcomer,
    jobs::{Claim, Job, JobQueue},
    mailbox::Mail,
    node::Node,
    registry::ConnectionHandle,
    writes::{Attach, Continuity, Ending},
};
use crate::{
    id::{ConnectionId, SessionId},
    notice::Notice,
    reason::{DisconnectReason, EndReason, PartnerReason},
    session::SessionRecord,
    store::{Accepted, Connect, Joined, Membership, Replace, StoreError},
    time::Timestamp,
};
use admission::NotAdmitted;

/// Pauses between looks for a record that is not there yet. Its host may be about to write it.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_PAUSE_OF_LOOKS: Duration = Duration::from_millis(500);

impl Node {
    /// Runs `job` in a spawned task, after the connection's queued jobs.
    pub(super) fn spawn_job(self: &Arc<Self>, handle: &Arc<ConnectionHandle>, job: Job) {
        if let Some(worker) = self.submit(handle, job) {
            self.tasks.spawn(worker.work());
        }
    }

    /// Runs `job` after the connection's queued jobs. It starts in the caller's task: a job that does not have
    /// to wait is done when this returns. Otherwise a task is spawned for the rest.
    pub(super) fn run_job(self: &Arc<Self>, handle: &Arc<ConnectionHandle>, job: Job) {
        if let Some(worker) = self.submit(handle, job) {
            let mut work = Box::pin(self.tasks.track_future(worker.work()));
            let polled = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if polled.is_pending() {
                tokio::spawn(work);
            }
        }
    }

    /// Queues `job`. Returns the worker to run if none is running.
    fn submit(self: &Arc<Self>, handle: &Arc<ConnectionHandle>, job: Job) -> Option<Worker> {
        let mut state = handle.jobs.state();
        state.waiting.retain(|queued| !job.supersedes(queued));
        state.waiting.push_back(job);
        let idle = !std::mem::replace(&mut state.running, true);
        idle.then(|| Worker { node: self.clone(), handle: handle.clone() })
    }
}

/// Where a connection that has ended is still to be detached. What is left when this is dropped, because of
/// a panic or the end of the node, stays to be done.
struct Attached<'a> {
    jobs: &'a JobQueue,
    left: BTreeMap<SessionId, Option<Arc<SessionRecord>>>,
}

impl<'a> Attached<'a> {
    fn take(jobs: &'a JobQueue) -> Self {
        Self { jobs, left: std::mem::take(&mut jobs.state().attached) }
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        if !self.left.is_empty() {
            let attached = &mut self.jobs.state().attached;
            for (session, record) in std::mem::take(&mut self.left) {
                attached.entry(session).or_insert(record);
            }
        }
    }
}

pub(super) struct Worker {
    pub(super) node: Arc<Node>,
    pub(super) handle: Arc<ConnectionHandle>,
}

impl Worker {
    /// What is seldom done is boxed, so that what is done for each connection is small.
    async fn work(self) {
        let mut ended = false;
        while let Some(job) = self.handle.jobs.next() {
            let end = matches!(job, Job::End);
            match caught(self.carry_out(job)).await {
                Ok(()) => ended |= end,
                Err(_) => self.panicked(end).await,
            }
        }
        // Until the end is written, a late notice must find this entry: it has the reason.
        if ended {
            self.node.registry.ended(self.handle.id.number());
        }
    }

    /// A connection of which it is not known any more what was written ends, and its end is written
    /// again and again.
    async fn panicked(&self, end: bool) {
        let (node, connection) = (&self.node, &self.handle.id);
        if let Some(suppressed) = node.warnings.pass("panic") {
            tracing::error!(%connection, end, suppressed, "a store write of a connection panicked; ending the connection");
        }
        if !end {
            self.handle.mailbox.close(DisconnectReason::Internal);
            return;
        }
        let again = time::sleep_until(self.handle.jobs.retry_at());
        if self.node.stopped.run_until_cancelled(again).await.is_some() {
            self.handle.jobs.state().waiting.push_back(Job::End);
        }
    }

    async fn carry_out(&self, job: Job) {
        match job {
            Job::Admit { newcomer, ice_servers } => self.admit(&newcomer, ice_servers).await,
            Job::Attach { record, continuing } => {
                self.attach(record, Continuity::of_client(continuing)).await;
            }
            Job::Renew(record) => {
                let stale = record.negotiation;
                self.attach(record, Continuity::Restart(stale)).await;
            }
            Job::Leave(record) => self.leave(record).await,
            Job::EndAgain(record) => self.end_again(record).await,
            Job::LookUp(beliefs) => Box::pin(self.look_up(beliefs)).await,
            Job::End => self.end().await,
        }
    }

    async fn admit(&self, newcomer: &Newcomer, ice_servers: bool) {
        match self.try_admit(newcomer, ice_servers).await {
            Ok(admitted) => self.handle.mailbox.push(admitted),
            Err(not) => self.not_admitted(not),
        }
    }

    /// At the same time, has the client's ICE servers asked for. The sessions do not wait for these: between the
    /// claim and the attach, an older connection of the user is not sure of itself.
    async fn try_admit(&self, newcomer: &Newcomer, ice_servers: bool) -> Result<Mail, NotAdmitted> {
        if !ice_servers {
            return self.claim_and_attach(newcomer).await;
        }
        let asked = async {
            self.node.ask_for_ice_servers(&self.handle).await;
            Ok(())
        };
        let (admitted, ()) = tokio::try_join!(Box::pin(self.claim_and_attach(newcomer)), asked)?;
        Ok(admitted)
    }

    async fn claim_and_attach(&self, newcomer: &Newcomer) -> Result<Mail, NotAdmitted> {
        let generation = self.node.health.generation();
        let connected = self.claim_user(newcomer).await?;
        self.handle.jobs.state().generation = generation;
        let attached = connected.memberships.iter().map(|membership| async {
            match self.follow(membership).await? {
                Some(record) => {
                    let continuity = Continuity::of_client(newcomer.continuing(&record.id));
                    self.try_attach(Arc::new(record), continuity).await
                }
                None => Ok(None),
            }
        });
        let records = try_join_all(attached).await?.into_iter().flatten().collect();
        Ok(Mail::Admitted { epoch: connected.epoch, records })
    }

    /// The record that a membership of the user leads to. One that is not there yet is waited for beside
    /// this, and so is an unreadable one, until the partner has written it again or it has expired.
    async fn follow(&self, membership: &Membership) -> Result<Option<SessionRecord>, StoreError> {
        let record = match self.node.follow(&self.handle.user, membership).await {
            Err(StoreError::Corrupt(_)) => {
                let (session, since) = (membership.session.clone(), self.node.now());
                self.await_record(Membership { session, since });
                return Ok(None);
            }
            followed => followed?,
        };
        if record.is_none() && self.node.is_opening(membership) {
            self.await_record(membership.clone());
        }
        Ok(record)
    }

    /// Looks for the record of a session that is being opened until it is there, and has the connection
    /// learn of it: the host that opens it may know of no connection, or its news may be faster than the
    /// record.
    fn await_record(&self, membership: Membership) {
        let (node, handle) = (self.node.clone(), self.handle.clone());
        if !handle.jobs.state().awaited.insert(membership.session.clone()) {
            return;
        }
        // Not one of the tasks that a shutdown waits for: it has nothing to do once the connection closes.
        tokio::spawn(async move {
            let mut backoff = Backoff::between(FIRST_LOOK, LONGEST_PAUSE_OF_LOOKS);
            while handle.mailbox.closing().is_none() && node.is_opening(&membership) {
                if !backoff.wait(&node.stopped).await {
                    break;
                }
                match caught(node.load_for(&handle.user, &membership.session)).await {
                    Ok(Ok(Some(record))) => {
                        node.deliver(&handle.id, Notice::Opened(Arc::new(record)));
                        break;
                    }
                    Ok(Ok(None)) | Err(_) => {}
                    Ok(Err(error)) => node.health.note(&error),
                }
            }
            handle.jobs.state().awaited.remove(&membership.session);
        });
    }

    /// With a token that was issued at `issued_at`.
    fn accepted(&self, issued_at: Timestamp) -> Accepted {
        self.node.health.accepted(self.handle.accepted, issued_at)
    }

    /// Claims the user for this connection, accepted at `accepted`, if `replace` allows it. The connection that
    /// it replaces is not told yet.
    async fn connect(
        &self,
        accepted: Accepted,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError> {
        let (node, ConnectionHandle { id, user, jobs, .. }) = (&self.node, &*self.handle);
        node.check_lease()?;
        let before = std::mem::replace(&mut jobs.state().claim, Claim::Unanswered);
        let connect = node.store.connect(user, id, accepted, replace).await;
        match &connect {
            Ok(_) => jobs.state().claim = Claim::Answered,
            // Nothing was done.
            Err(StoreError::Refused(_)) => jobs.state().claim = before,
            Err(StoreError::Unavailable(_) | StoreError::Corrupt(_)) => {}
        }
        let connect = connect?;
        if let Connect::Done(connected) = &connect {
            let mut state = jobs.state();
            state.epoch = connected.epoch;
            let previous = connected.previous.as_ref().filter(|previous| *previous != id);
            if let Some(previous) = previous {
                state.replaced = Some(Box::new(previous.clone()));
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
        let ConnectionHandle { id, user, mailbox, jobs, .. } = &*self.handle;
        let session = record.id.clone();
        let epoch = {
            let mut state = jobs.state();
            state.attached.entry(session.clone()).or_insert(None);
            state.epoch
        };
        match self.node.attach(record, &self.handle, epoch, continuity).await? {
            Attach::Done(record) => {
                jobs.state().attached.insert(session, Some(record.clone()));
                let Node { health, config, .. } = &*self.node;
                // A node that was started after the loss knows it from the record alone.
                if record.reopened > 0 || health.lost_records_within(config.abandon_after) {
                    self.restore_partner(&record).await?;
                }
                Ok(Some(record))
            }
            Attach::Ended => {
                // After a loss of records a missing session has not ended. Keep it, so that the end of this
                // connection opens it again.
                let was_attached = matches!(jobs.state().attached.get(&session), Some(Some(_)));
                if !was_attached || !self.store_lost_records().await? {
                    jobs.not_attached(&session);
                }
                Ok(None)
            }
            Attach::Superseded => {
                // The user's own record says which connection is the newest. If it is this one, the
                // number in the session's record is wrong, and only that session is lost to it.
                let newest = self.node.store.user(user).await?.connection;
                if newest.as_ref() == Some(id) {
                    tracing::warn!(%session, connection = %id, "not attached: the record has a higher epoch");
                    jobs.not_attached(&session);
                } else {
                    mailbox.close(DisconnectReason::Replaced);
                }
                Ok(None)
            }
        }
    }

    /// Makes the partner a member again, and tells its connection, after the store has lost records: who opened
    /// the session again may have lost its own writes in part, and be gone.
    async fn restore_partner(&self, record: &Arc<SessionRecord>) -> Result<(), StoreError> {
        let Some(role) = record.role_of(&self.handle.user) else {
            return Ok(());
        };
        let partner = record.participant(role.partner());
        // It was within the limit before the loss.
        let joined = self.node.store.join(&partner.user, &record.id, usize::MAX).await?;
        if let (Joined::Done(Some(connection)), None) = (joined, partner.connection()) {
            self.node.notify(&connection, Notice::Opened(record.clone()));
        }
        Ok(())
    }

    async fn attach(&self, record: Arc<SessionRecord>, continuity: Continuity) {
        match self.try_attach(record.clone(), continuity).await {
            Ok(Some(record)) => {
                self.handle.jobs.succeeded();
                self.handle.mailbox.push(Mail::Record { record, looked_up: false });
            }
            Ok(None) if record.revision == 0 => {
                // The news was faster than the record, or the session has ended already.
                let since = self.node.now();
                self.await_record(Membership { session: record.id.clone(), since });
            }
            Ok(None) => {}
            Err(error) => {
                let job = match continuity {
                    Continuity::Restart(_) => Job::Renew(record),
                    Continuity::Continue(negotiation) => {
                        Job::Attach { record, continuing: Some(negotiation.into()) }
                    }
                    Continuity::New | Continuity::Reopened { .. } => {
                        Job::Attach { record, continuing: None }
                    }
                };
                self.later("attach failed; retrying", &error, job);
            }
        }
    }

    async fn leave(&self, record: Arc<SessionRecord>) {
        let session = record.id.clone();
        let by = record.role_of(&self.handle.user);
        let ending = Ending { by, ..EndReason::Left.into() };
        match self.node.end(record.clone(), ending, |_| true).await {
            // Also if the session was gone already, so that the connection knows.
            Ok(_) => {
                // Here, and not when the connection learns of it: its own end may come before that, and would
                // open the session again in a store that has lost records.
                self.handle.jobs.forget(&session, record.first_opening);
                let (first_opening, reason) = (record.first_opening, PartnerReason::Ended);
                let ended = Notice::Ended { session, first_opening, reason };
                self.handle.mailbox.push(Mail::Notice(ended));
            }
            Err(error) => {
                self.failed("session not ended", &error);
                self.handle.mailbox.push(Mail::LeaveFailed(session));
            }
        }
    }

    async fn end_again(&self, record: Arc<SessionRecord>) {
        if let Err(error) = self.try_end_again(record.clone()).await {
            // If the connection ends before that, its end does it.
            let session = record.id.clone();
            self.handle.jobs.state().attached.entry(session).or_insert(Some(record.clone()));
            self.later("session not ended; retrying", &error, Job::EndAgain(record));
        }
    }

    async fn try_end_again(&self, record: Arc<SessionRecord>) -> Result<(), StoreError> {
        let ending = Ending { told: PartnerReason::Ended, ..EndReason::Left.into() };
        self.node.end(record.clone(), ending, |_| true).await?;
        self.handle.jobs.forget(&record.id, record.first_opening);
        self.handle.jobs.succeeded();
        Ok(())
    }

    /// Retries until the store has the end or the node stops: otherwise the connection would stay attached.
    /// In an outage the number of retried ends is bounded: once the node cannot rely on its lease, it makes no
    /// claim, and the end of a connection without a claim needs no write.
    async fn end(&self) {
        let (node, ConnectionHandle { user, jobs, mailbox, .. }) = (&self.node, &*self.handle);
        // None where this node does not remember the connection.
        let reason = mailbox.closing().unwrap_or(DisconnectReason::Lost);
        self.tell_end(reason);
        let mut attached = Attached::take(jobs);
        let detached = attached.left.iter().map(|(session, record)| async move {
            self.detach_until_known(session, record.clone(), reason).await;
        });
        join_all(detached).await;
        attached.left.clear();
        // It was not told if the claim was not followed by the admission.
        let (mut replaced, mut backoff) =
            (jobs.state().replaced.as_deref().cloned(), Backoff::default());
        while let Err(error) = self.disconnect(&mut replaced).await {
            self.failed("connection not removed from its user yet; retrying", &error);
            if !backoff.wait(&node.stopped).await {
                return;
            }
        }
        jobs.state().replaced = None;
        if let Some(replaced) = replaced {
            node.notify(&replaced, Notice::Contested { user: user.clone() });
        }
    }

    /// Removes the connection from its user's record. If its claim had no answer, the connection that the
    /// claim `replaced` was not told; it may still live.
    async fn disconnect(&self, replaced: &mut Option<ConnectionId>) -> Result<(), StoreError> {
        let (store, ConnectionHandle { id, user, jobs, .. }) = (&self.node.store, &*self.handle);
        let claim = jobs.state().claim;
        if claim == Claim::NotMade {
            return Ok(());
        }
        if claim == Claim::Unanswered && store.user(user).await?.connection.as_ref() == Some(id) {
            // It was done. Once more it changes nothing, and says what it has replaced.
            let again = store.connect(user, id, Accepted::UNKNOWN, Replace::Nothing).await?;
            if let Connect::Done(connected) = again {
                *replaced = connected.previous;
            }
        }
        store.disconnect(user, id).await?;
        // Not before: if this is done again, it has to find `replaced` again.
        jobs.state().claim = Claim::Answered;
        Ok(())
    }

    /// Detaches from one session, until the store knows or the node stops.
    async fn detach_until_known(
        &self,
        session: &SessionId,
        record: Option<Arc<SessionRecord>>,
        reason: DisconnectReason,
    ) {
        let (mut backoff, mut is_told) = (Backoff::default(), false);
        while let Err(error) = self.detach(session, record.clone(), reason).await {
            self.failed("connection not detached yet; retrying", &error);
            if let Some(record) = record.as_ref().filter(|_| !is_told) {
                // The partner does not wait for a store that does not answer.
                self.node.tell_detached(record, &self.handle.id, reason);
                is_told = true;
            }
            if !backoff.wait(&self.node.stopped).await {
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
        let (node, ConnectionHandle { id, goodbye, jobs, .. }) = (&self.node, &*self.handle);
        let mut record = record;
        if let Some(ended) = record.take_if(|record| jobs.has_ended(record)) {
            // Another session may have its id by now, with this connection.
            self.try_end_again(ended).await?;
        }
        let record = match record {
            Some(record) => Some(record),
            None => node.load(session).await?.map(Arc::new),
        };
        let Some(record) = record else {
            return Ok(());
        };
        let text = goodbye.get().cloned().unwrap_or_default();
        let there = node.detach(record.clone(), id, reason, text).await?;
        let (now, abandon_after) = (node.now(), node.config.abandon_after);
        // A store that has lost records may have done so again, before all of a session that was opened again
        // was in it.
        let lost_records = match there && !node.health.lost_records_within(abandon_after) {
            true => jobs.state().generation != node.health.generation(),
            false => self.store_lost_records().await?,
        };
        if lost_records && let Some(left) = record.detach(id, reason.into(), now, abandon_after) {
            // What is there may be newer than what this connection knows, and is left to those who stay. Once
            // more if the store loses a part of it meanwhile: this connection learns of no later loss.
            loop {
                let generation = node.health.generation();
                let absent = self.reopened(&left)?;
                Box::pin(self.open_again(&left, absent, |_| false)).await?;
                node.renew_lease().await?;
                if node.health.generation() == generation {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Has `job` done again after a while, if the connection still lives then.
    fn later(&self, what: &'static str, error: &StoreError, job: Job) {
        self.after_pause(what, error, |node, handle| node.spawn_job(&handle, job));
    }

    fn after_pause(
        &self,
        what: &'static str,
        error: &StoreError,
        again: impl FnOnce(Arc<Node>, Arc<ConnectionHandle>) + Send + 'static,
    ) {
        self.failed(what, error);
        let (node, handle) = (self.node.clone(), self.handle.clone());
        let pause = time::sleep_until(self.handle.jobs.retry_at());
        // Not one of the tasks that a shutdown waits for: it has nothing to do once the connection closes.
        tokio::spawn(async move {
            let waited = node.stopped.run_until_cancelled(pause).await;
            if waited.is_some() && handle.mailbox.closing().is_none() {
                again(node, handle);
            }
        });
    }

    fn failed(&self, what: &'static str, error: &StoreError) {
        self.node.health.note(error);
        if let Some(suppressed) = self.node.warnings.pass(what) {
            let error = error as &dyn std::error::Error;
            tracing::warn!(connection = %self.handle.id, error, suppressed, "{what}");
        }
    }
}
