//! What the connections of this node send to those of other nodes: one bounded queue for each node.
//!
//! Each session has its share of a queue (see [`share`]). A signal that a queue cannot take or hand on
//! goes back to its sender as a value. Any other notice that is lost makes the other node look its
//! sessions up, as soon as it can be reached.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::task::TaskTracker;

use super::{
    background::caught,
    backoff::Backoff,
    health::Health,
    mailbox::Mail,
    registry::ConnectionHandle,
    share::{self, Load},
};
use crate::{
    bus::{BusError, Content, Envelope, MessageBus},
    config::Config,
    id::NodeId,
    log::{Throttle, WARNING_INTERVAL},
    notice::{LossReason, Notice, RelayedSignal},
};

/// The most envelopes in one call to the bus.
const BATCH: usize = 128;
/// How long a busy queue gathers before it calls the bus again: what goes together costs the bus little more
/// than one envelope alone.
const LINGER: Duration = Duration::from_millis(1);
/// A queue is busy that carried more envelopes than this in the time of [`LINGER`].
const LINGER_THRESHOLD: usize = 8;

#[derive(Debug)]
pub(super) struct NodeQueues {
    bus: Arc<dyn MessageBus>,
    capacity: Load,
    health: Arc<Health>,
    queues: Mutex<HashMap<NodeId, Arc<NodeQueue>>>,
    tasks: TaskTracker,
}

#[derive(Debug)]
pub(super) struct NodeQueue {
    items: mpsc::Sender<Item>,
    state: Arc<State>,
}

/// What those who send and the task that carries share.
#[derive(Debug)]
struct State {
    capacity: Load,
    loads: Mutex<Loads>,
    /// The other node is to be told that it has missed notices.
    lossy: AtomicBool,
}

/// What waits in a queue, and what of that is on its way to the bus.
#[derive(Debug, Default)]
struct Loads {
    used: Load,
    /// What the signals of each session take of it, by the first opening.
    sessions: HashMap<u64, Load>,
}

#[derive(Debug)]
struct Item {
    envelope: Envelope,
    /// Who must know when it is a signal that gets nowhere.
    sender: Option<Arc<ConnectionHandle>>,
}

impl Item {
    fn lost(self, reason: LossReason, lossy: &AtomicBool) {
        match (self.envelope.0, self.sender) {
            (Content::Notice { notice: Notice::Signal(signal), .. }, Some(sender)) => {
                let RelayedSignal { session, negotiation, number, .. } = signal;
                let (numbers, code) = (number..number + 1, reason.into());
                sender.mailbox.push(Mail::Undelivered { session, negotiation, numbers, code });
            }
            _ => lossy.store(true, Ordering::SeqCst),
        }
    }
}

/// What an envelope takes of a queue, and the first opening of the session to which that is charged.
fn load(envelope: &Envelope) -> (Load, Option<u64>) {
    match &envelope.0 {
        Content::Notice { notice: Notice::Signal(signal), .. } => {
            (Load::message(signal.text.len()), Some(signal.first_opening))
        }
        Content::Notice { notice: Notice::Opened(record) | Notice::Changed(record), .. } => {
            let metadata = record.metadata.as_ref().map_or(0, |metadata| metadata.as_str().len());
            (Load::message(metadata), None)
        }
        Content::Notice { .. } | Content::NoticesLost => (Load::message(0), None),
    }
}

impl State {
    fn loads(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for `envelope`; false when there is none.
    fn reserve(&self, envelope: &Envelope) -> bool {
        let (new, session) = load(envelope);
        let loads = &mut *self.loads();
        let own = |session| loads.sessions.get(&session).copied().unwrap_or_default();
        let fits = match session {
            Some(session) => share::has_room(self.capacity, loads.used, new, || own(session)),
            None => (loads.used + new).fits(self.capacity),
        };
        if fits {
            loads.used += new;
            if let Some(session) = session {
                *loads.sessions.entry(session).or_default() += new;
            }
        }
        fits
    }

    /// The bus has these, or they are lost.
    fn release<'a>(&self, envelopes: impl Iterator<Item = &'a Envelope>) {
        let loads = &mut *self.loads();
        for (load, session) in envelopes.map(load) {
            loads.used -= load;
            if let Some(Entry::Occupied(mut own)) =
                session.map(|session| loads.sessions.entry(session))
            {
                *own.get_mut() -= load;
                if own.get().messages == 0 {
                    own.remove();
                }
            }
        }
    }
}

