//! The conditional writes: read a record, let the rules make the next one, put it in its place, and
//! begin again where somebody else was faster.

use std::{num::NonZeroU64, sync::Arc};

use super::{background::caught, backoff::Backoff, node::Node, registry::ConnectionHandle};
use crate::{
    event::Event,
    frame::CloseReason,
    id::{self, ConnectionId, SessionId, UserId},
    notice::Notice,
    protocol::NegotiationId,
    reason::{DisconnectReason, EndReason, PartnerReason},
    session::{Presence, Role, SessionRecord, Status},
    store::{Membership, StoreError, Written},
};
use futures::join;

/// How often a write begins again. Two participants and a few nodes compete for a record, and one
/// of them wins each round.
pub(super) const ROUNDS: usize = 64;

/// Why a write did not come about in [`ROUNDS`].
#[derive(Debug, thiserror::Error)]
#[error("a record changed faster than it could be written")]
pub(super) struct Contended;

/// Why a write that says that a connection is here was not made.
#[derive(Debug, thiserror::Error)]
#[error("this node cannot be sure that it counts as alive")]
struct NoLease;

/// In which negotiation a connection attaches to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Continuity {
    /// The current one if it is the user's first, otherwise a new one.
    New,
    /// This one, in which the connection took part for that client before the store lost its attachment, if it
    /// is still current.
    Reopened { negotiation: u64, client: Option<NonZeroU64> },
    /// This one, in which the client took part, if it is still current and the partner can continue it.
    Continue(u64),
    /// A new one, also if the connection is attached in this one already.
    Restart(u64),
}

impl Continuity {
    /// For a client that wants to continue `negotiation`, if any.
    pub(super) fn of_client(negotiation: Option<NegotiationId>) -> Self {
        negotiation.map_or(Self::New, |negotiation| Self::Continue(negotiation.number()))
    }
}

/// What became of an attach.
#[derive(Debug)]
pub(super) enum Attach {
    /// The connection is attached; this is the record.
    Done(Arc<SessionRecord>),
    /// A newer connection of the user was there.
    Superseded,
    /// The session is over, or is another one now.
    Ended,
}

/// How a session ends.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub(super) reason: EndReason,
    /// What a participant is told who was not told of an absence.
    pub(super) told: PartnerReason,
    /// The participant who left. A newer connection of the same user is told of the end, and not that
    /// its partner left.
    pub(super) by: Option<Role>,
    /// What the host says of it.
    pub(super) text: CloseReason,
}

impl From<EndReason> for Ending {
    fn from(reason: EndReason) -> Self {
        Self { reason, told: reason.into(), by: None, text: CloseReason::default() }
    }
}

/// A record that is needed among others: an unreadable one is skipped.
pub(super) fn readable(
    loaded: Result<Option<SessionRecord>, StoreError>,
) -> Result<Option<SessionRecord>, StoreError> {
    match loaded {
        Err(StoreError::Corrupt(_)) => Ok(None),
        loaded => loaded,
    }
}

impl Node {
    /// Fails while the lease is about to run out or already has. What a node without a lease says of
    /// its connections, nobody would take back when it dies.
    pub(super) fn check_lease(&self) -> Result<(), StoreError> {
        if self.health.has_lease() {
            return Ok(());
        }
        Err(StoreError::unavailable(NoLease))
    }

    /// Attaches the connection of `handle`, its user's number `epoch`, to a session, beginning with `record` as
    /// the guess of what the store holds. The connection itself tells the partner, ahead of its signals.
    pub(super) async fn attach(
        &self,
        record: Arc<SessionRecord>,
        handle: &ConnectionHandle,
        epoch: u64,
        continuity: Continuity,
    ) -> Result<Attach, StoreError> {
        let ConnectionHandle { id: connection, user, .. } = handle;
        let mut record = record;
        let new = id::random_u64().map_err(StoreError::unavailable)?;
        for _ in 0..ROUNDS {
            let Some(role) = record.role_of(user) else {
                return Ok(Attach::Ended);
            };
            let is_attached = record.participant(role).connection() == Some(connection);
            if is_attached && continuity != Continuity::Restart(record.negotiation) {
                return Ok(Attach::Done(record));
            }
            let (continuing, client) = match continuity {
                Continuity::Reopened { negotiation, client } => (Some(negotiation), client),
                Continuity::Continue(negotiation) if record.may_continue(role) => {
                    (Some(negotiation), None)
                }
                Continuity::New | Continuity::Continue(_) | Continuity::Restart(_) => (None, None),
            };
            let Ok(next) = record.attach(role, connection, epoch, continuing, new) else {
                return Ok(Attach::Superseded);
            };
            let next = next.with_client(role, client.or_else(|| handle.client_number(new)));
            // Last before the write: if this node died without a lease, nobody would detach the connection.
            self.check_lease()?;
            record = match self.store.put(&next, Some(&record)).await? {
                Written::Missing => return Ok(Attach::Ended),
                // Somebody was faster: begin again with what they wrote.
                Written::Conflict(there) if !there.same_state(&next) => Arc::from(there),
                // A conflict with the very record that was to be written: an earlier attempt was done, and
                // its answer was lost.
                Written::Done | Written::Conflict(_) => {
                    self.attached(&record, &next, role, connection, continuity);
                    return Ok(Attach::Done(Arc::new(next)));
                }
            };
        }
        Err(StoreError::unavailable(Contended))
    }

