//! A store that can be told to fail, and an authenticator that always does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    auth::{AuthError, Authenticator, Credentials, Identity},
    id::{ConnectionId, NodeId, SessionId, UserId},
    memory::MemoryStore,
    session::SessionRecord,
    store::{
        Accepted, Connect, Counts, Heartbeat, Joined, Lease, Replace, SessionStore, StoreError,
        UserRecord, Written,
    },
    time::Timestamp,
};

/// Whoever must be asked about tokens does not answer.
#[derive(Debug)]
pub(super) struct NobodyToAsk;

#[async_trait]
impl Authenticator for NobodyToAsk {
    async fn authenticate(&self, _: &Credentials) -> Result<Identity, AuthError> {
        Err(AuthError::Unavailable("the cause, which no client may see".into()))
    }
}

/// How a [`FaultyStore`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fault {
    None,
    Unavailable,
    Corrupt,
}

/// A memory store with a switch.
#[derive(Debug, Default)]
pub(super) struct FaultyStore {
    inner: MemoryStore,
    fault: AtomicU8,
}

impl FaultyStore {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(super) fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), StoreError> {
        let cause = "the cause, which no client may see";
        match self.fault.load(Ordering::SeqCst) {
            fault if fault == Fault::Unavailable as u8 => Err(StoreError::unavailable(cause)),
            fault if fault == Fault::Corrupt as u8 => Err(StoreError::Corrupt(cause.into())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl SessionStore for FaultyStore {
    async fn load(&self, session: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        self.check()?;
        self.inner.load(session).await
    }

    async fn put(
        &self,
        record: &SessionRecord,
        expected: Option<&SessionRecord>,
    ) -> Result<Written, StoreError> {
        self.check()?;
        self.inner.put(record, expected).await
    }

    async fn delete(&self, record: &SessionRecord) -> Result<Written, StoreError> {
        self.check()?;
        self.inner.delete(record).await
    }

    async fn revoke(
        &self,
        user: &UserId,
        issued_before: Timestamp,
        keep: Duration,
    ) -> Result<Option<ConnectionId>, StoreError> {
        self.check()?;
        self.inner.revoke(user, issued_before, keep).await
    }

    async fn join(
        &self,
        user: &UserId,
        session: &SessionId,
        limit: usize,
    ) -> Result<Joined, StoreError> {
        self.check()?;
        self.inner.join(user, session, limit).await
    }

    async fn leave(
        &self,
        user: &UserId,
        session: &SessionId,
        since: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.check()?;
        self.inner.leave(user, session, since).await
    }

    async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        accepted: Accepted,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError> {
        self.check()?;
        self.inner.connect(user, connection, accepted, replace).await
    }

    async fn disconnect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<bool, StoreError> {
        self.check()?;
        self.inner.disconnect(user, connection).await
    }

    async fn user(&self, user: &UserId) -> Result<UserRecord, StoreError> {
        self.check()?;
        self.inner.user(user).await
    }

    async fn record_heartbeats(
        &self,
        heartbeats: &[Heartbeat],
    ) -> Result<Vec<ConnectionId>, StoreError> {
        self.check()?;
        self.inner.record_heartbeats(heartbeats).await
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<SessionRecord>, StoreError> {
        self.check()?;
        self.inner.overdue(limit).await
    }

    async fn renew_lease(
        &self,
        node: &NodeId,
        lease: Duration,
        counts: Counts,
        others: &[NodeId],
    ) -> Result<Lease, StoreError> {
        self.check()?;
        self.inner.renew_lease(node, lease, counts, others).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.check()?;
        self.inner.counts().await
    }

    async fn attached_to(
        &self,
        node: &NodeId,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        self.check()?;
        self.inner.attached_to(node, limit).await
    }

    async fn forget_node(&self, node: &NodeId) -> Result<(), StoreError> {
        self.check()?;
        self.inner.forget_node(node).await
    }
}