impl NodeQueue {
    /// Puts `envelope` into the queue; `sender` is told when it is a signal that gets nowhere.
    pub(super) fn send(&self, envelope: Envelope, sender: Option<&Arc<ConnectionHandle>>) {
        let mut item = Item { envelope, sender: sender.cloned() };
        if !self.state.reserve(&item.envelope) {
            return item.lost(LossReason::QueueFull, &self.state.lossy);
        }
        // What waits for another node keeps no read buffer of its sender.
        if let Content::Notice { notice: Notice::Signal(signal), .. } = &mut item.envelope.0 {
            signal.text = signal.text.detached();
        }
        if let Err(refused) = self.items.try_send(item) {
            let item = refused.into_inner();
            self.state.release(std::iter::once(&item.envelope));
            item.lost(LossReason::Lost, &self.state.lossy);
        }
    }
}

impl NodeQueues {
    pub(super) fn new(bus: Arc<dyn MessageBus>, config: &Config, health: Arc<Health>) -> Self {
        let capacity = Load { messages: config.max_node_queue, bytes: config.max_node_queue_bytes };
        Self { bus, capacity, health, queues: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// The queue to `node`, opened when there is none.
    pub(super) fn queue(&self, node: &NodeId) -> Arc<NodeQueue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(node) {
            return queue.clone();
        }
        let (items, receiver) = mpsc::channel(self.capacity.messages);
        let state = Arc::new(State {
            capacity: self.capacity,
            loads: Mutex::default(),
            lossy: AtomicBool::default(),
        });
        let health = self.health.clone();
        self.tasks.spawn(run(self.bus.clone(), health, node.clone(), receiver, state.clone()));
        let queue = Arc::new(NodeQueue { items, state });
        queues.insert(node.clone(), queue.clone());
        queue
    }

    /// Publishes at once, beside what waits in the queue, and returns when the envelopes cannot be lost with
    /// this node any more. What the bus did not take goes through the queue as well.
    pub(super) async fn publish(
        &self,
        node: &NodeId,
        envelopes: &[Envelope],
    ) -> Result<(), BusError> {
        let published = caught(self.bus.publish(node, envelopes)).await;
        let error = match published.unwrap_or_else(|panic| Err(BusError::unavailable(panic))) {
            // A node without an inbox is gone.
            Ok(()) | Err(BusError::NoInbox(_)) => return Ok(()),
            Err(error) => error,
        };
        if matches!(error, BusError::Refused(_)) {
            self.health.refused();
        }
        let queue = self.queue(node);
        envelopes.iter().for_each(|envelope| queue.send(envelope.clone(), None));
        match error {
            // One whose inbox is full looks all sessions up later.
            BusError::Full(_) => Ok(()),
            error => Err(error),
        }
    }

    /// The nodes that this one sends to.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Closes the queue to a node that is no more.
    pub(super) fn forget(&self, node: &NodeId) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// Closes all queues and waits until they are empty.
    pub(super) async fn drain(&self) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Carries one queue's items until the queue is closed and empty.
async fn run(
    bus: Arc<dyn MessageBus>,
    health: Arc<Health>,
    node: NodeId,
    mut items: mpsc::Receiver<Item>,
    state: Arc<State>,
) {
    let lossy = &state.lossy;
    let mut batch = Vec::new();
    // Between attempts to tell the node that it has missed notices.
    let mut retries = Backoff::default();
    let warnings = Throttle::new(1, WARNING_INTERVAL);
    let mut pace = Pace { since: Instant::now(), carried: 0 };
    loop {
        let received = if lossy.load(Ordering::SeqCst) {
            let received =
                time::timeout(retries.pause(), items.recv_many(&mut batch, BATCH)).await.ok();
            if received.is_none() {
                let _ = retries.next_pause();
            }
            received
        } else {
            Some(items.recv_many(&mut batch, BATCH).await)
        };
        if received == Some(0) {
            break;
        }
        let was_lossy = lossy.swap(false, Ordering::SeqCst);
        let mut envelopes = Vec::with_capacity(batch.len() + 1);
        envelopes.extend(was_lossy.then_some(Envelope(Content::NoticesLost)));
        envelopes.extend(batch.iter().map(|item| item.envelope.clone()));
        let published = caught(bus.publish(&node, &envelopes)).await;
        let published = published.unwrap_or_else(|panic| Err(BusError::unavailable(panic)));
        state.release(batch.iter().map(|item| &item.envelope));
        if matches!(published, Err(BusError::Refused(_))) {
            health.refused();
        }
        if let Err(error) = &published {
            if let Some(suppressed) = warnings.pass("lost") {
                let error = error as &dyn std::error::Error;
                tracing::warn!(%node, error, suppressed, "notices to a node lost; it looks its sessions up");
            }
            lossy.fetch_or(was_lossy, Ordering::SeqCst);
            batch.drain(..).for_each(|item| item.lost(LossReason::Lost, lossy));
        } else {
            retries.reset();
        }
        batch.clear();
        pace.carried(envelopes.len()).await;
    }
}

/// How much a queue carries, and since when: none of it later than it could be while that is little.
struct Pace {
    since: Instant,
    carried: usize,
}

impl Pace {
    /// Lets a busy queue wait until more has come together.
    async fn carried(&mut self, envelopes: usize) {
        self.carried += envelopes;
        if self.since.elapsed() < LINGER {
            if self.carried <= LINGER_THRESHOLD {
                return;
            }
            time::sleep_until(self.since + LINGER).await;
        }
        *self = Self { since: Instant::now(), carried: 0 };
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures::stream::{self, StreamExt};
    use tokio::task::yield_now;

    use super::*;
    use crate::{bus::Inbox, config::Config, id::ConnectionId, store::Lease, time::Timestamp};

    fn health() -> Arc<Health> {
        let (now, lost) = (Timestamp::default(), Vec::new());
        let lease = Lease { held: false, now, generation: 0, lost };
        Arc::new(Health::new(Instant::now(), &lease, &Config::default()))
    }

    type At<T> = (Instant, T);

    /// A bus that remembers what was published, and when.
    #[derive(Debug, Default)]
    struct Published(Mutex<Vec<At<Vec<Envelope>>>>);

    #[async_trait]
    impl MessageBus for Published {
        async fn publish(&self, _: &NodeId, envelopes: &[Envelope]) -> Result<(), BusError> {
            yield_now().await;
            self.0.lock().unwrap().push((Instant::now(), envelopes.to_vec()));
            Ok(())
        }

        async fn subscribe(&self, _: &NodeId) -> Result<Inbox, BusError> {
            Ok(stream::pending().boxed())
        }
    }

    /// Sends `each` envelopes in each of 50 milliseconds; gives what was sent and what was published.
    async fn carry(each: u64) -> (Vec<At<Envelope>>, Vec<At<Vec<Envelope>>>) {
        let far = NodeId::generate(Some("far")).unwrap();
        let bus = Arc::new(Published::default());
        let node_queues = NodeQueues::new(bus.clone(), &Config::default(), health());
        let queue = node_queues.queue(&far);
        let mut sent = Vec::new();
        for number in 0..50 * each {
            let to = ConnectionId::new(far.clone(), number);
            let envelope = Envelope::notice(&to, Notice::Replaced);
            sent.push((Instant::now(), envelope.clone()));
            queue.send(envelope, None);
            // Long enough for the queue to publish it, if it would.
            for _ in 0..4 {
                yield_now().await;
            }
            if (number + 1) % each == 0 {
                time::sleep(Duration::from_millis(1)).await;
            }
        }
        drop(queue);
        node_queues.drain().await;
        (sent, std::mem::take(&mut bus.0.lock().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_queue_gathers_and_keeps_the_order() {
        let (sent, published) = carry(20).await;
        assert!(published.len() < 150, "{} calls for {}", published.len(), sent.len());
        let carried = published.into_iter().flat_map(|(_, envelopes)| envelopes);
        assert!(carried.eq(sent.into_iter().map(|(_, envelope)| envelope)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_not_busy_publishes_each_at_once() {
        let (sent, published) = carry(4).await;
        let alone = sent.into_iter().map(|(at, envelope)| (at, vec![envelope]));
        assert_eq!(published, alone.collect::<Vec<_>>());
    }
}
