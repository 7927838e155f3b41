//! Compares what a connection believes with what the store has, and opens sessions again that the store
//! has lost.

use std::{collections::BTreeSet, sync::Arc};

use futures::{future::try_join_all, try_join};

use super::{
    super::{
        hooks::SecondConnection,
        jobs::{Beliefs, Claim},
        mailbox::Mail,
        registry::ConnectionHandle,
        writes::{Contended, Continuity, ROUNDS},
    },
    Worker,
};
use crate::{
    id::{self, SessionId},
    notice::Notice,
    reason::{DisconnectReason, PartnerReason},
    session::{Participant, SessionRecord},
    store::{Accepted, Connect, Joined, Membership, Replace, StoreError, UserRecord, Written},
    time::Timestamp,
};

/// What the store has under the id of a session.
enum Loaded {
    Record(Arc<SessionRecord>),
    Unreadable,
    Missing,
}

impl Loaded {
    fn record(&self) -> Option<&SessionRecord> {
        match self {
            Self::Record(record) => Some(record),
            Self::Unreadable | Self::Missing => None,
        }
    }
}

impl Worker {
    pub(super) async fn look_up(&self, beliefs: Beliefs) {
        // One that was refused is not to become its user's after all.
        if self.handle.mailbox.closing().is_some() {
            return;
        }
        if let Err(error) = self.try_look_up(beliefs).await {
            // The connection says again what it believes: sessions may have ended meanwhile.
            self.after_pause("look-up failed; retrying", &error, |_, handle| {
                handle.mailbox.push(Mail::Doubt);
            });
        }
    }

    async fn try_look_up(&self, beliefs: Beliefs) -> Result<(), StoreError> {
        let Beliefs { records, continuing, issued_at } = beliefs;
        let (node, ConnectionHandle { id, user, mailbox, jobs, .. }) = (&self.node, &*self.handle);
        // Read before anything is written: what is written into a store that then loses it is written
        // again in the next generation.
        let generation = node.health.generation();
        let lost_records = jobs.state().generation != generation;
        let mut believed = jobs.with_unheard(records);
        believed.retain(|record| !jobs.has_ended(record));
        let loaded = try_join_all(believed.iter().map(|record| self.load(record)));
        let (known, loaded) = try_join!(node.store.user(user), loaded)?;
        if known.revokes(issued_at) {
            mailbox.close(DisconnectReason::Revoked);
            return Ok(());
        }
        // Before this connection gets a new epoch, since that decides.
        if lost_records && self.was_replaced(&believed, &loaded) {
            mailbox.close(DisconnectReason::Replaced);
            return Ok(());
        }
        let mut records = loaded.iter().filter_map(Loaded::record);
        let is_attached = records.any(|record| record.attached_as(id).is_some());
        let claim = self.claim_again(known, issued_at, lost_records, is_attached);
        let Some(memberships) = claim.await? else {
            return Ok(());
        };
        let of_client = |session: &SessionId| {
            let negotiation = continuing.iter().find(|(of, _)| of == session);
            Continuity::of_client(negotiation.map(|(_, negotiation)| *negotiation))
        };
        let believes = |one: &Membership| believed.iter().any(|record| record.id == one.session);
        let others = memberships.iter().filter(|membership| !believes(membership));
        let others = try_join_all(others.map(|membership| self.follow(membership))).await?;
        let mut there = Vec::new();
        for (record, loaded) in believed.iter().zip(loaded) {
            let now = match loaded {
                Loaded::Record(now) if !lost_records && !now.lacks(record) => Some(now),
                Loaded::Missing if !lost_records => {
                    if self.store_lost_records().await? {
                        return Ok(());
                    }
                    None
                }
                // Its end was learnt of meanwhile.
                _ if jobs.has_ended(record) => continue,
                Loaded::Record(_) | Loaded::Missing | Loaded::Unreadable => {
                    Some(self.open_attached(record).await?)
                }
            };
            if now.as_ref().is_none_or(|now| now.first_opening != record.first_opening) {
                // How it ended is not known any more.
                let (session, reason) = (record.id.clone(), PartnerReason::Ended);
                let first_opening = record.first_opening;
                let ended = Notice::Ended { session, first_opening, reason };
                mailbox.push(Mail::Notice(ended));
            }
            there.extend(now.map(|now| {
                // In the same opening, the connection is attached, or its partner was told that it is not.
                let was_reopened =
                    now.first_opening == record.first_opening && now.opening != record.opening;
                let taking_part = self.participant_in(record).filter(|_| was_reopened);
                let reopened = taking_part.and_then(|own| {
                    let (negotiation, client) = (own.negotiation?, own.client);
                    Some(Continuity::Reopened { negotiation, client })
                });
                let continuity = reopened.unwrap_or_else(|| of_client(&now.id));
                (now, continuity)
            }));
        }
        let others = others.into_iter().flatten().map(|record| {
            let continuity = of_client(&record.id);
            (record.into(), continuity)
        });
        for (record, continuity) in there.into_iter().chain(others) {
            if let Some(record) = self.try_attach(record, continuity).await? {
                mailbox.push(Mail::Record { record, looked_up: true });
            }
        }
        jobs.state().generation = generation;
        jobs.succeeded();
        Ok(())
    }

