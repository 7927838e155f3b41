//! A seeded run of a whole deployment: several nodes on one store and bus that misbehave, nodes
//! that die or are cut off, clients that come, talk, hang up, move and vanish; on request, a store
//! that loses everything.
//!
//! What must hold is checked on what the clients saw:
//!
//! - `partner-disconnected` comes once for each loss, and never to who has no partner; half of the
//!   clients are told why, and that is what happened;
//! - signals come while there is a partner, in the order sent, never twice, never astray;
//! - every signal accepted came, or is kept, or its sender was told;
//! - no client that reads is closed with 4413;
//! - and once the trouble is over, each user has at most one connection, records hold the live
//!   connections and no others, and whoever has a partner can talk to it.

mod actor;
mod caller;
mod calls;
mod history;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{self, Instant};

use super::{
    TokioClock,
    fault::{Faults, Trouble},
    guest::Nobody,
};
use crate::{
    Relay,
    bus::MessageBus,
    config::Config,
    frame::CloseReason,
    id::{NodeId, SessionId, UserId},
    relay::{NewSession, OpenError, SecondConnection},
    session::{SessionRecord, Status},
    store::SessionStore,
};
use actor::{Actor, Order};
use caller::{Caller, Nodes};

/// What a run is made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Simulation {
    /// What everything random follows from.
    pub seed: u64,
    /// Nodes at the same time.
    pub nodes: usize,
    /// Users.
    pub users: usize,
    /// Things that happen before the trouble ends.
    pub steps: usize,
    /// How the store and the bus behave meanwhile.
    pub trouble: Trouble,
    /// What becomes of a second connection of a user.
    pub second_connection: SecondConnection,
    /// What empties the store, where it happens that it does.
    pub loss: Option<Loss>,
    /// The limits of every node.
    pub config: Config,
    /// Whether clients send dozens of signals in one session, half of the times that they send any.
    pub bursts: bool,
    /// Whether each user has one client of `signaling.v1` that continues its negotiations on each of its
    /// connections. It checks itself what it is told, and every signal of a negotiation that continues arrives
    /// once and in order.
    pub continuing: bool,
}

/// A way to have a store lose everything that it holds.
#[derive(Clone)]
pub struct Loss(Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>);

impl Loss {
    /// `empty` is done when the store is empty and its generation another one.
    pub fn by<F>(empty: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(empty())))
    }
}

impl fmt::Debug for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loss").finish_non_exhaustive()
    }
}

/// What happened in a run, so that a test can tell that enough did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Sessions that were opened.
    pub sessions: usize,
    /// Connections that were made.
    pub connections: usize,
    /// Signals that were sent.
    pub sent: usize,
    /// Signals that arrived.
    pub delivered: usize,
    /// Losses of a partner that were told.
    pub losses: usize,
    /// How often a negotiation was continued.
    pub continued: usize,
}

impl Simulation {
    /// Two nodes and six users in heavy trouble, with a store that loses nothing.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (second_connection, loss) = (SecondConnection::default(), None);
        let trouble = Trouble::HEAVY;
        Self {
            seed,
            nodes: 2,
            users: 6,
            steps: 80,
            trouble,
            second_connection,
            loss,
            config: Config::default(),
            bursts: false,
            continuing: false,
        }
    }

    /// The same with clients that continue.
    #[must_use]
    pub fn continuing(seed: u64) -> Self {
        Self { continuing: true, ..Self::new(seed) }
    }

    /// Runs it, on a store and a bus of its own. A step takes 1.5 s on average, and the end 55 s:
    /// better on paused time.
    ///
    /// # Panics
    ///
    /// When something does not hold; the seed is printed.
    pub async fn run(self, store: Arc<dyn SessionStore>, bus: Arc<dyn MessageBus>) -> Summary {
        let _name = NameOnPanic(self.seed);
        let mut world = World {
            random: fastrand::Rng::with_seed(self.seed),
            nodes: Vec::new(),
            actors: Vec::new(),
            callers: Vec::new(),
            addresses: Nodes::default(),
            sessions: BTreeSet::new(),
            clock: TokioClock::start(),
            started: 0,
            plan: self,
            store,
            bus,
        };
        for _ in 0..world.plan.nodes {
            let node = world.start_node().await;
            world.nodes.push(node);
        }
        world.publish_addresses();
        if world.plan.continuing {
            world.start_callers();
        }
        for _ in 0..world.plan.steps {
            world.step().await;
        }
        let settled = world.settle().await;
        world.check(settled).await
    }
}

