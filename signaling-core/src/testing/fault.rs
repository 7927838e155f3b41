//! A store and a bus that misbehave as their contracts allow: they delay, fail before or after the
//! deed, deliver twice, lose with a gap, and are cut off.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use tokio::{sync::watch, time};

use crate::{
    bus::{BusError, Delivery, Envelope, Inbox, MessageBus},
    id::{ConnectionId, NodeId, SessionId, UserId},
    session::SessionRecord,
    store::{
        Accepted, Connect, Counts, Heartbeat, Joined, Lease, Replace, SessionStore, StoreError,
        UserRecord, Written,
    },
    time::Timestamp,
};

/// How badly a node's store and bus behave.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Trouble {
    /// The longest that a call or a delivery takes.
    pub delay: Duration,
    /// The share of calls that fail, half of them after they were done.
    pub failures: f64,
    /// The share of publishes that arrive twice.
    pub repeats: f64,
    /// The share of deliveries that are lost, with a gap in their place.
    pub losses: f64,
    /// The share of calls and deliveries that panic, as their contracts do not allow.
    pub panics: f64,
}

impl Trouble {
    /// None at all.
    pub const NONE: Self =
        Self { delay: Duration::ZERO, failures: 0.0, repeats: 0.0, losses: 0.0, panics: 0.0 };

    /// A bad day.
    pub const HEAVY: Self = Self {
        delay: Duration::from_millis(200),
        failures: 0.05,
        repeats: 0.05,
        losses: 0.02,
        ..Self::NONE
    };
}

/// One node's access to what all nodes share, and the switch that cuts it off.
#[derive(Clone)]
pub struct Faults {
    random: Arc<Mutex<fastrand::Rng>>,
    trouble: watch::Sender<Trouble>,
    cut: watch::Sender<bool>,
    calls: Arc<AtomicUsize>,
}

/// How long a call takes to fail while the node is cut off.
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
#[error("an injected fault")]
struct Injected;

enum Fate {
    Fine,
    FailsBefore,
    FailsAfter,
}

impl Faults {
    /// No faults yet; what they will be follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))),
            trouble: watch::Sender::new(Trouble::NONE),
            cut: watch::Sender::new(false),
            calls: Arc::default(),
        }
    }

    /// From now on, calls misbehave like this.
    pub fn set(&self, trouble: Trouble) {
        self.trouble.send_replace(trouble);
    }

    /// From now on, no call succeeds and nothing is delivered, until this is undone.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// How many times the store and the bus were called.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// `store`, as this node sees it.
    #[must_use]
    pub fn store(&self, store: Arc<dyn SessionStore>) -> Arc<dyn SessionStore> {
        Arc::new(FaultyStore { store, faults: self.clone() })
    }

    /// `bus`, as this node sees it.
    #[must_use]
    pub fn bus(&self, bus: Arc<dyn MessageBus>) -> Arc<dyn MessageBus> {
        Arc::new(FaultyBus { bus, faults: self.clone() })
    }

    fn random(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happens(&self, share: f64) -> bool {
        share > 0.0 && self.random().f64() < share
    }

    async fn delay(&self) {
        let longest = self.trouble.borrow().delay;
        if !longest.is_zero() {
            let share = self.random().f64();
            time::sleep(longest.mul_f64(share)).await;
        }
    }

    fn panic(&self) {
        let panics = self.trouble.borrow().panics;
        assert!(!self.happens(panics), "an injected panic");
    }

    fn fate(&self) -> Fate {
        let failures = self.trouble.borrow().failures;
        if !self.happens(failures) {
            Fate::Fine
        } else if self.random().bool() {
            Fate::FailsBefore
        } else {
            Fate::FailsAfter
        }
    }

    async fn pass<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>> + Send,
        failed: fn(Injected) -> E,
    ) -> Result<T, E> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.panic();
        self.delay().await;
        if *self.cut.borrow() {
            time::sleep(TIMEOUT).await;
            return Err(failed(Injected));
        }
        match self.fate() {
            Fate::Fine => call.await,
            Fate::FailsBefore => Err(failed(Injected)),
            Fate::FailsAfter => {
                call.await?;
                Err(failed(Injected))
            }
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("trouble", &*self.trouble.borrow())
            .field("cut", &*self.cut.borrow())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct FaultyStore {
    store: Arc<dyn SessionStore>,
    faults: Faults,
}

impl FaultyStore {
    async fn pass<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.faults.pass(call, StoreError::unavailable).await
    }
}