    /// Tells the host that `connection` has attached, in `role`.
    pub(super) fn attached(
        &self,
        before: &SessionRecord,
        after: &SessionRecord,
        role: Role,
        connection: &ConnectionId,
        continuity: Continuity,
    ) {
        let (session, user) = (after.id.clone(), after.participant(role).user.clone());
        tracing::debug!(%session, %connection, "attached");
        if matches!(continuity, Continuity::Reopened { .. })
            && before.participant(role).negotiation == Some(after.negotiation)
        {
            // It was attached all along, and only the store did not know any more.
            return;
        }
        if before.participant(role).connection() == Some(connection) {
            // It only begins a new negotiation.
            return;
        }
        if before.participant(role).connection().is_some() {
            self.emit(Event::ParticipantDisconnected {
                session: session.clone(),
                user: user.clone(),
                reason: DisconnectReason::Replaced,
                text: CloseReason::default(),
            });
        }
        self.emit(Event::ParticipantConnected {
            session: session.clone(),
            user,
            connection: connection.clone(),
        });
        if after.status() == Status::Active {
            self.emit(Event::SessionActive { session });
        }
    }

    /// Detaches `connection`, which ended for `reason`, of which the host says `text`, from a session,
    /// beginning with `record` as the guess of what the store holds, and tells the partner. Nothing
    /// happens where it is not attached any more. False if there is no record: perhaps the store has lost
    /// it.
    pub(super) async fn detach(
        self: &Arc<Self>,
        record: Arc<SessionRecord>,
        connection: &ConnectionId,
        reason: DisconnectReason,
        text: CloseReason,
    ) -> Result<bool, StoreError> {
        let mut record = record;
        for _ in 0..ROUNDS {
            let (now, abandon_after) = (self.now(), self.config.abandon_after);
            let attached = record.attached_as(connection);
            let next = record.detach(connection, reason.into(), now, abandon_after);
            let (Some(role), Some(next)) = (attached, next) else {
                return Ok(true);
            };
            // No lease is needed: detaching says nothing that somebody would have to take back.
            let done = match self.store.put(&next, Some(&record)).await? {
                Written::Missing => {
                    self.tell_over(&record, role, reason);
                    return Ok(false);
                }
                Written::Done => next,
                Written::Conflict(there) if there.attached_as(connection).is_some() => {
                    record = Arc::from(there);
                    continue;
                }
                // Somebody was faster, or an earlier attempt was done and its answer lost. Then
                // nobody has told the partner; telling it twice changes nothing.
                Written::Conflict(there) => {
                    if there.opening != record.opening {
                        // The partner has opened the session again, and waits for this connection.
                        self.tell_over(&record, role, reason);
                    }
                    *there
                }
            };
            let first = done.revision == record.revision + 1 && done.opening == record.opening;
            if first && done.participant(role).connection().is_none() {
                tracing::debug!(session = %done.id, %connection, %reason, "detached");
                self.emit(Event::ParticipantDisconnected {
                    session: done.id.clone(),
                    user: done.participant(role).user.clone(),
                    reason,
                    text,
                });
            }
            self.tell(&Arc::new(done), role.partner());
            return Ok(true);
        }
        Err(StoreError::unavailable(Contended))
    }

    /// Tells the participant in `role` how its session is now, if it is there.
    fn tell(self: &Arc<Self>, record: &Arc<SessionRecord>, role: Role) {
        if let Some(connection) = record.participant(role).connection() {
            self.notify(connection, Notice::Changed(record.clone()));
        }
    }

    /// Tells the partner of `role` that the attachment which `record` has of it is over. One that was
    /// written off may live on.
    fn tell_over(self: &Arc<Self>, record: &SessionRecord, role: Role, reason: DisconnectReason) {
        let [own, partner] =
            [role, role.partner()].map(|role| record.participant(role).connection().cloned());
        if let (Some(connection), Some(partner)) = (own, partner)
            && reason != DisconnectReason::NodeLost
        {
            let (session, reason) = (record.id.clone(), reason.into());
            self.notify(&partner, Notice::Detached { session, connection, reason });
        }
    }

    /// Tells the partner of `connection` that it has ended, before the store knows.
    pub(super) fn tell_detached(
        self: &Arc<Self>,
        record: &SessionRecord,
        connection: &ConnectionId,
        reason: DisconnectReason,
    ) {
        if let Some(role) = record.attached_as(connection) {
            self.tell_over(record, role, reason);
        }
    }