/// How far the clocks of nodes are apart: more than an absent participant is waited for.
const CLOCKS_APART: Duration = Duration::from_secs(90);

struct NameOnPanic(u64);

impl Drop for NameOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing simulation has seed {}", self.0);
        }
    }
}

struct Node {
    relay: Relay,
    faults: Faults,
    cut: bool,
}

fn user(number: usize) -> UserId {
    UserId::new(&format!("user-{number}")).expect("a user id")
}

struct World {
    plan: Simulation,
    random: fastrand::Rng,
    store: Arc<dyn SessionStore>,
    bus: Arc<dyn MessageBus>,
    clock: TokioClock,
    /// How many nodes were started.
    started: u32,
    nodes: Vec<Node>,
    actors: Vec<Actor>,
    callers: Vec<Caller>,
    addresses: Nodes,
    sessions: BTreeSet<SessionId>,
}

impl World {
    async fn start_node(&mut self) -> Node {
        let faults = Faults::new(self.random.u64(..));
        // No two nodes agree on the time, and all go by the store's.
        let wrong = CLOCKS_APART * self.started;
        let clock = match self.started % 2 {
            0 => self.clock.ahead_by(wrong),
            _ => self.clock.behind_by(wrong),
        };
        self.started += 1;
        let relay = Relay::builder(Nobody)
            .config(self.plan.config.clone())
            .store(faults.store(self.store.clone()))
            .bus(faults.bus(self.bus.clone()))
            .clock(Arc::new(clock))
            .second_connection(self.plan.second_connection.clone())
            .start()
            .await
            .expect("a store and a bus without faults yet");
        faults.set(self.plan.trouble);
        Node { relay, faults, cut: false }
    }

    async fn step(&mut self) {
        time::sleep(Duration::from_millis(self.random.u64(0..3_000))).await;
        match self.random.u8(0..100) {
            _ if self.plan.continuing => self.step_of_callers().await,
            0..30 => self.connect(),
            30..45 => self.open().await,
            45..70 if self.plan.bursts && self.random.bool() => self.order(Order::Burst),
            45..70 => self.order(Order::Chat),
            70..75 => self.order(Order::Leave),
            75..80 => self.order(Order::Close),
            80..85 => self.order(Order::Drop),
            85..90 => self.order(Order::Vanish),
            90..95 => self.cut_or_mend(),
            95..98 => self.end_session().await,
            _ => self.kill().await,
        }
        self.lose().await;
    }

    /// In the middle of what the step has set off, or before anything came of it.
    async fn lose(&mut self) {
        let Some(loss) = self.plan.loss.clone() else {
            return;
        };
        if self.random.u8(0..100) < 8 {
            time::sleep(Duration::from_millis(self.random.u64(0..4) * 50)).await;
            (loss.0)().await;
        }
    }

    fn connect(&mut self) {
        let user = user(self.random.usize(0..self.plan.users));
        let node = self.random.usize(0..self.nodes.len());
        let relay = self.nodes[node].relay.clone();
        let number = self.actors.len();
        self.actors.push(Actor::start(number, user, relay, self.random.u64(..)));
    }

    /// A host goes on until it knows that the session is open.
    async fn open(&mut self) {
        let first = self.random.usize(0..self.plan.users);
        let second = (first + self.random.usize(1..self.plan.users)) % self.plan.users;
        let (first, second) = (user(first), user(second));
        let id = SessionId::new(&format!("{}", self.random.u64(..))).expect("an id");
        for _ in 0..100 {
            let node = self.random.usize(0..self.nodes.len());
            let relay = self.nodes[node].relay.clone();
            match relay.open(NewSession::between(&first, &second).id(&id)).await {
                Ok(_) => {
                    self.sessions.insert(id);
                    return;
                }
                Err(OpenError::Store { .. }) => {}
                Err(OpenError::TooManySessions(_)) => return,
                Err(error) => panic!("a session was not opened: {error}"),
            }
        }
        panic!("no node can open a session");
    }

    async fn end_session(&mut self) {
        let Some(session) = self.random.choice(&self.sessions).cloned() else {
            return;
        };
        let node = self.random.usize(0..self.nodes.len());
        // Whether it was there, or the store was, makes no difference here.
        let _ = self.nodes[node].relay.close_session(&session, CloseReason::default()).await;
    }

