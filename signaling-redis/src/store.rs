//! [`RedisStore`]: sessions, users and nodes as hashes and sorted sets.

mod deadlines;
mod heartbeats;
mod mend;
mod nodes;
mod users;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use fred::{
    clients::{Client, WithOptions},
    error::Error,
    interfaces::{ClientLike, HashesInterface},
    types::Value,
};
use signaling_core::{
    id::{ConnectionId, NodeId, SessionId, UserId},
    session::SessionRecord,
    store::{
        Accepted, Connect, Counts, Heartbeat, Joined, Lease, Replace, SessionStore, StoreError,
        UserRecord, Written,
    },
    time::Timestamp,
};

use crate::{
    Shared, link,
    read::{Fields, Unreadable},
    record,
};

/// How long it is remembered who removed a record: longer than anybody asks again.
const REMEMBER_ENDED: Duration = Duration::from_secs(30);
/// How often a record is written again in the place of one that cannot be read.
const OPEN_ROUNDS: usize = 8;
/// Commands that are on their way to Redis at the same time, for one call.
const CONCURRENT: usize = 256;

/// Keeps sessions, users and nodes in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
    /// How far lost nodes were looked through.
    walks: Arc<Mutex<HashMap<NodeId, nodes::Walk>>>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisStore").field(&self.shared.settings).finish()
    }
}

fn failed(error: Error) -> StoreError {
    if link::is_wrong_type(&error) {
        StoreError::Corrupt(Box::new(error))
    } else if link::is_refusal(&error) {
        StoreError::Refused(Box::new(error))
    } else {
        StoreError::unavailable(error)
    }
}

fn corrupt(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Corrupt(error.into())
}

/// What a script did that changes something only where it is as expected.
enum Outcome {
    Nothing,
    Done,
    There(Fields),
}

impl Outcome {
    fn of(value: Value) -> Result<Self, StoreError> {
        match value.as_u64() {
            Some(0) => Ok(Self::Nothing),
            Some(_) => Ok(Self::Done),
            None => value.convert().map(Self::There).map_err(corrupt),
        }
    }
}

fn millis(duration: Duration) -> Value {
    duration.as_millis().to_string().into()
}

