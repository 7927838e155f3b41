//! A store in memory that counts what it is asked.

use std::{
    future::poll_fn,
    ops::Sub,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use signaling_core::{
    id::{ConnectionId, NodeId, SessionId, UserId},
    memory::MemoryStore,
    session::SessionRecord,
    store::{
        Accepted, Connect, Counts, Heartbeat, Joined, Lease, Replace, SessionStore, StoreError,
        UserRecord, Written,
    },
    time::Timestamp,
};
use tokio::time::Instant;

use crate::process;

#[derive(Debug)]
pub(crate) struct Counting {
    store: MemoryStore,
    /// The store's time, and when a lease said so.
    clock: Mutex<(Timestamp, Instant)>,
    batches: AtomicU64,
    heartbeats: AtomicU64,
    doubtful: AtomicU64,
    others: AtomicU64,
    /// Heartbeats in the largest batch, and microseconds of CPU for the dearest piece of one: between two
    /// pieces others have their turn.
    pub(crate) largest: AtomicU64,
    pub(crate) dearest_us: AtomicU64,
    /// Sessions that were ended because somebody stayed away.
    pub(crate) abandoned: AtomicU64,
    /// How long after its deadline the last of those was, at most; in milliseconds.
    pub(crate) overdue_ms: AtomicU64,
}

/// What it was asked so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    /// Batches of heartbeats.
    pub(crate) batches: u64,
    pub(crate) heartbeats: u64,
    /// Of these, from connections that believed something wrong.
    pub(crate) doubtful: u64,
    /// Everything else.
    pub(crate) others: u64,
}

impl Sub for Calls {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self {
            batches: self.batches - before.batches,
            heartbeats: self.heartbeats - before.heartbeats,
            doubtful: self.doubtful - before.doubtful,
            others: self.others - before.others,
        }
    }
}

impl Counting {
    pub(crate) fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            clock: Mutex::new((Timestamp::default(), Instant::now())),
            batches: AtomicU64::new(0),
            heartbeats: AtomicU64::new(0),
            largest: AtomicU64::new(0),
            dearest_us: AtomicU64::new(0),
            doubtful: AtomicU64::new(0),
            others: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            overdue_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn calls(&self) -> Calls {
        Calls {
            batches: self.batches.load(Relaxed),
            heartbeats: self.heartbeats.load(Relaxed),
            doubtful: self.doubtful.load(Relaxed),
            others: self.others.load(Relaxed),
        }
    }

    fn now(&self) -> Timestamp {
        let (said, at) = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        said.after(at.elapsed())
    }

    fn other(&self) -> &MemoryStore {
        self.others.fetch_add(1, Relaxed);
        &self.store
    }
}

#[async_trait]
impl SessionStore for Counting {
    async fn load(&self, session: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        self.other().load(session).await
    }

    async fn put(
        &self,
        record: &SessionRecord,
        expected: Option<&SessionRecord>,
    ) -> Result<Written, StoreError> {
        self.other().put(record, expected).await
    }

    async fn delete(&self, record: &SessionRecord) -> Result<Written, StoreError> {
        let now = self.now();
        if let Some(deadline) = record.deadline().filter(|at| *at <= now) {
            let late = now.since(deadline).as_millis();
            self.overdue_ms.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Relaxed);
            self.abandoned.fetch_add(1, Relaxed);
        }
        self.other().delete(record).await
    }

    async fn join(
        &self,
        user: &UserId,
        session: &SessionId,
        limit: usize,
    ) -> Result<Joined, StoreError> {
        self.other().join(user, session, limit).await
    }

    async fn leave(&self, user: &UserId, session: &SessionId) -> Result<(), StoreError> {
        self.other().leave(user, session).await
    }

    async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        accepted: Accepted,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError> {
        self.other().connect(user, connection, accepted, replace).await
    }

    async fn disconnect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<bool, StoreError> {
        self.other().disconnect(user, connection).await
    }

    async fn user(&self, user: &UserId) -> Result<UserRecord, StoreError> {
        self.other().user(user).await
    }

    async fn record_heartbeats(
        &self,
        heartbeats: &[Heartbeat],
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let count = heartbeats.len() as u64;
        self.batches.fetch_add(1, Relaxed);
        self.heartbeats.fetch_add(count, Relaxed);
        self.largest.fetch_max(count, Relaxed);
        let mut recording = self.store.record_heartbeats(heartbeats);
        let record = poll_fn(|cx| {
            let cpu = process::cpu();
            let recorded = recording.as_mut().poll(cx);
            self.dearest_us.fetch_max(((process::cpu() - cpu) * 1e6) as u64, Relaxed);
            recorded
        });
        let doubtful = record.await?;
        self.doubtful.fetch_add(doubtful.len() as u64, Relaxed);
        Ok(doubtful)
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<SessionRecord>, StoreError> {
        self.other().overdue(limit).await
    }

    async fn renew_lease(
        &self,
        node: &NodeId,
        lease: Duration,
        counts: Counts,
        others: &[NodeId],
    ) -> Result<Lease, StoreError> {
        let lease = self.other().renew_lease(node, lease, counts, others).await?;
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = (lease.now, Instant::now());
        Ok(lease)
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.other().counts().await
    }

    async fn attached_to(
        &self,
        node: &NodeId,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        self.other().attached_to(node, limit).await
    }

    async fn forget_node(&self, node: &NodeId) -> Result<(), StoreError> {
        self.other().forget_node(node).await
    }
}