    /// Ends a session while `condition` holds of its record, beginning with `record` as the guess
    /// of what the store holds, and tells both participants. Says whether it was there to end.
    pub(super) async fn end(
        self: &Arc<Self>,
        record: Arc<SessionRecord>,
        ending: impl Into<Ending>,
        condition: impl Fn(&SessionRecord) -> bool + Send,
    ) -> Result<bool, StoreError> {
        let (mut record, ending) = (record, ending.into());
        for _ in 0..ROUNDS {
            if !condition(&record) {
                return Ok(false);
            }
            let generation = self.health.generation();
            let deleted = self.store.delete(&record).await.inspect_err(|_| {
                let (record, ending) = (record.clone(), ending.clone());
                self.tasks.spawn(self.clone().find_out(record, ending, generation));
            });
            let there = match deleted? {
                Written::Conflict(there) if there.first_opening == record.first_opening => {
                    record = Arc::from(there);
                    continue;
                }
                Written::Done => true,
                Written::Missing | Written::Conflict(_) => false,
            };
            self.ended(&record, &ending, there).await;
            return Ok(there);
        }
        Err(StoreError::unavailable(Contended))
    }

    /// Finds out whether a delete in the store's `generation` was done whose answer was lost, and tells if
    /// it was.
    async fn find_out(
        self: Arc<Self>,
        record: Arc<SessionRecord>,
        ending: Ending,
        generation: u64,
    ) {
        let look = || async {
            let there = self.load(&record.id).await?;
            self.renew_lease().await?;
            Ok::<_, StoreError>(there)
        };
        let mut backoff = Backoff::default();
        let there = loop {
            if let Ok(Ok(there)) = caught(look()).await {
                break there;
            }
            if !backoff.wait(&self.stopped).await {
                return;
            }
        };
        // What is missing after a loss of records may not have been deleted, and its participants open it
        // again.
        if self.health.generation() == generation
            && there.is_none_or(|there| there.first_opening != record.first_opening)
        {
            self.ended(&record, &ending, true).await;
        }
    }

    /// Tells the participants that their session is over; and the host, where it ended `here`.
    async fn ended(self: &Arc<Self>, record: &SessionRecord, ending: &Ending, here: bool) {
        let (session, first_opening) = (&record.id, record.first_opening);
        for role in Role::BOTH {
            if let Some(connection) = record.participant(role).connection() {
                let left = ending.by == Some(role);
                let reason = if left { PartnerReason::Ended } else { ending.told };
                let session = session.clone();
                self.notify(connection, Notice::Ended { session, first_opening, reason });
            }
        }
        if !here {
            return;
        }
        let Ending { reason, text, .. } = ending.clone();
        self.log_end(record, ending);
        let metadata = record.metadata.clone();
        self.emit(Event::SessionEnded { session: session.clone(), reason, text, metadata });
        let [one, other] = record.participants.each_ref().map(|it| &it.user);
        let (one, other) =
            join!(self.store.leave(one, session, None), self.store.leave(other, session, None));
        for error in [one, other].into_iter().filter_map(Result::err) {
            // The membership is dropped when it is next found to lead nowhere.
            self.health.note(&error);
            self.warn("a membership outlives its session", &error);
        }
    }

    fn log_end(&self, record: &SessionRecord, ending: &Ending) {
        let deadline = record.deadline();
        let has_stayed_away = |role: &Role| {
            let absent = |until| matches!(record.participant(*role).presence, Presence::Absent { until: u } if u == until);
            deadline.is_some_and(absent)
        };
        let by = match ending.reason {
            EndReason::Abandoned => Role::BOTH.into_iter().find(has_stayed_away),
            EndReason::Left | EndReason::ByHost => ending.by,
        };
        let [initiator, responder] = record.participants.each_ref().map(|one| &one.user);
        let lasted = record.opened_at.map(|at| self.now().since(at).as_millis());
        tracing::info!(
            session = %record.id,
            %initiator,
            %responder,
            reason = %ending.reason,
            user = by.map(|role| tracing::field::display(&record.participant(role).user)),
            duration_ms = lasted.map(|millis| u64::try_from(millis).unwrap_or(u64::MAX)),
            text = ending.text.as_str(),
            "session ended"
        );
    }

    /// The record that a membership leads to. One that has led nowhere for longer than it takes to
    /// open a session is dropped. It fails if the record is unreadable, and only then with
    /// [`StoreError::Corrupt`].
    pub(super) async fn follow(
        &self,
        user: &UserId,
        membership: &Membership,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let record = self.store.load(&membership.session).await?;
        let led_here = record.as_ref().is_some_and(|record| record.role_of(user).is_some());
        if led_here {
            return Ok(record);
        }
        if !self.is_opening(membership) {
            self.store.leave(user, &membership.session, Some(membership.since)).await?;
        }
        Ok(None)
    }

    /// Whether the session of a membership without a record may still be about to be opened.
    pub(super) fn is_opening(&self, membership: &Membership) -> bool {
        self.now().since(membership.since) < self.config.abandon_after
    }

    /// The record of `session`; none if there is none that can be read.
    pub(super) async fn load(
        &self,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        readable(self.store.load(session).await)
    }

    /// The record of `session`, where `user` takes part in it.
    pub(super) async fn load_for(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let record = self.load(session).await?;
        Ok(record.filter(|record| record.role_of(user).is_some()))
    }
}