    fn order(&mut self, order: Order) {
        let live: Vec<_> = self.actors.iter().filter(|actor| actor.is_live()).collect();
        if let Some(actor) = self.random.choice(live) {
            actor.order(order);
        }
    }

    /// Cuts a node off, or the other way round; one node is always reachable.
    fn cut_or_mend(&mut self) {
        let number = self.random.usize(0..self.nodes.len());
        let others_cut = self.nodes.iter().enumerate().any(|(n, node)| n != number && node.cut);
        let alone = self.nodes.len() == 1;
        let node = &mut self.nodes[number];
        if node.cut || !(others_cut || alone) {
            node.cut = !node.cut;
            node.faults.cut(node.cut);
        }
    }

    /// A node dies with all its connections, and another one takes its place.
    async fn kill(&mut self) {
        let number = self.random.usize(0..self.nodes.len());
        let fresh = self.start_node().await;
        let dead = std::mem::replace(&mut self.nodes[number], fresh);
        dead.faults.cut(true);
        self.publish_addresses();
        for actor in self.actors.iter().filter(|actor| actor.is_on(&dead.relay)) {
            actor.order(Order::Drop);
        }
        for caller in self.callers.iter() {
            if caller.node().as_ref() == Some(dead.relay.node_id()) {
                caller.order(caller::Order::Drop);
            }
        }
    }

    /// Where callers find the nodes.
    fn publish_addresses(&self) {
        let relays = self.nodes.iter().map(|node| node.relay.clone()).collect();
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = relays;
    }

    /// The trouble ends, and everybody has time to find that out. Gives the moment at which
    /// everybody was told to talk.
    async fn settle(&mut self) -> Instant {
        for node in &self.nodes {
            node.faults.set(Trouble::NONE);
            node.faults.cut(false);
        }
        time::sleep(Duration::from_secs(45)).await;
        let settled = Instant::now();
        for actor in self.actors.iter().filter(|actor| actor.is_live()) {
            actor.order(Order::Chat);
        }
        self.talk();
        time::sleep(Duration::from_secs(5)).await;
        // Not before that: queues that others fill may refuse all that somebody says.
        if self.plan.bursts {
            for actor in self.actors.iter().filter(|actor| actor.is_live()) {
                actor.order(Order::Burst);
            }
            time::sleep(Duration::from_secs(5)).await;
        }
        settled
    }

    async fn check(&self, settled: Instant) -> Summary {
        if self.plan.continuing {
            return self.check_callers().await;
        }
        let mut live = BTreeMap::new();
        for actor in self.actors.iter().filter(|actor| actor.is_live()) {
            let other = live.insert(actor.user.clone(), actor);
            assert!(other.is_none(), "{} has two live connections", actor.user);
        }
        let mut records = BTreeMap::new();
        for session in &self.sessions {
            let record = self.store.load(session).await.expect("no faults here");
            if let Some(record) = record {
                check_record(&record, &live, settled);
                records.insert(session.clone(), record);
            }
        }
        history::check(&self.actors, &records);
        let mut summary = history::summary(&self.actors);
        summary.sessions = self.sessions.len();
        summary
    }
}

/// Who is live is attached, and nobody else; and who has a partner could talk to it.
fn check_record(record: &SessionRecord, live: &BTreeMap<UserId, &Actor>, settled: Instant) {
    let nodes = live.iter().map(|(user, actor)| (user.clone(), actor.relay.node_id().clone()));
    check_attached(record, &nodes.collect());
    if record.status() == Status::Active {
        for participant in &record.participants {
            let actor = live[&participant.user];
            assert!(
                actor.heard_since(settled, &record.id),
                "{} hears nobody in {}",
                participant.user,
                record.id
            );
        }
    }
}

/// Who is live is attached with the connection on its node, and nobody else.
fn check_attached(record: &SessionRecord, live: &BTreeMap<UserId, NodeId>) {
    for participant in &record.participants {
        let (user, session) = (&participant.user, &record.id);
        match (participant.connection(), live.get(user)) {
            (Some(connection), Some(node)) => {
                assert_eq!(connection.node(), node, "{user} is elsewhere in {session}");
            }
            (None, None) => {}
            (there, live) => {
                panic!("{user} in {session}: attached {there:?}, live {}", live.is_some());
            }
        }
    }
}
