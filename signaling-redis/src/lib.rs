//! Redis for [`signaling_core`]: many nodes, one truth, and nothing lost when something dies.
//!
//! A [`Redis`] gives the store and the bus of one relay. All relays that use the same database are one
//! deployment: their users meet each other whichever node they are on, move between nodes, and are
//! told when their partner's node dies.
//!
//! ```no_run
//! use signaling_core::{
//!     Relay,
//!     jwt::{Algorithm, JwtAuthenticator, JwtKey},
//! };
//! use signaling_redis::{Redis, Settings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let redis = Redis::connect(Settings::url("redis://127.0.0.1:6379")?).await?;
//! let key = JwtKey::secret(Algorithm::HS256, "a secret of at least thirty-two bytes");
//! let relay = Relay::builder(JwtAuthenticator::builder().key(key).build()?)
//!     .store(redis.store())
//!     .bus(redis.bus())
//!     .start()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! One server, Sentinel and Cluster will do, Redis or Valkey from 6.2 on, over TLS with the feature
//! `tls`. What happens to whom when Redis or a node is slow, frozen, cut off or dead is a table in the
//! crate's README, and every row of it a test.
//!
//! # Keys
//!
//! Other services may read the seven fields of a session's hash that are named here; nobody else may
//! write any of these keys. All of them expire: what is in use is renewed, and what is left when all
//! nodes die at once is gone after [`Settings::retention`].
//!
//! | key | type | what |
//! | --- | --- | --- |
//! | `session:active:{id}` | hash | a session: `participant1Id`, `participant2Id` (user ids), `participant1Ws`, `participant2Ws` (connection ids, empty while absent), `lastHeartbeat1`, `lastHeartbeat2` (milliseconds since the Unix epoch, empty before the first), `status` (`waiting` or `active`); bookkeeping, among it `ended1`, `ended2` (why their last connections ended, empty before that) and `openedAt` (milliseconds since the Unix epoch); and `metadata`, where the host gave any |
//! | `session:ended:{session:active:id}` | string | who removed a session just now |
//! | `session:user:{id}` | hash | a user's connection, its number, when it was accepted (milliseconds since the Unix epoch), and the sessions the user is enrolled in |
//! | `session:deadlines` | sorted set | when sessions are to be looked at |
//! | `session:connections:{node}` | hash | a node's connections and their users |
//! | `session:inbox:{node}` | stream | what other nodes have for a node |
//! | `session:inbox-holds:{session:inbox:node}` | string | how many entries and unread bytes that is |
//! | `session:{nodes}:leases` | sorted set | which nodes are alive until when, by the server's clock |
//! | `session:{nodes}:counts` | hash | how many connections and sessions each node has, as it said with its lease |
//! | `session:{nodes}:marker` | string | another one when the database was emptied |
//!
//! The braces around `nodes`, `session:active:id` and `session:inbox:node` are part of the name, so that
//! Redis Cluster keeps what one script touches together; elsewhere they stand for an id.
//!
//! # Unreadable data
//!
//! Something else may write into these keys: a script, an operator, another application without a prefix.
//! What no version of this library writes is skipped, and harms its own session only. Each item is
//! logged once as "unreadable data in Redis; skipped" with its key, at most 20 lines a minute;
//! [`Redis::unreadable`] counts all of them.
//!
//! | unreadable | what happens |
//! | --- | --- |
//! | a session's record | a connection that is attached to it writes it again at its next heartbeat; otherwise it expires after a minute |
//! | a heartbeat's time, a number of a connection, a marker, a count | replaced at the next write |
//! | a member or field of a list | removed from the list |
//! | a key of another type | deleted. Users, deadlines and the connections of a node are rebuilt from the records of all sessions, which reads every record once. Without the leases, nodes open their sessions again as if the database had been emptied |
//! | an entry of an inbox | skipped; the node looks its sessions up |
//!
//! # What a call costs
//!
//! From the match to the leave, between users who are connected, 9 commands, or 10 when both attach in
//! the same moment; `tests/redis/calls.rs` counts them with `MONITOR`:
//!
//! | commands | for |
//! | --- | --- |
//! | 2 `join_user` | both users become members of the session, and their connections are read |
//! | 1 `add_deadlines`, 1 `create_session` | the session is opened |
//! | 2 `replace_session` | both are attached; one more try where they collide |
//! | 1 `delete_session` | one leaves |
//! | 2 `leave_user` | neither is a member any more |
//!
//! What does not depend on an answer is sent together: a session is open after two round trips, a
//! connection admitted after one, and matched after two more. On Cluster a list and the record that it leads
//! to are on different servers, and take a round trip each.
//!
//! Beside these: a heartbeat costs one script for each session, or an `HGET` of the user where there is
//! none; a signal to another node one script, and to the same node nothing; a node two commands every [`node_renewal`] for its lease and one every
//! [`sweep_interval`], and for each further page that is due, to look for sessions that are over. `Relay::counts` costs one script, whatever
//! there is to count; `Relay::sessions_of` one `HGETALL` for the user and one for each session.
//!
//! # What Redis must be
//!
//! - `maxmemory-policy noeviction`: a session that is evicted is a call that ends.
//! - Persistence is not needed. What a restarted Redis has lost, the nodes write again; only sessions in
//!   which nobody was connected at that time are gone.
//! - A failover may lose what the old primary had not yet replicated. The nodes notice the new history
//!   and write again what they hold; a call that ended in that very moment may come back once more, as
//!   a `match-found` for both.
//! - An ACL user needs the keys and commands in the crate's `acl.txt`.
//! - Where second connections are refused, that is a condition of the script that connects, and holds on
//!   Cluster as well. A failover that loses writes may let a second one in; the last to write again
//!   stays.
//! - All nodes go by the clock of Redis: for leases, for when a session is abandoned, and for the
//!   heartbeats in records. Their own clocks decide only about tokens and TURN credentials.
//!
//! # Features
//!
//! - `tls`: `rediss://` and its kin, by rustls on ring and the operating system's certificates.
//! - `test-util`: the `testing` module, which starts real `redis-server` processes.
//!
//! [`node_renewal`]: signaling_core::Config::node_renewal
//! [`sweep_interval`]: signaling_core::Config::sweep_interval

