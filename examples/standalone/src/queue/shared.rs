//! The queue of all nodes, on Redis.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use signaling_core::{
    id::{NodeId, SessionId, UserId},
    store::StoreError,
};
use signaling_redis::{
    Redis,
    fred::{
        error::{Error, ErrorKind},
        interfaces::{ClientLike, LuaInterface},
        types::config::Options,
        util::sha1_hash,
    },
};
use tokio::time::{self, Instant};

use super::{Bounds, Pair, Partners, Queue, QueueError};

/// For how long a pair is its node's own. Whatever a node does for a pair has failed or is done by
/// then, and if it died, nobody waits much longer than that.
const HOLD: Duration = Duration::from_secs(5);
/// What keys live on beyond the patience of all who wait.
const SLACK: Duration = Duration::from_secs(60);
/// The longest patience that Redis is told: what overflows there means the same.
const MAX_PATIENCE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Before another attempt: together longer than a lost connection takes to be made again. Every
/// script has the same effect twice.
const PAUSES_MS: [u64; 4] = [50, 100, 200, 400];

/// What the scripts call [`Partners`].
const ALL: &str = "all";
const CONNECTED: &str = "connected";

/// How often a Cluster may send a script elsewhere.
const MAX_REDIRECTIONS: u32 = 4;

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("lua/queue.lua"),
            include_str!(concat!("lua/", $name, ".lua"))
        ))
    };
}

/// A queue that all nodes with the same Redis, prefix and name share.
#[derive(Debug)]
pub(crate) struct SharedQueue {
    redis: Redis,
    node: NodeId,
    bounds: Bounds,
    keys: [String; 4],
    clock: ServerClock,
    enter: Script,
    next: Script,
    settle: Script,
    dissolve: Script,
    leave: Script,
}

impl SharedQueue {
    /// The queue `name`, as `node` holds it. Each node holds each queue once.
    pub(crate) fn new(redis: Redis, name: &str, node: NodeId, bounds: Bounds) -> Self {
        let bounds = Bounds { patience: bounds.patience.min(MAX_PATIENCE), ..bounds };
        let key = |what: &str| format!("{}matching:{{{name}}}:{what}", redis.prefix());
        Self {
            keys: ["waiting", "patience", "pairs", "connected"].map(key),
            redis,
            node,
            bounds,
            clock: ServerClock(None),
            enter: script!("enter"),
            next: script!("next"),
            settle: script!("settle"),
            dissolve: script!("dissolve"),
            leave: script!("leave"),
        }
    }

    /// Runs a script until it is answered, within `by`.
    async fn run(
        &mut self,
        script: fn(&Self) -> &Script,
        args: &[&str],
        by: Instant,
    ) -> Result<Answer, QueueError> {
        let mut pauses = PAUSES_MS.into_iter().map(Duration::from_millis);
        loop {
            let sent = Instant::now();
            let attempt = self.attempt(script(self), args, by);
            let error = match time::timeout_at(by, attempt).await {
                Ok(Ok(answer)) => {
                    let answer = Answer::of(answer)?;
                    self.clock = ServerClock(Some((answer.millis, sent)));
                    if !answer.late {
                        return Ok(answer);
                    }
                    // The first attempt is, and so is the first one to a new server whose clock is
                    // ahead.
                    Error::new(ErrorKind::Timeout, "the script ran too late")
                }
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, "Redis did not answer in time"),
            };
            let again = pauses.next().map(|pause| Instant::now() + pause);
            match again.filter(|again| *again < by) {
                Some(again) => time::sleep_until(again).await,
                None => return Err(StoreError::unavailable(error).into()),
            }
        }
    }

    async fn attempt(
        &self,
        script: &Script,
        args: &[&str],
        by: Instant,
    ) -> Result<Vec<String>, Error> {
        let client = self.redis.client().with_options(&Options {
            // One, and those that a Cluster sends elsewhere.
            max_attempts: Some(MAX_REDIRECTIONS + 1),
            timeout: Some(by.saturating_duration_since(Instant::now())),
            fail_fast: true,
            ..Options::default()
        });
        let millis = |time: Duration| time.as_millis().to_string();
        let mut all = vec![
            self.clock.at(by).to_string(),
            self.node.to_string(),
            millis(HOLD),
            millis(self.bounds.patience + SLACK),
        ];
        all.extend(args.iter().map(ToString::to_string));
        let keys = self.keys.to_vec();
        match client.evalsha(&script.hash, keys.clone(), all.clone()).await {
            // A server that was restarted has forgotten it; this teaches it again.
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                client.eval(script.source, keys, all).await
            }
            done => done,
        }
    }
}

#[async_trait]
impl Queue for SharedQueue {
    async fn enter(
        &mut self,
        user: &UserId,
        partners: Partners,
        by: Instant,
    ) -> Result<Option<Pair>, QueueError> {
        let session = SessionId::generate()?;
        let (patience, capacity) = (self.bounds.patience.as_millis(), self.bounds.capacity);
        let (patience, capacity) = (patience.to_string(), capacity.to_string());
        let partners = match partners {
            Partners::All => ALL,
            Partners::Connected => CONNECTED,
        };
        let args = [user.as_str(), &patience, &capacity, session.as_str(), partners];
        self.run(|queue| &queue.enter, &args, by).await?.pair()
    }

