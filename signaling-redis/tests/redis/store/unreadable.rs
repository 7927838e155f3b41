//! Every key and every field holds garbage once; what others see is right all the same.

use std::{fmt::Write, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use signaling_core::{
    reason::PartnerReason,
    session::{Participant, Place, Role, SessionRecord},
    store::{
        Accepted, Connect, Counts, Heartbeat, Lease, Replace, SessionStore, StoreError, Written,
    },
};
use signaling_redis::{
    Redis, RedisStore, Settings,
    fred::interfaces::{KeysInterface, LuaInterface},
    testing::Server,
};

use super::{come, connection, now, session};
use crate::harness::user;

/// Values that are neither numbers nor ids of ours, as Lua writes them.
const VALUES: [&str; 6] =
    ["''", "'a b'", "'007'", "'9007199254740993'", "'99999999999999999999'", r"'\255\254'"];

/// Fields of a session's record.
const FIELDS: [&str; 21] = [
    "opening",
    "revision",
    "status",
    "participant1Id",
    "participant2Id",
    "participant1Ws",
    "participant2Ws",
    "lastHeartbeat1",
    "lastHeartbeat2",
    "firstOpening",
    "reopened",
    "negotiation",
    "negotiation1",
    "negotiation2",
    "until1",
    "until2",
    "epoch1",
    "epoch2",
    "ended1",
    "ended2",
    "metadata",
];

/// Keys that this store writes for the deployment below, one of each kind.
const KEYS: [&str; 8] = [
    "session:active:s",
    "session:ended:{session:active:s}",
    "session:user:ann",
    "session:deadlines",
    "session:connections:n1",
    "session:{nodes}:leases",
    "session:{nodes}:counts",
    "session:{nodes}:marker",
];

/// What spoils a key: a script, and the key.
struct Garbage {
    script: String,
    key: &'static str,
}

fn all_garbage() -> Vec<Garbage> {
    let mut all = Vec::new();
    let mut add = |key, script: String| all.push(Garbage { script, key });
    for key in KEYS {
        for (kind, script) in [
            ("string", "redis.call('SET', KEYS[1], 'what')"),
            ("list", "redis.call('RPUSH', KEYS[1], 'what')"),
            ("hash", "redis.call('HSET', KEYS[1], 'what', 'ever')"),
            ("zset", "redis.call('ZADD', KEYS[1], 1, 'what')"),
            ("stream", "redis.call('XADD', KEYS[1], '*', 'what', 'ever')"),
        ] {
            let spoil =
                "if redis.call('TYPE', KEYS[1]).ok ~= '{kind}' then redis.call('DEL', KEYS[1]) end";
            add(key, format!("{} {script}", spoil.replace("{kind}", kind)));
        }
    }
    for value in VALUES {
        let set = |field: &str| format!("redis.call('HSET', KEYS[1], '{field}', {value})");
        for field in FIELDS {
            add("session:active:s", set(field));
        }
        for field in ["connection", "epoch", "accepted", "replaced", "session:s"] {
            add("session:user:ann", set(field));
        }
        add("session:user:ann", format!("redis.call('HSET', KEYS[1], 'session:'..{value}, 1)"));
        add("session:user:ann", format!("redis.call('HSET', KEYS[1], {value}, {value})"));
        add("session:connections:n1", set("1"));
        add("session:connections:n1", format!("redis.call('HSET', KEYS[1], {value}, 'ann')"));
        add("session:connections:n1", format!("redis.call('HSET', KEYS[1], {value}, {value})"));
        add("session:{nodes}:counts", set("n1"));
        add("session:{nodes}:counts", format!("redis.call('HSET', KEYS[1], {value}, '1 1')"));
        add("session:{nodes}:marker", format!("redis.call('SET', KEYS[1], {value})"));
        add("session:ended:{session:active:s}", format!("redis.call('SET', KEYS[1], {value})"));
        let member = format!("redis.call('ZADD', KEYS[1], 1, {value})");
        add("session:{nodes}:leases", member.clone());
        add("session:deadlines", member);
        add("session:deadlines", format!("redis.call('ZADD', KEYS[1], 1, '5:'..{value})"));
    }
    for score in ["-inf", "inf"] {
        for key in ["session:{nodes}:leases", "session:deadlines"] {
            add(key, format!("redis.call('ZADD', KEYS[1], '{score}', 'a b')"));
        }
    }
    for field in FIELDS {
        add("session:active:s", format!("redis.call('HDEL', KEYS[1], '{field}')"));
    }
    for field in ["connection", "epoch", "replaced"] {
        add("session:user:ann", format!("redis.call('HDEL', KEYS[1], '{field}')"));
    }
    all
}

/// Node n1 is about to be found dead, with Ann and Cat on it. Bob and Dan are on n2. Session s is Ann's
/// and Bob's, t is Cat's and Dan's, o is Ann's and Dan's. Nobody came to w in time.
struct Deployment {
    redis: Redis,
    store: RedisStore,
    ours: SessionRecord,
}

impl Deployment {
    async fn call(&self, sessions: [&str; 3], who: [&str; 2]) -> Result<SessionRecord, StoreError> {
        let (far, [name, one, other]) = (now().after(Duration::from_secs(60)), sessions);
        let [first, second] = who.map(user);
        let id = session(name);
        let mut record = SessionRecord::open(id.clone(), 1, first.clone(), second.clone(), far);
        for user in [&first, &second] {
            let _ = self.store.join(user, &id, 9).await?;
        }
        let opened = record.as_mut().unwrap();
        let _ = self.store.put(opened, None).await?;
        for (role, at) in [(Role::Initiator, one), (Role::Responder, other)] {
            let before = opened.clone();
            *opened = before.attach(role, &at.parse().unwrap(), u64::MAX >> 12, None, 2).unwrap();
            assert_eq!(self.store.put(opened, Some(&before)).await?, Written::Done);
        }
        Ok(record.unwrap())
    }

    async fn begin(redis: Redis, store: RedisStore) -> Result<Self, StoreError> {
        let none = Vec::<String>::new;
        redis.client().eval::<(), _, _, _>("redis.call('FLUSHDB')", none(), none()).await.unwrap();
        let mut new = Self { redis, store, ours: super::opened("s", now()) };
        for (name, at) in [("ann", "n1:1"), ("bob", "n2:1"), ("cat", "n1:2"), ("dan", "n2:2")] {
            come(&new.store, &user(name), &at.parse().unwrap()).await;
        }
        new.ours = new.call(["s", "n1:1", "n2:1"], ["ann", "bob"]).await?;
        new.call(["t", "n1:2", "n2:2"], ["cat", "dan"]).await?;
        new.call(["o", "n1:1", "n2:2"], ["ann", "dan"]).await?;
        let past = signaling_core::time::Timestamp::from_millis(now().as_millis() - 1_000);
        let waiting = SessionRecord::open(session("w"), 1, user("eve"), user("fay"), past);
        let _ = new.store.put(&waiting.unwrap(), None).await?;
        for node in ["n1", "n2"] {
            new.renew(node, Duration::from_secs(if node == "n1" { 0 } else { 60 })).await?;
        }
        Ok(new)
    }

    async fn renew(&self, node: &str, lease: Duration) -> Result<Lease, StoreError> {
        let counts = Counts { connections: 2, sessions: 2 };
        self.store.renew_lease(&node.parse().unwrap(), lease, counts, &[]).await
    }

    /// What the nodes and the users do next. No call fails for garbage, but of a record itself.
    async fn goes_on(&self, spoilt: &str) -> Result<(), StoreError> {
        let store = &self.store;
        let beat = |name: &str, at: &str, record: &SessionRecord, role| Heartbeat {
            user: user(name),
            connection: at.parse().unwrap(),
            at: now(),
            places: vec![Place {
                session: record.id.clone(),
                role,
                opening: record.opening,
                revision: record.revision,
            }],
        };
        let theirs = store.load(&session("t")).await?.expect("their session");
        let beats = [
            beat("bob", "n2:1", &self.ours, Role::Responder),
            beat("dan", "n2:2", &theirs, Role::Responder),
        ];
        // One heartbeat in sixteen looks at the user.
        let stale = store.record_heartbeats(&vec![beats; 40].concat()).await?;
        assert!(!stale.contains(&connection("n2", 2)), "theirs is stale");
        let theirs = store.load(&session("t")).await?.expect("their session");
        assert!(theirs.participants[1].last_heartbeat.is_some());
        assert!(store.load(&session("o")).await?.is_some());

        // New connections are let in, and find what is theirs.
        let lease = self.renew("n2", Duration::from_secs(60)).await?;
        let lost: Vec<_> = lease.lost.iter().map(|node| node.as_str()).collect();
        if spoilt != "session:{nodes}:leases" {
            assert!(lease.held);
            assert!(lost.contains(&"n1"), "{lost:?}");
        }
        let counted = store.counts().await?;
        assert_eq!(counted, Counts { connections: 2, sessions: 2 });
        let gus = come(store, &user("gus"), &connection("n2", 7)).await;
        assert_eq!(gus.memberships, []);
        assert_eq!(store.user(&user("gus")).await?.connection, Some(connection("n2", 7)));
        for (name, sessions) in [("ann", vec!["o", "s"]), ("cat", vec!["t"])] {
            let mut joined = self.joined(name).await?;
            // What names a session may be one.
            joined.retain(|id| ["o", "s", "t"].contains(&id.as_str()));
            joined.sort();
            assert_eq!(joined, sessions, "{name}");
        }
        let ann = store.user(&user("ann")).await?;
        assert!(ann.connection.is_none_or(|there| there == connection("n1", 1)));

        // The sweep and the clean-up of the dead node go on.
        let overdue = store.overdue(9).await?;
        assert_eq!(overdue.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["w"]);
        let mut left = Vec::new();
        for _ in 0..9 {
            let found = store.attached_to(&"n1".parse().unwrap(), 9).await?;
            if found.is_empty() {
                break;
            }
            for record in found {
                left.push(record.id.to_string());
                self.leave(record).await?;
            }
        }
        left.sort();
        left.retain(|id| id != "s");
        assert_eq!(left, ["o", "t"]);

        // Ann is back, with what she had and with something new.
        let (ann, at) = (user("ann"), connection("n2", 8));
        let back = match store.connect(&ann, &at, Accepted::UNKNOWN, Replace::Nothing).await? {
            Connect::Done(back) => back,
            Connect::Revoked => panic!("nothing was revoked"),
            Connect::Taken(there) => {
                assert_eq!(there, connection("n1", 1));
                come(store, &ann, &at).await
            }
        };
        let joined = back.memberships.iter().map(|one| one.session.as_str()).collect::<Vec<_>>();
        assert!(joined.contains(&"o"), "{joined:?}");
        let again = come(store, &user("ann"), &connection("n2", 9)).await;
        assert!(again.epoch > back.epoch, "{} after {}", again.epoch, back.epoch);
        assert_eq!(again.previous, Some(connection("n2", 8)));
        let new = self.call(["n", "n2:9", "n2:7"], ["ann", "gus"]).await?;
        assert_eq!(store.delete(&new).await?, Written::Done);
        assert!(store.disconnect(&user("ann"), &connection("n2", 9)).await?);

        // Bob, who knows the record, writes it again; then it can be read, changed and ended.
        let mut known = match store.load(&self.ours.id).await {
            Ok(Some(there)) => there,
            Ok(None) | Err(StoreError::Corrupt(_)) => self.open_again().await?,
            Err(error) => return Err(error),
        };
        assert_eq!(store.load(&self.ours.id).await?.as_ref(), Some(&known));
        if let Some(there) = known.participants[1].connection().cloned() {
            let ended = PartnerReason::Left;
            let before = known;
            known = before.detach(&there, ended, now(), Duration::from_secs(9)).unwrap();
            assert_eq!(store.put(&known, Some(&before)).await?, Written::Done);
        }
        assert_eq!(store.delete(&known).await?, Written::Done);
        assert_eq!(store.load(&self.ours.id).await?, None);
        store.leave(&user("ann"), &self.ours.id, None).await?;
        for lost in self.renew("n2", Duration::from_secs(60)).await?.lost {
            store.forget_node(&lost).await?;
        }
        store.forget_node(&"n1".parse().unwrap()).await?;
        assert_eq!(self.renew("n2", Duration::from_secs(60)).await?.lost, []);
        Ok(())
    }

    async fn joined(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let memberships = self.store.user(&user(name)).await?.memberships;
        Ok(memberships.into_iter().map(|one| one.session.to_string()).collect())
    }

    /// As a node does for all who were attached on the dead one.
    async fn leave(&self, record: SessionRecord) -> Result<(), StoreError> {
        let mut record = record;
        let on_n1 = |p: &Participant| p.connection().cloned().filter(|c| c.node().as_str() == "n1");
        for gone in record.participants.each_ref().map(on_n1).into_iter().flatten() {
            let (reason, abandon_after) = (PartnerReason::Lost, Duration::from_secs(60));
            let before = record;
            record = before.detach(&gone, reason, now(), abandon_after).unwrap();
            // One that became unreadable meanwhile is left alone.
            let _ = self.store.put(&record, Some(&before)).await?;
        }
        Ok(())
    }

    async fn open_again(&self) -> Result<SessionRecord, StoreError> {
        let reopened = self.ours.reopen(2, now().after(Duration::from_secs(60)));
        assert_eq!(self.store.put(&reopened, None).await?, Written::Done);
        Ok(reopened)
    }

    async fn keys_that_stay(&self) -> String {
        let mut stay = String::new();
        let keys: Vec<signaling_redis::fred::types::Key> = {
            let all = "return redis.call('KEYS', '*')";
            self.redis.client().eval(all, Vec::<String>::new(), Vec::<String>::new()).await.unwrap()
        };
        for key in keys {
            let left: i64 = self.redis.client().pttl(key.clone()).await.unwrap();
            if !(1..=3_600_000).contains(&left) {
                writeln!(stay, "{} lives for {left} ms", key.as_str_lossy()).unwrap();
            }
        }
        stay
    }
}

/// Databases in which it is tried at the same time.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn garbage_under_any_key_harms_its_own_session_only() {
    let server = Server::start();
    let all = all_garbage();
    let trials = (0..AT_ONCE).map(|nth| {
        let mine = all.iter().skip(nth).step_by(AT_ONCE);
        try_all(format!("{}/{nth}", server.url()), mine)
    });
    let failures = futures::future::join_all(trials).await.concat();
    println!("{} kinds of garbage", all.len());
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// Tries each kind, whatever becomes of the others, and returns those that did harm.
async fn try_all(url: String, all: impl Iterator<Item = &Garbage>) -> Vec<String> {
    let redis = Redis::connect(Settings::url(&url).unwrap()).await.unwrap();
    let store = (*redis.store()).clone();
    let mut failures = Vec::new();
    for Garbage { script, key } in all {
        let trial = async {
            let deployment = Deployment::begin(redis.clone(), store.clone()).await.unwrap();
            let (keys, none) = (vec![*key], Vec::<String>::new());
            redis.client().eval::<(), _, _, _>(script.as_str(), keys, none).await.unwrap();
            deployment.goes_on(key).await.unwrap();
            let stay = deployment.keys_that_stay().await;
            assert!(stay.is_empty(), "{stay}");
        };
        if AssertUnwindSafe(trial).catch_unwind().await.is_err() {
            failures.push(format!("{key}: {script}"));
        }
    }
    assert!(redis.unreadable() > 20, "{} were counted", redis.unreadable());
    failures
}