#[async_trait]
impl SessionStore for FaultyStore {
    async fn load(&self, session: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        self.pass(self.store.load(session)).await
    }

    async fn put(
        &self,
        record: &SessionRecord,
        expected: Option<&SessionRecord>,
    ) -> Result<Written, StoreError> {
        self.pass(self.store.put(record, expected)).await
    }

    async fn delete(&self, record: &SessionRecord) -> Result<Written, StoreError> {
        self.pass(self.store.delete(record)).await
    }

    async fn join(
        &self,
        user: &UserId,
        session: &SessionId,
        limit: usize,
    ) -> Result<Joined, StoreError> {
        self.pass(self.store.join(user, session, limit)).await
    }

    async fn leave(
        &self,
        user: &UserId,
        session: &SessionId,
        since: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.pass(self.store.leave(user, session, since)).await
    }

    async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        accepted: Accepted,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError> {
        self.pass(self.store.connect(user, connection, accepted, replace)).await
    }

    async fn revoke(
        &self,
        user: &UserId,
        issued_before: Timestamp,
        keep: Duration,
    ) -> Result<Option<ConnectionId>, StoreError> {
        self.pass(self.store.revoke(user, issued_before, keep)).await
    }

    async fn disconnect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<bool, StoreError> {
        self.pass(self.store.disconnect(user, connection)).await
    }

    async fn user(&self, user: &UserId) -> Result<UserRecord, StoreError> {
        self.pass(self.store.user(user)).await
    }

    async fn record_heartbeats(
        &self,
        heartbeats: &[Heartbeat],
    ) -> Result<Vec<ConnectionId>, StoreError> {
        self.pass(self.store.record_heartbeats(heartbeats)).await
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<SessionRecord>, StoreError> {
        self.pass(self.store.overdue(limit)).await
    }

    async fn renew_lease(
        &self,
        node: &NodeId,
        lease: Duration,
        counts: Counts,
        others: &[NodeId],
    ) -> Result<Lease, StoreError> {
        self.pass(self.store.renew_lease(node, lease, counts, others)).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.pass(self.store.counts()).await
    }

    async fn attached_to(
        &self,
        node: &NodeId,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        self.pass(self.store.attached_to(node, limit)).await
    }

    async fn forget_node(&self, node: &NodeId) -> Result<(), StoreError> {
        self.pass(self.store.forget_node(node)).await
    }
}

#[derive(Debug)]
struct FaultyBus {
    bus: Arc<dyn MessageBus>,
    faults: Faults,
}

#[async_trait]
impl MessageBus for FaultyBus {
    async fn publish(&self, node: &NodeId, envelopes: &[Envelope]) -> Result<(), BusError> {
        let repeats = self.faults.trouble.borrow().repeats;
        if self.faults.happens(repeats) {
            self.faults.pass(self.bus.publish(node, envelopes), BusError::unavailable).await?;
        }
        self.faults.pass(self.bus.publish(node, envelopes), BusError::unavailable).await
    }

    async fn subscribe(&self, node: &NodeId) -> Result<Inbox, BusError> {
        self.faults.panic();
        let inbox = self.bus.subscribe(node).await?;
        let faults = self.faults.clone();
        let troubled = inbox.then(move |delivery| {
            let faults = faults.clone();
            async move {
                faults.panic();
                faults.delay().await;
                let mut cut = faults.cut.subscribe();
                // The sender of the switch is held right here.
                let _ = cut.wait_for(|cut| !cut).await;
                let losses = faults.trouble.borrow().losses;
                if faults.happens(losses) { Delivery::Gap } else { delivery }
            }
        });
        Ok(troubled.boxed())
    }
}
