//! What a connection puts back into a store that has lost its records.

use std::sync::Arc;

use futures::try_join;
use tokio::time;

use super::{
    super::{hooks::SecondConnection, mailbox::Mail, writes::RETRY},
    Steward,
};
use crate::{
    event::DisconnectReason,
    id::{ConnectionId, UserId},
    notice::Notice,
    protocol::PartnerReason,
    session::{Participant, SessionRecord},
    store::{Accepted, Connect, Created, Replace, StoreError},
};

impl Steward {
    pub(super) async fn restore(&self, records: Vec<Arc<SessionRecord>>) {
        let records = self.local.duties.with_unheard(records);
        match self.try_restore(&records).await {
            Ok(true) => self.look_up(records).await,
            Ok(false) => self.local.mailbox.close(DisconnectReason::Replaced),
            Err(error) => {
                self.failed("not restored yet", &error);
                self.restore_later();
            }
        }
    }

    /// Asks the connection again: some of its sessions may be over by then.
    fn restore_later(&self) {
        let (node, local) = (self.node.clone(), self.local.clone());
        self.node.tasks.spawn(async move {
            if node.stopped.run_until_cancelled(time::sleep(RETRY)).await.is_some() {
                local.mailbox.push(Mail::StoreEmptied);
            }
        });
    }

    /// False when the connection turns out to be replaced by a newer one.
    async fn try_restore(&self, records: &[Arc<SessionRecord>]) -> Result<bool, StoreError> {
        let (node, duties) = (&self.node, &self.local.duties);
        // Epochs tell only before this connection gets a new one.
        if duties.agenda().generation != node.health.generation()
            && self.was_replaced(records).await?
        {
            return Ok(false);
        }
        if self.local.mailbox.closing().is_some() {
            // Its end is next, and leaves them behind.
            return Ok(true);
        }
        loop {
            let generation = node.health.generation();
            if self.local.mailbox.closing().is_none()
                && let Connect::Taken(_) = self.connect(self.restored(), Replace::Older).await?
            {
                return Ok(false);
            }
            for record in records {
                self.put_back(record).await?;
            }
            if self.is_generation(generation).await? {
                duties.agenda().generation = generation;
                return Ok(true);
            }
        }
    }

    /// What decides whether this connection replaces one that is there now.
    fn restored(&self) -> Accepted {
        let accepted = self.accepted();
        match self.node.second_connection {
            SecondConnection::Replace => accepted,
            // That was admitted only because the store had lost this one.
            SecondConnection::Refuse | SecondConnection::Ask(_) => {
                Accepted { latest: Accepted::UNKNOWN.latest, ..accepted }
            }
        }
    }

    /// Puts `record` back for those who come after this connection, which has ended.
    pub(super) async fn leave_behind(
        &self,
        record: &SessionRecord,
        reason: DisconnectReason,
    ) -> Result<(), StoreError> {
        let (now, patience) = (self.node.now(), self.node.config.abandon_after);
        let Some(detached) = record.detach(&self.local.id, reason.into(), now, patience) else {
            return Ok(());
        };
        loop {
            let generation = self.node.health.generation();
            self.put_back(&detached).await?;
            if self.is_generation(generation).await? {
                return Ok(());
            }
        }
    }

    /// Whether all that was written in `generation` is still there. Otherwise half of it may be gone,
    /// and this connection before anybody else would do it again.
    async fn is_generation(&self, generation: u64) -> Result<bool, StoreError> {
        self.node.renew_lease().await?;
        Ok(self.node.health.generation() == generation)
    }

    /// Whether a newer connection of the user has put its records back already.
    async fn was_replaced(&self, records: &[Arc<SessionRecord>]) -> Result<bool, StoreError> {
        let (user, epoch) = (&self.local.user, self.local.duties.agenda().epoch);
        for record in records {
            if let Some(there) = self.node.load_for(user, &record.id).await?
                && there.opening == record.opening
                && there.participants.iter().any(|p| p.user == *user && p.epoch > epoch)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts `record` back with all that leads to it. Tells the partner, which may know better, or
    /// have gone; and who of the two has come meanwhile, without finding the session.
    pub(super) async fn put_back(&self, record: &SessionRecord) -> Result<(), StoreError> {
        let (node, now) = (&self.node, self.node.now());
        let Some(role) = record.role_of(&self.local.user) else {
            return Ok(());
        };
        let epoch = self.local.duties.agenda().epoch;
        let limit = node.config.max_sessions_per_user;
        let enrolled = record.participants.each_ref();
        let [one, other] = enrolled.map(|it| node.store.enrol(&it.user, &record.id, limit));
        let _ = try_join!(one, other)?;
        let mut known = match node.load(&record.id).await? {
            Some(there) if there.opening != record.opening => return Ok(()),
            Some(there) if !there.lacks(record) => there,
            // What was written in the place of a lost write counts, but not as that write.
            Some(there) if there.revision == record.revision => there.restored(role, epoch, now),
            // What was made of the record meanwhile is behind it, and gives way.
            _ => record.restored(role, epoch, now),
        };
        let partner = known.participant(role.partner());
        if let Some(connection) = partner.connection()
            && !self.vouch_for(&partner.user, connection).await?
            && let Some(detached) =
                known.detach(connection, PartnerReason::Lost, now, node.config.abandon_after)
        {
            known = detached;
        }
        node.check_lease()?;
        let there = match node.store.create(&known).await? {
            Created::Done => {
                tracing::info!(session = %known.id, "record restored");
                Arc::new(known)
            }
            Created::Exists(there) if there.opening == record.opening => Arc::from(there),
            Created::Exists(_) => return Ok(()),
        };
        if let Some(attached) = there.participant(role.partner()).connection() {
            node.notify(attached, Notice::Changed(there.clone()));
        }
        for Participant { user, .. } in &there.participants {
            let current = node.store.user(user).await?.connection;
            if let Some(current) = current.filter(|current| there.attached_as(current).is_none()) {
                node.notify(&current, Notice::Opened(there.clone()));
            }
        }
        Ok(())
    }

    /// Has the node of the partner in `record` found lost when it dies: a store that lost its records
    /// may not have heard from it since.
    pub(super) async fn presume_partner(&self, record: &SessionRecord) -> Result<(), StoreError> {
        let (node, config) = (&self.node, &self.node.config);
        if !node.health.lost_records_within(config.abandon_after) {
            return Ok(());
        }
        let attached = record.participants.iter().filter_map(Participant::connection);
        for elsewhere in attached.map(ConnectionId::node).filter(|other| **other != node.id) {
            node.store.presume_alive(elsewhere, config.node_lease).await?;
        }
        Ok(())
    }

    /// Says whether `connection` may still be the one of the partner `user`. Where it may, the store
    /// knows it afterwards, so that it is found when its node turns out to be dead.
    async fn vouch_for(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<bool, StoreError> {
        let node = &self.node;
        if *connection.node() == node.id {
            return Ok(node.locals.get(connection.number()).is_some());
        }
        node.store.presume_alive(connection.node(), node.config.node_lease).await?;
        match node.store.connect(user, connection, Accepted::UNKNOWN, Replace::Nothing).await? {
            Connect::Done(_) => Ok(true),
            Connect::Taken(_) => Ok(false),
        }
    }
}
