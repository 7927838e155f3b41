//! How a connection becomes its user's: the host is asked, and another connection that is there
//! gives way or does not.

use std::error::Error;

use super::{
    super::{
        hooks::{HookError, Newcomer, SecondConnection, Stays, ask},
        jobs::Admission,
        registry::ConnectionHandle,
        writes::{Contended, ROUNDS},
    },
    Worker,
};
use crate::{
    event::Event,
    frame::CloseReason,
    id::ConnectionId,
    notice::Notice,
    reason::DisconnectReason,
    store::{Connect, Connected, Replace, StoreError},
};

/// Why a connection is not admitted.
#[derive(Debug)]
pub(super) enum NotAdmitted {
    Store(StoreError),
    Hook(HookError),
    Refused(CloseReason),
    AlreadyConnected,
    /// The store has learned of a newer connection first.
    Replaced,
    /// The client's token was revoked.
    Revoked,
    /// It has ended meanwhile.
    Over,
}

impl From<StoreError> for NotAdmitted {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<HookError> for NotAdmitted {
    fn from(error: HookError) -> Self {
        Self::Hook(error)
    }
}

impl Worker {
    /// Asks the host, and makes the connection its user's.
    pub(super) async fn claim_user(&self, newcomer: &Newcomer) -> Result<Connected, NotAdmitted> {
        let (node, limit) = (&self.node, self.node.config.hook_timeout);
        self.handle.jobs.state().admission = Admission::Pending;
        let asked = async { node.hooks.before_connection(newcomer).await };
        ask(limit, asked).await?.map_err(NotAdmitted::Refused)?;
        let mut over = None;
        for _ in 0..ROUNDS {
            if self.handle.mailbox.closing().is_some() {
                return Err(NotAdmitted::Over);
            }
            let replace = match (&node.second_connection, &over) {
                (SecondConnection::Replace, _) => Replace::Older,
                (_, Some(present)) => Replace::Only(present),
                (_, None) => Replace::Nothing,
            };
            let accepted = self.accepted(newcomer.client.identity.issued_at.unwrap_or_default());
            let present = match self.connect(accepted, replace).await? {
                Connect::Done(connected) => {
                    self.tell_connected();
                    return Ok(connected);
                }
                Connect::Taken(present)
                    if matches!(replace, Replace::Older) || replace == Replace::Only(&present) =>
                {
                    return Err(NotAdmitted::Replaced);
                }
                Connect::Taken(present) => present,
                Connect::Revoked => return Err(NotAdmitted::Revoked),
            };
            if !self.gives_way(newcomer, &present).await? {
                self.contest(present).await?;
                return Err(NotAdmitted::AlreadyConnected);
            }
            over = Some(present);
        }
        Err(StoreError::unavailable(Contended).into())
    }

    /// Closes the connection, and says why.
    pub(super) fn not_admitted(&self, not: NotAdmitted) {
        let ConnectionHandle { id, user, mailbox, goodbye, .. } = &*self.handle;
        if let NotAdmitted::Store(error) = &not {
            self.node.health.note(error);
        }
        let reason = match &not {
            NotAdmitted::Store(StoreError::Unavailable(_) | StoreError::Refused(_)) => {
                DisconnectReason::StoreUnavailable
            }
            NotAdmitted::Store(StoreError::Corrupt(_)) => DisconnectReason::Internal,
            NotAdmitted::Hook(HookError::TimedOut) => DisconnectReason::HookTimeout,
            NotAdmitted::Hook(HookError::Panicked) => DisconnectReason::Internal,
            NotAdmitted::Refused(_) => DisconnectReason::Refused,
            NotAdmitted::AlreadyConnected => DisconnectReason::AlreadyConnected,
            NotAdmitted::Replaced => DisconnectReason::Replaced,
            NotAdmitted::Revoked => DisconnectReason::Revoked,
            NotAdmitted::Over => return,
        };
        let error = match &not {
            NotAdmitted::Store(error) => Some(error as &(dyn Error + 'static)),
            NotAdmitted::Hook(error) => Some(error as _),
            _ => None,
        };
        let said = match &not {
            NotAdmitted::Refused(said) => said.clone(),
            _ => CloseReason::default(),
        };
        self.node.refusals.log_connection(user, id, reason, &said, error);
        if reason == DisconnectReason::Refused {
            // The first words count.
            let _ = goodbye.set(said);
        }
        mailbox.close(reason);
    }

    async fn gives_way(
        &self,
        newcomer: &Newcomer,
        present: &ConnectionId,
    ) -> Result<bool, NotAdmitted> {
        let node = &self.node;
        // One of this node that is over; the store is about to learn of it.
        if *present.node() == node.id && node.registry.get(present.number()).is_none() {
            return Ok(true);
        }
        if self.is_same_client(newcomer).await? {
            return Ok(true);
        }
        match &node.second_connection {
            SecondConnection::Replace => Ok(true),
            SecondConnection::Refuse => Ok(false),
            SecondConnection::Ask(arbiter) => {
                let asked = async { arbiter.decide(newcomer, present).await };
                Ok(ask(node.config.hook_timeout, asked).await? == Stays::Newcomer)
            }
        }
    }

    /// Whether the newcomer names a negotiation in which its user takes part. Only the client that does so knows
    /// its id, beside its partner's.
    async fn is_same_client(&self, newcomer: &Newcomer) -> Result<bool, StoreError> {
        for named in &newcomer.client.continuing {
            let Some(record) = self.node.load_for(newcomer.user(), &named.session).await? else {
                continue;
            };
            let own = record.role_of(newcomer.user()).map(|role| record.participant(role));
            let negotiation = Some(named.negotiation.number());
            if own.is_some_and(|own| own.client.is_some() && own.negotiation == negotiation) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn tell_connected(&self) {
        let ConnectionHandle { id, user, jobs, .. } = &*self.handle;
        jobs.state().admission = Admission::Done;
        let (user, connection) = (user.clone(), id.clone());
        self.node.emit(Event::UserConnected { user, connection });
    }

    /// Tells the host that the connection is over, once.
    pub(super) fn tell_end(&self, reason: DisconnectReason) {
        let ConnectionHandle { id, user, jobs, goodbye, .. } = &*self.handle;
        let (user, connection) = (user.clone(), id.clone());
        let text = goodbye.get().cloned().unwrap_or_default();
        match std::mem::take(&mut jobs.state().admission) {
            Admission::Untold => {}
            Admission::Pending => {
                self.node.connection_refused(user, connection, reason, text);
            }
            Admission::Done => {
                self.node.emit(Event::UserDisconnected { user, connection, reason, text });
            }
        }
    }

    /// Has `present`, which keeps another connection out, found out where it is over and only the
    /// store does not know: by its node, or when that turns out to be dead.
    async fn contest(&self, present: ConnectionId) -> Result<(), StoreError> {
        let (node, user) = (&self.node, &self.handle.user);
        if *present.node() != node.id {
            node.renew_lease_beside(std::slice::from_ref(present.node())).await?;
            node.notify(&present, Notice::Contested { user: user.clone() });
        }
        Ok(())
    }
}