    async fn next(&mut self, by: Instant) -> Result<Option<Pair>, QueueError> {
        let session = SessionId::generate()?;
        self.run(|queue| &queue.next, &[session.as_str()], by).await?.pair()
    }

    async fn settle(&mut self, pair: &Pair, by: Instant) -> Result<(), QueueError> {
        self.run(|queue| &queue.settle, &[pair.session.as_str()], by).await?;
        Ok(())
    }

    async fn dissolve(
        &mut self,
        pair: &Pair,
        gone: &[UserId],
        by: Instant,
    ) -> Result<(), QueueError> {
        let mut args = vec![pair.session.as_str()];
        args.extend(gone.iter().map(UserId::as_str));
        self.run(|queue| &queue.dissolve, &args, by).await?;
        Ok(())
    }

    async fn leave(&mut self, user: &UserId, by: Instant) -> Result<bool, QueueError> {
        let answer = self.run(|queue| &queue.leave, &[user.as_str()], by).await?;
        Ok(answer.rest.first().is_some_and(|left| left == "1"))
    }
}

/// A script and the name that a server knows it by.
struct Script {
    source: &'static str,
    hash: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, hash: sha1_hash(source) }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hash)
    }
}

/// The server's clock: what its last answer said, and when that was asked for.
///
/// It tells a script until when it is of use. A command may lie in a socket for as long as the
/// network or the server is away, long after its user was told to try again, and was matched by
/// another node: it may not put that user back into the queue.
#[derive(Debug, Clone, Copy)]
struct ServerClock(Option<(u64, Instant)>);

impl ServerClock {
    /// What the clock shows at `by`, or somewhat later: the answer was under way for a while.
    fn at(&self, by: Instant) -> u128 {
        self.0.map_or(0, |(millis, asked)| {
            u128::from(millis) + 1 + by.saturating_duration_since(asked).as_millis()
        })
    }
}

struct Answer {
    /// The server's time, in ms since the Unix epoch.
    millis: u64,
    late: bool,
    rest: Vec<String>,
}

impl Answer {
    fn of(said: Vec<String>) -> Result<Self, QueueError> {
        let mut said = said.into_iter();
        let millis = said.next().and_then(|millis| millis.parse().ok());
        let late = match said.next().as_deref() {
            Some("done") => false,
            Some("late") => true,
            Some("full") => return Err(QueueError::Full),
            _ => return Err(nonsense().into()),
        };
        Ok(Self { millis: millis.ok_or_else(nonsense)?, late, rest: said.collect() })
    }

    fn pair(self) -> Result<Option<Pair>, QueueError> {
        let [session, first, second, partners] = match <[String; 4]>::try_from(self.rest) {
            Ok(pair) => pair,
            Err(none) if none.is_empty() => return Ok(None),
            Err(_) => return Err(nonsense().into()),
        };
        let session = SessionId::try_from(session).map_err(|_| nonsense())?;
        let user = |user| UserId::try_from(user).map_err(|_| nonsense());
        let partners = match partners.as_str() {
            CONNECTED => Partners::Connected,
            _ => Partners::All,
        };
        Ok(Some(Pair { session, users: [user(first)?, user(second)?], partners }))
    }
}

fn nonsense() -> StoreError {
    StoreError::Corrupt("the queue's script answers something else".into())
}

#[cfg(test)]
mod tests {
    use signaling_redis::{
        Settings,
        testing::{Cluster, Server},
    };

    use super::{
        super::suite::{self, BOUNDS, enter, named, names, soon, user},
        *,
    };

    async fn queue_on(server: &Server, node: &str, bounds: Bounds) -> SharedQueue {
        queue_at(&server.url(), node, bounds).await
    }

    async fn queue_at(url: &str, node: &str, bounds: Bounds) -> SharedQueue {
        let settings = Settings::url(url).unwrap().prefix("app:");
        let redis = Redis::connect(settings).await.unwrap();
        SharedQueue::new(redis, "test", NodeId::new(node).unwrap(), bounds)
    }

    suite::queue_tests!(async |bounds| {
        let server = Server::start();
        (queue_on(&server, "n1", bounds).await, server)
    });

    #[tokio::test]
    async fn nodes_share_the_line_and_no_pair() {
        let server = Server::start();
        let mut one = queue_on(&server, "n1", BOUNDS).await;
        let mut two = queue_on(&server, "n2", BOUNDS).await;
        assert_eq!(enter(&mut one, "a").await, None);
        assert_eq!(enter(&mut two, "b").await, named("a", "b"));
        assert_eq!(enter(&mut one, "b").await, None, "it is the other node's");
        assert_eq!(enter(&mut two, "c").await, named("a", "b"), "one after the other");
        assert_eq!(enter(&mut one, "d").await, named("c", "d"));
        let full = one.enter(&user("e"), Partners::All, soon()).await;
        assert!(matches!(full, Err(QueueError::Full)));
        assert!(!two.leave(&user("d"), soon()).await.unwrap());
    }