impl RedisStore {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, walks: Arc::default() }
    }

    fn retention(&self) -> Value {
        millis(self.shared.settings.retention)
    }

    /// Has `list` done before `write`, which makes the list true: on one server in one pipeline, which
    /// keeps the order. On Cluster they are for different servers, and one waits for the other.
    async fn ahead<T>(
        &self,
        list: impl Future<Output = Result<(), StoreError>>,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if self.shared.link.client().is_clustered() {
            list.await?;
            return write.await;
        }
        // In this order both are sent; the answers come together.
        let (listed, written) = futures::join!(list, write);
        listed.and(written)
    }

    /// A hash that is a list.
    async fn hash(&self, key: &str) -> Result<Fields, StoreError> {
        let get = |client: WithOptions<Client>| async move { client.hgetall(key).await };
        self.mending(&[key.to_owned()], || self.shared.link.call(get)).await
    }

    async fn load_record(&self, session: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        let key = &self.shared.keys.session(session);
        let get = |client: WithOptions<Client>| async move { client.hgetall(key).await };
        match self.shared.link.call(get).await {
            Ok(fields) => self.decode(session, fields).await,
            Err(error) if link::is_wrong_type(&error) => {
                Err(self.quarantine_record(session, &Fields::default(), error).await)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// A record that is needed among others: one that cannot be read is left out.
    async fn load_readable(
        &self,
        session: &SessionId,
    ) -> Result<Option<SessionRecord>, StoreError> {
        match self.load_record(session).await {
            Err(StoreError::Corrupt(_)) => Ok(None),
            loaded => loaded,
        }
    }

    async fn decode(
        &self,
        session: &SessionId,
        fields: Fields,
    ) -> Result<Option<SessionRecord>, StoreError> {
        if fields.is_empty() {
            return Ok(None);
        }
        match record::decode(session, &fields) {
            Ok(record) => Ok(Some(record)),
            Err(cause) => Err(self.quarantine_record(session, &fields, cause).await),
        }
    }

    /// What is there instead of the record that was to be changed; missing where it cannot be read.
    async fn conflict(&self, session: &SessionId, fields: Fields) -> Result<Written, StoreError> {
        match self.decode(session, fields).await {
            Ok(Some(there)) => Ok(Written::Conflict(Box::new(there))),
            Ok(None) | Err(StoreError::Corrupt(_)) => Ok(Written::Missing),
            Err(error) => Err(error),
        }
    }
}

/// The two ways to write a record.
impl RedisStore {
    /// Writes all of `record`, in place of `expected`. An unreadable record gives way where none is
    /// expected.
    async fn open(
        &self,
        record: &SessionRecord,
        expected: Option<&SessionRecord>,
    ) -> Result<Written, StoreError> {
        let Shared { link, scripts, keys, quarantine, .. } = &*self.shared;
        let key = keys.session(&record.id);
        let version = |of: fn(&SessionRecord) -> u64| {
            Value::from(expected.map(|record| of(record).to_string()).unwrap_or_default())
        };
        let mut written = Vec::new();
        for (name, value) in record::encode(record) {
            written.extend([Value::from_static_str(name), value.into()]);
        }
        let open = |unreadable: Option<&Fields>| {
            let mut args: Vec<Value> = vec![
                version(|record| record.opening),
                version(|record| record.revision),
                self.retention(),
                Value::from_static_str(if unreadable.is_some() { "1" } else { "" }),
            ];
            args.extend(mend::identity(unreadable.unwrap_or(&Fields::default())));
            args.extend(written.clone());
            let done = link.run(&scripts.open_session, vec![key.clone()], args);
            async { done.await.map_err(failed) }
        };
        let mut done = self.ahead(self.list_deadlines(record), open(None)).await?;
        for _ in 0..OPEN_ROUNDS {
            if done.as_u64() == Some(2) {
                quarantine.report(&key, None, &Unreadable);
            }
            let fields = match Outcome::of(done)? {
                Outcome::Done => return Ok(Written::Done),
                Outcome::Nothing => return Ok(Written::Missing),
                Outcome::There(fields) => fields,
            };
            match record::decode(&record.id, &fields) {
                Ok(there) => return Ok(Written::Conflict(Box::new(there))),
                Err(cause) => {
                    quarantine.report(&key, None, &cause);
                    if expected.is_some() {
                        return Ok(Written::Missing);
                    }
                    done = open(Some(&fields)).await?;
                }
            }
        }
        Err(corrupt(Unreadable))
    }

    /// Writes what can change of `record`, in place of `before`, of the same opening.
    async fn replace(
        &self,
        record: &SessionRecord,
        before: &SessionRecord,
    ) -> Result<Written, StoreError> {
        let Shared { link, scripts, keys, .. } = &*self.shared;
        let mut args: Vec<Value> = vec![
            before.opening.to_string().into(),
            before.revision.to_string().into(),
            self.retention(),
        ];
        for (name, value) in record::changing(record) {
            args.extend([Value::from_static_str(name), value.into()]);
        }
        let replace = link.run(&scripts.replace_session, vec![keys.session(&record.id)], args);
        let replace = async { replace.await.map_err(failed).and_then(Outcome::of) };
        let done = if deadlines::are_new(record, before) {
            self.ahead(self.list_deadlines(record), replace).await
        } else {
            replace.await
        };
        match done {
            Ok(Outcome::Done) => Ok(Written::Done),
            Ok(Outcome::There(fields)) => self.conflict(&record.id, fields).await,
            Ok(Outcome::Nothing) | Err(StoreError::Corrupt(_)) => Ok(Written::Missing),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn put(
        &self,
        record: &SessionRecord,
        expected: Option<&SessionRecord>,
    ) -> Result<Written, StoreError> {
        match expected {
            Some(before) if before.opening == record.opening => self.replace(record, before).await,
            expected => self.open(record, expected).await,
        }
    }

    async fn load(&self, session: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        self.load_record(session).await
    }

    async fn delete(&self, record: &SessionRecord) -> Result<Written, StoreError> {
        let Shared { link, scripts, keys, .. } = &*self.shared;
        let who_asks = fastrand::u64(..);
        let args = vec![
            record.opening.to_string().into(),
            record.revision.to_string().into(),
            who_asks.to_string().into(),
            millis(REMEMBER_ENDED),
        ];
        let keys = vec![keys.session(&record.id), keys.ended(&record.id)];
        let done = match link.run(&scripts.delete_session, keys.clone(), args.clone()).await {
            Err(error) if link::is_wrong_type(&error) => {
                if self.mend(&keys).await?.contains(&keys[0]) {
                    return Ok(Written::Done);
                }
                link.run(&scripts.delete_session, keys, args).await
            }
            done => done,
        };
        match Outcome::of(done.map_err(failed)?)? {
            Outcome::Nothing => Ok(Written::Missing),
            Outcome::Done => Ok(Written::Done),
            Outcome::There(fields) => match record::decode(&record.id, &fields) {
                Ok(there) => Ok(Written::Conflict(Box::new(there))),
                Err(cause) => {
                    self.discard_record(&record.id, &fields, cause).await?;
                    Ok(Written::Done)
                }
            },
        }
    }

    async fn join(
        &self,
        user: &UserId,
        session: &SessionId,
        limit: usize,
    ) -> Result<Joined, StoreError> {
        self.join_user(user, session, limit).await
    }

    async fn leave(
        &self,
        user: &UserId,
        session: &SessionId,
        since: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.leave_user(user, session, since).await
    }

    async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        accepted: Accepted,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError> {
        let connect = self.connect_user(user, connection, accepted, replace);
        let connect = self.ahead(self.hold(connection, user), connect).await?;
        if let Connect::Taken(there) = &connect {
            self.hold_again(there, user).await?;
        }
        Ok(connect)
    }

    async fn disconnect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<bool, StoreError> {
        let was = self.disconnect_user(user, connection).await?;
        self.release(connection).await?;
        Ok(was)
    }

    async fn revoke(
        &self,
        user: &UserId,
        issued_before: Timestamp,
        keep: Duration,
    ) -> Result<Option<ConnectionId>, StoreError> {
        self.revoke_user(user, issued_before, keep).await
    }

    async fn user(&self, user: &UserId) -> Result<UserRecord, StoreError> {
        self.load_user(user).await
    }

    async fn record_heartbeats(
        &self,
        heartbeats: &[Heartbeat],
    ) -> Result<Vec<ConnectionId>, StoreError> {
        self.write_heartbeats(heartbeats).await
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<SessionRecord>, StoreError> {
        self.overdue_sessions(limit).await
    }

    async fn renew_lease(
        &self,
        node: &NodeId,
        lease: Duration,
        counts: Counts,
        others: &[NodeId],
    ) -> Result<Lease, StoreError> {
        self.renew_node(node, lease, counts, others).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.add_counts().await
    }

    async fn attached_to(
        &self,
        node: &NodeId,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        self.walk(node, limit).await
    }

    async fn forget_node(&self, node: &NodeId) -> Result<(), StoreError> {
        self.forget(node).await
    }
}
