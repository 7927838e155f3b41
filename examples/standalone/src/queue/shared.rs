//! The queue of all nodes, on Redis.

use std::{fmt, str::FromStr, time::Duration};

use async_trait::async_trait;
use signaling_core::{
    id::{NodeId, SessionId, UserId},
    log::Throttle,
    store::StoreError,
};
use signaling_redis::{
    Redis,
    fred::{
        bytes::Bytes,
        error::{Error, ErrorKind},
        interfaces::{ClientLike, LuaInterface},
        types::{Value, config::Options},
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
/// Before another attempt: together longer than a lost connection takes to be made again. Every
/// script has the same effect twice.
const PAUSES_MS: [u64; 4] = [50, 100, 200, 400];

/// What the scripts call [`Partners`].
const ALL: &str = "all";
const CONNECTED: &str = "connected";
/// Unreadable pairs that one call removes.
const UNREADABLE_PAIRS: usize = 64;
/// Between log lines about unreadable data.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

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
    unreadable: Unreadable,
    enter: Script,
    next: Script,
    settle: Script,
    dissolve: Script,
    leave: Script,
}

impl SharedQueue {
    /// The queue `name`, as `node` holds it. Each node holds each queue once.
    pub(crate) fn new(redis: Redis, name: &str, node: NodeId, bounds: Bounds) -> Self {
        let key = |what: &str| format!("{}matching:{{{name}}}:{what}", redis.prefix());
        Self {
            keys: ["waiting", "patience", "pairs", "connected"].map(key),
            redis,
            node,
            bounds,
            clock: ServerClock(None),
            unreadable: Unreadable { found: 0, lines: Throttle::new(1, LINE_INTERVAL) },
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
        args: &[&[u8]],
        by: Instant,
    ) -> Result<Answer, QueueError> {
        let mut pauses = PAUSES_MS.into_iter().map(Duration::from_millis);
        loop {
            let attempt = self.attempt(script(self), args, by);
            let error = match time::timeout_at(by, attempt).await {
                Ok(Ok(answer)) => {
                    let answer = Answer::of(answer)?;
                    self.clock = ServerClock(Some((answer.millis, Instant::now())));
                    if !answer.unreadable.is_empty() {
                        self.unreadable.report(&answer.unreadable);
                    }
                    if answer.full {
                        return Err(QueueError::Full);
                    }
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
        args: &[&[u8]],
        by: Instant,
    ) -> Result<Vec<Bytes>, Error> {
        let client = self.redis.client().with_options(&Options {
            // One, and those that a Cluster sends elsewhere.
            max_attempts: Some(MAX_REDIRECTIONS + 1),
            timeout: Some(by.saturating_duration_since(Instant::now())),
            fail_fast: true,
            ..Options::default()
        });
        let millis = |time: Duration| time.as_millis().to_string();
        let mut all: Vec<Value> = vec![
            self.clock.at(by).to_string().into(),
            self.node.to_string().into(),
            millis(HOLD).into(),
            millis(self.bounds.patience + SLACK).into(),
        ];
        all.extend(args.iter().map(|arg| Value::Bytes(Bytes::copy_from_slice(arg))));
        let keys = self.keys.to_vec();
        match client.evalsha(&script.hash, keys.clone(), all.clone()).await {
            // A server that was restarted has forgotten it; this teaches it again.
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                client.eval(script.source, keys, all).await
            }
            done => done,
        }
    }

    /// The pair in an answer. One that is no pair of two users and a session, because somebody else wrote
    /// into the queue, is dissolved: those of it who are users wait on in their places.
    async fn pair(&mut self, answer: Answer, by: Instant) -> Result<Option<Pair>, QueueError> {
        let mut rest = answer.rest;
        for _ in 0..UNREADABLE_PAIRS {
            let [session, first, second, partners] = match <[Bytes; 4]>::try_from(rest) {
                Ok(pair) => pair,
                Err(none) if none.is_empty() => return Ok(None),
                Err(_) => return Err(nonsense().into()),
            };
            let users = [&first, &second].map(|user| read::<UserId>(user));
            if let (Some(session), [Some(a), Some(b)]) = (read(&session), &users)
                && a != b
            {
                let partners = match partners == CONNECTED {
                    true => Partners::Connected,
                    false => Partners::All,
                };
                return Ok(Some(Pair { session, users: [a.clone(), b.clone()], partners }));
            }
            self.unreadable.report("a pair");
            let same = first == second;
            let mut args = vec![&session[..]];
            let texts = [&first, &second].into_iter().zip(&users);
            args.extend(
                texts.filter(|(_, user)| same || user.is_none()).map(|(text, _)| &text[..]),
            );
            self.run(|queue| &queue.dissolve, &args, by).await?;
            let new = SessionId::generate()?;
            rest = self.run(|queue| &queue.next, &[new.as_str().as_bytes()], by).await?.rest;
        }
        Err(nonsense().into())
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
        let answer = self.run(|queue| &queue.enter, &args.map(str::as_bytes), by).await?;
        self.pair(answer, by).await
    }

    async fn next(&mut self, by: Instant) -> Result<Option<Pair>, QueueError> {
        let session = SessionId::generate()?;
        let answer = self.run(|queue| &queue.next, &[session.as_str().as_bytes()], by).await?;
        self.pair(answer, by).await
    }

    async fn settle(&mut self, pair: &Pair, by: Instant) -> Result<(), QueueError> {
        self.run(|queue| &queue.settle, &[pair.session.as_str().as_bytes()], by).await?;
        Ok(())
    }

    async fn dissolve(
        &mut self,
        pair: &Pair,
        gone: &[UserId],
        by: Instant,
    ) -> Result<(), QueueError> {
        let mut args = vec![pair.session.as_str().as_bytes()];
        args.extend(gone.iter().map(|user| user.as_str().as_bytes()));
        self.run(|queue| &queue.dissolve, &args, by).await?;
        Ok(())
    }

    async fn leave(&mut self, user: &UserId, by: Instant) -> Result<bool, QueueError> {
        let answer = self.run(|queue| &queue.leave, &[user.as_str().as_bytes()], by).await?;
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

/// The server's clock: what its last answer said, and when that arrived.
///
/// It tells a script until when it is of use. A command may lie in a socket for as long as the
/// network or the server is away, long after its user was told to try again, and was matched by
/// another node: it may not put that user back into the queue.
#[derive(Debug, Clone, Copy)]
struct ServerClock(Option<(u64, Instant)>);

impl ServerClock {
    /// What the clock shows at `by`, or somewhat earlier: the answer was under way for a while. So no
    /// script runs after its user was told that it did not.
    fn at(&self, by: Instant) -> u128 {
        self.0.map_or(0, |(millis, arrived)| {
            u128::from(millis) + by.saturating_duration_since(arrived).as_millis()
        })
    }
}

struct Answer {
    /// The server's time, in ms since the Unix epoch.
    millis: u64,
    late: bool,
    full: bool,
    /// What was unreadable, and is removed.
    unreadable: String,
    rest: Vec<Bytes>,
}

impl Answer {
    fn of(said: Vec<Bytes>) -> Result<Self, QueueError> {
        let mut said = said.into_iter();
        let millis = said.next().as_deref().and_then(read).ok_or_else(nonsense)?;
        let outcome = said.next().unwrap_or_default();
        let (late, full) = match &outcome[..] {
            b"done" => (false, false),
            b"late" => (true, false),
            b"full" => (false, true),
            _ => return Err(nonsense().into()),
        };
        let unreadable = String::from_utf8_lossy(&said.next().unwrap_or_default()).into_owned();
        Ok(Self { millis, late, full, unreadable, rest: said.collect() })
    }
}

/// Counts what no script of the queue wrote into its keys, and logs some of it.
#[derive(Debug)]
struct Unreadable {
    found: u64,
    lines: Throttle,
}

impl Unreadable {
    fn report(&mut self, what: &str) {
        self.found += 1;
        if let Some(suppressed) = self.lines.pass("unreadable") {
            let found = self.found;
            tracing::error!(what, found, suppressed, "unreadable data in the queue removed");
        }
    }
}

fn read<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
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
        // The server's clock is known from an answer that took long.
        server.freeze();
        let thaw = async {
            time::sleep(Duration::from_millis(600)).await;
            server.thaw();
        };
        let (entered, ()) = tokio::join!(enter(&mut queue, "a"), thaw);
        assert_eq!(entered, None);
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

    /// Scripts that spoil one of the queue's keys, and the text that each puts there.
    fn garbage() -> Vec<(String, String)> {
        let mut all = Vec::new();
        for key in 1..=4 {
            for set in ["'SET', KEYS[1]", "'RPUSH', KEYS[1]"] {
                let set = set.replace("[1]", &format!("[{key}]"));
                let script = format!("redis.call('DEL', KEYS[{key}]) redis.call({set}, ARGV[1])");
                all.push((script, "what".to_owned()));
            }
        }
        for key in 1..=2 {
            for member in ["''", r"'\255'", r"'a\0'", "string.rep('x', 257)"] {
                for score in ["-inf", "1", "inf"] {
                    let script = format!("redis.call('ZADD', KEYS[{key}], '{score}', {member})");
                    all.push((script, String::new()));
                }
            }
        }
        let pair = |session: &str, user: &str, till: &str| {
            format!(
                r#"{{"session":"{session}","users":["{user}","z"],"arrivals":["1","2"],"patience":["3","4"],"asks":["all","connected"],"till":{till}}}"#
            )
        };
        let mut texts =
            ["", "what", "[]", "{}", "null", "7", r#"{"session":"s"}"#].map(str::to_owned).to_vec();
        texts.extend([pair("a b", "y", "0"), pair("s", "", "0"), pair("s", "z", "0")]);
        texts.extend([pair("s", "y", "[]"), pair("s", "y", "null"), "[".repeat(10_000)]);
        for holder in ["n1", "n9", ""] {
            let script = format!("redis.call('HSET', KEYS[3], '{holder}', ARGV[1])");
            all.extend(texts.iter().map(|text| (script.clone(), text.clone())));
        }
        all
    }

    #[tokio::test]
    async fn garbage_in_the_queue_stops_nobody() {
        let server = Server::start();
        let mut queue = queue_on(&server, "n1", BOUNDS).await;
        for (script, text) in garbage() {
            server.cli(&["flushall"]);
            enter(&mut queue, "a").await;
            let (client, keys) = (queue.redis.client(), queue.keys.to_vec());
            let spoilt: Result<Value, _> = client.eval(&script[..], keys, vec![text.clone()]).await;
            spoilt.unwrap();
            // Others wait, are matched, leave, and are told so.
            let mut matched = Vec::new();
            for name in ["b", "c", "d"] {
                let mut next = queue.enter(&user(name), Partners::All, soon()).await.unwrap();
                while let Some(pair) = next {
                    matched.extend(names(&pair));
                    queue.settle(&pair, soon()).await.unwrap();
                    next = queue.next(soon()).await.unwrap();
                }
            }
            let is_matched = |name: &str| matched.iter().any(|matched| matched == name);
            assert!(is_matched("b") && is_matched("c"), "{script} {text}: {matched:?}");
            let waited = !is_matched("d");
            assert_eq!(queue.leave(&user("d"), soon()).await.unwrap(), waited, "{script} {text}");
            for key in server.cli(&["keys", "*"]).lines() {
                let ttl: i64 = server.cli(&["pttl", key]).parse().unwrap();
                assert!(ttl > 0, "{script} {text}: {key} stays");
            }
        }
        assert!(queue.unreadable.found > 30, "{} were found", queue.unreadable.found);
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