#![cfg_attr(docsrs, feature(doc_cfg))]

mod bus;
pub mod error;
mod inbox;
mod keys;
mod link;
mod quarantine;
mod read;
mod record;
mod script;
mod settings;
mod store;
#[cfg(feature = "test-util")]
pub mod testing;

use std::sync::Arc;

pub use fred;

pub use bus::RedisBus;
pub use error::ConnectError;
pub use settings::Settings;
pub use store::RedisStore;

use keys::Keys;
use link::Link;
use quarantine::Quarantine;
use script::Scripts;

/// A connection to Redis, from which the store and the bus of one node come.
#[derive(Debug, Clone)]
pub struct Redis(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    link: Link,
    /// For batches of heartbeats.
    heartbeats: Link,
    scripts: Scripts,
    keys: Keys,
    quarantine: Quarantine,
}

impl Redis {
    /// Connects. Lost connections are made again without end from then on.
    ///
    /// # Errors
    ///
    /// When Redis cannot be reached within [`Settings::connect_timeout`], refuses the credentials,
    /// or is too old.
    pub async fn connect(settings: Settings) -> Result<Self, ConnectError> {
        settings.validate()?;
        let keys = Keys::new(&settings.prefix);
        let (link, heartbeats) =
            futures::try_join!(Link::connect(&settings), Link::connect(&settings))?;
        tracing::info!(redis = settings.address(), "connected to Redis");
        let (scripts, quarantine) = (Scripts::new(), Quarantine::new());
        Ok(Self(Arc::new(Shared { settings, link, heartbeats, scripts, keys, quarantine })))
    }

    /// Where sessions are kept.
    #[must_use]
    pub fn store(&self) -> Arc<RedisStore> {
        Arc::new(RedisStore::new(self.0.clone()))
    }

    /// How nodes reach each other.
    #[must_use]
    pub fn bus(&self) -> Arc<RedisBus> {
        Arc::new(RedisBus(self.0.clone()))
    }

    /// The client underneath, for a host's own commands. They wait in it while Redis is away, and one
    /// whose connection is lost may be sent again: set a timeout, and `fail_fast` for what may not
    /// be done twice.
    #[must_use]
    pub fn client(&self) -> &fred::clients::Client {
        self.0.link.client()
    }

    /// How often something was found under this library's keys that no version of it writes. Each such
    /// item is logged once and skipped; see [the crate's documentation](crate#unreadable-data).
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.0.quarantine.found()
    }

    /// What the names of all keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0.settings.prefix
    }
}

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
