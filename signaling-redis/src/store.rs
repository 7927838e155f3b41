//! [`RedisStore`]: sessions, users and nodes as hashes and sorted sets.

mod deadlines;
mod heartbeats;
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
        Connect, Counts, Created, Enrolled, Heartbeat, Lease, Replace, SessionStore, StoreError,
        UserRecord, Written,
    },
};

use crate::{
    Shared, link,
    record::{self, Fields},
};

/// How long it is remembered who removed a record: longer than anybody asks again.
const REMEMBER_ENDED: Duration = Duration::from_secs(30);
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
    if error.details().starts_with("WRONGTYPE") {
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

    fn written(self, session: &SessionId) -> Result<Written, StoreError> {
        match self {
            Self::Nothing => Ok(Written::Missing),
            Self::Done => Ok(Written::Done),
            Self::There(fields) => Ok(Written::Conflict(Box::new(decode(session, &fields)?))),
        }
    }
}

fn decode(session: &SessionId, fields: &Fields) -> Result<SessionRecord, StoreError> {
    record::decode(session, fields).map_err(corrupt)
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

    async fn hash(&self, key: &str) -> Result<Fields, StoreError> {
        let get = |client: WithOptions<Client>| async move { client.hgetall(key).await };
        self.shared.link.call(get).await.map_err(failed)
    }

    /// A record that is needed among others: one that cannot be read is left out, and said.
    async fn readable(&self, session: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        match self.load(session).await {
            Err(StoreError::Corrupt(cause)) => {
                tracing::error!(%session, error = &*cause as &dyn std::error::Error, "corrupt record");
                Ok(None)
            }
            loaded => loaded,
        }
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn create(&self, record: &SessionRecord) -> Result<Created, StoreError> {
        let Shared { link, scripts, keys, .. } = &*self.shared;
        let mut args: Vec<Value> =
            vec![record.opening.to_string().into(), record.revision.to_string().into()];
        args.push(self.retention());
        for (name, value) in record::encode(record) {
            args.extend([Value::from_static_str(name), value.into()]);
        }
        let create = link.run(&scripts.create_session, vec![keys.session(&record.id)], args);
        let create = async { create.await.map_err(failed) };
        match Outcome::of(self.ahead(self.list_deadlines(record), create).await?)? {
            Outcome::There(fields) => Ok(Created::Exists(Box::new(decode(&record.id, &fields)?))),
            Outcome::Done | Outcome::Nothing => Ok(Created::Done),
        }
    }

    async fn load(&self, session: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        let fields = self.hash(&self.shared.keys.session(session)).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        decode(session, &fields).map(Some)
    }

    async fn replace(&self, record: &SessionRecord) -> Result<Written, StoreError> {
        let Shared { link, scripts, keys, .. } = &*self.shared;
        // No record is at the revision before the first.
        let before = record.revision.wrapping_sub(1);
        let mut args: Vec<Value> =
            vec![record.opening.to_string().into(), before.to_string().into(), self.retention()];
        for (name, value) in record::changing(record) {
            args.extend([Value::from_static_str(name), value.into()]);
        }
        let replace = link.run(&scripts.replace_session, vec![keys.session(&record.id)], args);
        let replace = async { replace.await.map_err(failed) };
        let done = if deadlines::are_new(record) {
            self.ahead(self.list_deadlines(record), replace).await?
        } else {
            replace.await?
        };
        Outcome::of(done)?.written(&record.id)
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
        let done = link.run(&scripts.delete_session, keys, args).await.map_err(failed)?;
        Outcome::of(done)?.written(&record.id)
    }

    async fn enrol(
        &self,
        user: &UserId,
        session: &SessionId,
        limit: usize,
    ) -> Result<Enrolled, StoreError> {
        self.enrol_user(user, session, limit).await
    }

    async fn withdraw(&self, user: &UserId, session: &SessionId) -> Result<(), StoreError> {
        self.withdraw_user(user, session).await
    }

    async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError> {
        let connect = self.connect_user(user, connection, replace);
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
    ) -> Result<Lease, StoreError> {
        self.renew_node(node, lease, counts).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.add_counts().await
    }

    async fn presume_alive(&self, node: &NodeId, lease: Duration) -> Result<(), StoreError> {
        self.presume_node(node, lease).await
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