    async fn load(&self, record: &SessionRecord) -> Result<Loaded, StoreError> {
        match self.node.store.load(&record.id).await {
            Err(StoreError::Corrupt(_)) => Ok(Loaded::Unreadable),
            loaded => Ok(loaded?.map_or(Loaded::Missing, |there| Loaded::Record(there.into()))),
        }
    }

    fn participant_in<'a>(&self, record: &'a SessionRecord) -> Option<&'a Participant> {
        record.role_of(&self.handle.user).map(|role| record.participant(role))
    }

    /// Claims the user for this connection again, unless it is `known` to be the user's. If the answer to its
    /// last claim was lost, it does not know its epoch, which only a claim tells. Returns what the
    /// user is a member of; none if a newer connection has the user, or if the connection looks up again
    /// because the store has lost records.
    async fn claim_again(
        &self,
        known: UserRecord,
        issued_at: Timestamp,
        lost_records: bool,
        is_attached: bool,
    ) -> Result<Option<Vec<Membership>>, StoreError> {
        let is_claimed = self.handle.jobs.state().claim == Claim::Answered
            && known.connection.as_ref() == Some(&self.handle.id);
        if !lost_records && is_claimed {
            return Ok(Some(known.memberships));
        }
        if !lost_records && self.store_lost_records().await? {
            return Ok(None);
        }
        let (accepted, replace) = match lost_records {
            true => (self.accepted_before_loss(issued_at), Replace::Older),
            // Another one that is there is newer.
            false => (self.accepted(issued_at), Replace::Nothing),
        };
        match self.connect(accepted, replace).await? {
            Connect::Done(connected) => {
                // This connection is attached, or about to be.
                let older = self.handle.jobs.state().replaced.take();
                if let Some(older) = older {
                    self.node.notify(&older, Notice::Replaced);
                }
                Ok(Some(connected.memberships))
            }
            Connect::Revoked => {
                self.handle.mailbox.close(DisconnectReason::Revoked);
                Ok(None)
            }
            // The newer one is not attached yet. It says so when it is, or that it has failed.
            Connect::Taken(_) if is_attached && !lost_records => Ok(None),
            Connect::Taken(_) => {
                self.handle.mailbox.close(DisconnectReason::Replaced);
                Ok(None)
            }
        }
    }

    /// Whether what is missing in the store is missing because it has lost records. Then the connection is
    /// about to look its sessions up and open them again.
    pub(super) async fn store_lost_records(&self) -> Result<bool, StoreError> {
        self.node.renew_lease().await?;
        Ok(self.node.health.generation() != self.handle.jobs.state().generation)
    }

    /// The record of a session of which the store held `known`: what is there, or `reopened` if the store has
    /// lost it: if there is none, or one that `gives_way`. It may be of another session that has the id now.
    ///
    /// Both users become members again, and their connections told. They attach as at any other time, each
    /// with the negotiation that it takes part in.
    pub(super) async fn open_again(
        &self,
        known: &SessionRecord,
        reopened: SessionRecord,
        gives_way: impl Fn(&SessionRecord) -> bool + Send,
    ) -> Result<Arc<SessionRecord>, StoreError> {
        let node = &self.node;
        let [one, other] = known.participants.each_ref().map(|participant| {
            // It was within the limit before the loss.
            node.store.join(&participant.user, &known.id, usize::MAX)
        });
        let (one, other) = try_join!(one, other)?;
        let current: Vec<_> = [one, other]
            .into_iter()
            .filter_map(|joined| match joined {
                Joined::Done(connection) => connection,
                Joined::Full(_) => None,
            })
            .collect();
        if reopened.participants.iter().all(|participant| participant.connection().is_none()) {
            // If this node died after it has written this, no other node would find anybody attached, and tell
            // them. They wait for the record.
            let told = node.tell_elsewhere(&current, &Arc::new(reopened.clone())).await;
            told.map_err(StoreError::unavailable)?;
        }
        let record = self.put_reopened(reopened, gives_way).await?;
        // Those that took part, and those that have come since.
        let took_part = known.participants.iter().filter_map(Participant::connection);
        let told: BTreeSet<_> = took_part.chain(&current).collect();
        for connection in told.into_iter().filter(|connection| **connection != self.handle.id) {
            node.notify(connection, Notice::Opened(record.clone()));
        }
        Ok(record)
    }

    /// The same for a session to which this connection is attached, as it is in the new opening, too. If this
    /// node dies before it has told the partner, the node that detaches its connections does.
    async fn open_attached(&self, known: &SessionRecord) -> Result<Arc<SessionRecord>, StoreError> {
        let (node, ConnectionHandle { id, user, jobs, .. }) = (&self.node, &*self.handle);
        let absent = self.reopened(known)?;
        let new = id::random_u64().map_err(StoreError::unavailable)?;
        let epoch = jobs.state().epoch;
        let attached = absent.role_of(user).and_then(|role| {
            let continuing = absent.participant(role).negotiation;
            let attached = absent.attach(role, id, epoch, continuing, new).ok()?;
            Some(attached.with_client(role, self.handle.client_number(new)))
        });
        jobs.may_be_attached(&known.id);
        // Absent where the user has a newer connection.
        let reopened = attached.unwrap_or_else(|| absent.clone());
        let there = self.open_again(known, reopened, |there| there.lacks(known)).await?;
        if there.opening == absent.opening
            && let Some(role) = there.attached_as(id)
        {
            let Participant { negotiation, client, .. } = absent.participant(role);
            let negotiation = negotiation.unwrap_or(absent.negotiation);
            let continuity = Continuity::Reopened { negotiation, client: *client };
            node.attached(&absent, &there, role, id, continuity);
        }
        Ok(there)
    }

    async fn put_reopened(
        &self,
        reopened: SessionRecord,
        gives_way: impl Fn(&SessionRecord) -> bool + Send,
    ) -> Result<Arc<SessionRecord>, StoreError> {
        let (node, session) = (&self.node, &reopened.id);
        let mut there = node.load(session).await?;
        for _ in 0..ROUNDS {
            if let Some(there) = there.take_if(|there| !gives_way(there)) {
                return Ok(Arc::new(there));
            }
            node.check_lease()?;
            there = match node.store.put(&reopened, there.as_ref()).await? {
                // A conflict with the very record: an earlier attempt was done, and its answer was lost.
                Written::Conflict(there) if !there.same_state(&reopened) => Some(*there),
                Written::Missing => None,
                Written::Done | Written::Conflict(_) => {
                    tracing::info!(%session, "session opened again");
                    return Ok(Arc::new(reopened));
                }
            };
        }
        Err(StoreError::unavailable(Contended))
    }

    /// A new opening of the session of `known`, with both participants absent.
    pub(super) fn reopened(&self, known: &SessionRecord) -> Result<SessionRecord, StoreError> {
        let opening = id::random_u64().map_err(StoreError::unavailable)?;
        Ok(known.reopen(opening, self.node.now().after(self.node.config.abandon_after)))
    }

    /// What decides whether this connection replaces one that is there in a store that has lost records.
    fn accepted_before_loss(&self, issued_at: Timestamp) -> Accepted {
        let accepted = self.accepted(issued_at);
        match self.node.second_connection {
            SecondConnection::Replace => accepted,
            // That was admitted only because the store had lost this one.
            SecondConnection::Refuse | SecondConnection::Ask(_) => {
                Accepted { latest: Accepted::UNKNOWN.latest, ..accepted }
            }
        }
    }

    /// Whether a newer connection of the user was attached, before the store lost its records, to one of the
    /// sessions in `believed`, of which the store has those in `loaded`. Epochs that were given since say nothing:
    /// the connection that looked up first has the lower one, whichever was accepted first, and attaches with it.
    fn was_replaced(&self, believed: &[Arc<SessionRecord>], loaded: &[Loaded]) -> bool {
        let epoch = self.handle.jobs.state().epoch;
        believed.iter().zip(loaded).any(|(believed, loaded)| {
            let there = loaded.record().filter(|there| there.opening == believed.opening);
            let own = there.and_then(|there| self.participant_in(there));
            own.is_some_and(|own| own.epoch > epoch)
        })
    }
}