    #[tokio::test]
    async fn the_pair_of_a_dead_node_goes_to_another_under_the_same_id() {
        let server = Server::start();
        let mut dead = queue_on(&server, "n1", BOUNDS).await;
        let mut alive = queue_on(&server, "n2", BOUNDS).await;
        enter(&mut dead, "a").await;
        let pair = dead.enter(&user("b"), Partners::All, soon()).await.unwrap().unwrap();
        let died = Instant::now();
        let taken = loop {
            match alive.next(soon()).await.unwrap() {
                Some(pair) => break pair,
                None => time::sleep(Duration::from_millis(50)).await,
            }
            assert!(died.elapsed() < HOLD * 2);
        };
        assert!(died.elapsed() >= HOLD - Duration::from_millis(50));
        assert_eq!(taken, pair);

        // It was not dead after all.
        assert_eq!(dead.next(soon()).await.unwrap(), None);
        dead.dissolve(&pair, &[], soon()).await.unwrap();
        assert_eq!(alive.next(soon()).await.unwrap(), Some(pair.clone()));
        dead.settle(&pair, soon()).await.unwrap();
        assert_eq!(alive.next(soon()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn every_key_expires_and_all_share_a_slot() {
        let server = Server::start();
        let mut queue = queue_on(&server, "n1", BOUNDS).await;
        for name in ["a", "b", "c"] {
            enter(&mut queue, name).await;
        }
        let keys = server.cli(&["keys", "*"]);
        assert_eq!(keys.lines().count(), 3, "{keys}");
        for key in keys.lines() {
            assert!(key.starts_with("app:matching:{test}:"), "{key}");
            let ttl: u64 = server.cli(&["pttl", key]).parse().unwrap();
            let most = (BOUNDS.patience + SLACK).as_millis();
            assert!(ttl > 30_000 && u128::from(ttl) <= most, "{key}: {ttl}");
        }
    }

    #[tokio::test]
    async fn an_answer_comes_in_time_and_nothing_is_done_after_it() {
        let server = Server::start();
        let mut queue = queue_on(&server, "n1", BOUNDS).await;
        enter(&mut queue, "a").await;
        server.freeze();
        let asked = Instant::now();
        let by = asked + Duration::from_millis(500);
        let error = queue.enter(&user("b"), Partners::All, by).await.unwrap_err();
        assert!(matches!(error, QueueError::Store(StoreError::Unavailable(_))), "{error:?}");
        assert!(asked.elapsed() < Duration::from_millis(700), "{:?}", asked.elapsed());
        server.thaw();
        // What the server finds in its sockets now comes too late.
        assert_eq!(enter(&mut queue, "a").await, None);
        assert_eq!(queue.next(soon()).await.unwrap(), None);
        assert!(!queue.leave(&user("b"), soon()).await.unwrap());
        assert!(queue.leave(&user("a"), soon()).await.unwrap(), "it kept its place");
    }

    #[tokio::test]
    async fn a_cut_connection_and_a_forgotten_script_are_not_noticed() {
        let server = Server::start();
        let mut queue = queue_on(&server, "n1", BOUNDS).await;
        enter(&mut queue, "a").await;
        server.cut_clients();
        let pair = queue.enter(&user("b"), Partners::All, soon()).await.unwrap().unwrap();
        server.cli(&["script", "flush"]);
        queue.settle(&pair, soon()).await.unwrap();
        enter(&mut queue, "c").await;
        assert_eq!(enter(&mut queue, "d").await, named("c", "d"));
    }

    #[tokio::test]
    async fn a_cluster_will_do() {
        let cluster = Cluster::start(false);
        let mut queue = queue_at(&cluster.url(), "n1", BOUNDS).await;
        enter(&mut queue, "a").await;
        let pair = queue.enter(&user("b"), Partners::All, soon()).await.unwrap().unwrap();
        queue.dissolve(&pair, &[user("a")], soon()).await.unwrap();
        assert_eq!(enter(&mut queue, "c").await, named("b", "c"));
        let pair = queue.next(soon()).await.unwrap().unwrap();
        queue.settle(&pair, soon()).await.unwrap();
        assert!(!queue.leave(&user("b"), soon()).await.unwrap());
    }

    #[tokio::test]
    async fn arrivals_are_in_order_where_a_clock_was_ahead() {
        let server = Server::start();
        let mut queue = queue_on(&server, "n1", BOUNDS).await;
        enter(&mut queue, "a").await;
        let [waiting, ..] = queue.keys.clone();
        server.cli(&["zadd", &waiting, "4000000000000000", "a"]);
        let pair = queue.enter(&user("b"), Partners::All, soon()).await.unwrap().unwrap();
        assert_eq!(Some(names(&pair)), named("a", "b"));
        queue.dissolve(&pair, &[user("a")], soon()).await.unwrap();
        assert_eq!(enter(&mut queue, "c").await, named("b", "c"));
    }
}
