//! What happens to unreadable data, in one place:
//!
//! | unreadable | is |
//! | --- | --- |
//! | a record of a session | left to expire, unless an attached connection writes it again |
//! | a key of another type | deleted, and rebuilt from the records of sessions if it is a list |
//! | a member or field of a list | removed |

use std::future::Future;

use fred::{
    bytes::Bytes,
    clients::{Client, WithOptions},
    error::Error,
    interfaces::{HashesInterface, KeysInterface, SortedSetsInterface},
    types::{Key, Value, config::Server, scan::ScanType},
};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use signaling_core::{
    id::SessionId,
    session::{Participant, SessionRecord},
    store::{Accepted, Replace, StoreError},
};

use super::{CONCURRENT, RedisStore, failed, millis};
use crate::{
    Shared,
    keys::List,
    link,
    read::{Fields, Read, Unreadable},
    script::Script,
};

/// How long an unreadable record is kept: longer than its connections take to write it again.
const KEPT: std::time::Duration = std::time::Duration::from_secs(60);
/// Keys in one page of a scan.
const PAGE: u32 = 1_000;

impl RedisStore {
    /// Runs a script that reads or writes lists. Done again after mending `keys` where one of them is of
    /// another type.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, StoreError> {
        let link = &self.shared.link;
        self.mending(&keys, || link.run(script, keys.clone(), args.clone())).await
    }

    /// Makes a call for lists, and again after mending `keys` where one of them is of another type.
    pub(super) async fn mending<T, F>(
        &self,
        keys: &[String],
        call: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match call().await {
            Err(error) if link::is_wrong_type(&error) => {
                self.mend(keys).await?;
                call().await.map_err(failed)
            }
            done => done.map_err(failed),
        }
    }

    /// Deletes those of `keys` that are of another type, and rebuilds the lists among them. Returns the
    /// keys that it deleted.
    pub(super) async fn mend(&self, keys: &[String]) -> Result<Vec<String>, StoreError> {
        let Shared { link, scripts, keys: names, quarantine, .. } = &*self.shared;
        let expected = keys.iter().map(|key| Value::from_static_str(names.type_of(key)));
        let done = link.run(&scripts.discard_misplaced, keys.to_vec(), expected.collect()).await;
        let types: Vec<String> = done.and_then(Value::convert).map_err(failed)?;
        let mut deleted = Vec::new();
        for (key, there) in keys.iter().zip(&types) {
            let expected = names.type_of(key);
            if there != expected && there != "none" {
                let cause = format!("it is a {there} where a {expected} belongs; deleted");
                quarantine.report(key, None, &cause);
                deleted.push(key.clone());
            }
        }
        for list in deleted.iter().filter_map(|key| names.list(key)) {
            self.rebuild(list).await?;
        }
        Ok(deleted)
    }

    /// The readable items of a list. The others are reported, and removed, so that they are not found
    /// again.
    pub(super) async fn readable<T>(&self, key: &str, read: Read<T>) -> Vec<T> {
        let Shared { link, keys, quarantine, .. } = &*self.shared;
        if !read.unreadable.is_empty() {
            for item in &read.unreadable {
                quarantine.report(key, Some(item), &Unreadable);
            }
            let in_hash = keys.type_of(key) == "hash";
            let remove = |client: WithOptions<Client>| {
                let items = read.unreadable.clone();
                async move {
                    match in_hash {
                        true => client.hdel::<Value, _, _>(key, keys_of(items)).await,
                        false => client.zrem::<Value, _, _>(key, values_of(items)).await,
                    }
                }
            };
            if let Err(error) = link.call(remove).await {
                // It is removed when it is found again.
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "unreadable data not removed; it expires"
                );
            }
        }
        read.items
    }

    /// Reports an unreadable record, and lets it expire unless it changes before.
    pub(super) async fn quarantine_record(
        &self,
        session: &SessionId,
        fields: &Fields,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        let (cause, key) = (cause.into(), self.shared.keys.session(session));
        self.shared.quarantine.report(&key, None, &cause);
        let Shared { link, scripts, .. } = &*self.shared;
        let mut args = identity(fields);
        args.push(millis(KEPT));
        if let Err(error) = link.run(&scripts.quarantine_session, vec![key], args).await {
            // A server without memory refuses it. It is done when the record is read again.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "unreadable record not cleared; it expires"
            );
        }
        StoreError::Corrupt(cause)
    }

    /// Deletes an unreadable record of a session that ends.
    pub(super) async fn discard_record(
        &self,
        session: &SessionId,
        fields: &Fields,
        cause: impl std::fmt::Display,
    ) -> Result<(), StoreError> {
        let Shared { link, scripts, keys, quarantine, .. } = &*self.shared;
        let key = keys.session(session);
        quarantine.report(&key, None, &cause);
        let done = link.run(&scripts.discard_session, vec![key], identity(fields)).await;
        done.map(drop).map_err(failed)
    }

    /// Fills a list that was lost from the records of all sessions.
    pub(super) fn rebuild(&self, list: List) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            if matches!(list, List::Leases) {
                return self.lose_generation().await;
            }
            for server in self.primaries() {
                let mut cursor = "0".to_owned();
                loop {
                    let (next, found) = self.scan(server.as_ref(), &cursor).await?;
                    let records = stream::iter(found)
                        .map(|session| async move { self.load_readable(&session).await });
                    let mut records = records.buffered(CONCURRENT);
                    while let Some(record) = records.try_next().await? {
                        if let Some(record) = record {
                            self.list_again(&list, &record).await?;
                        }
                    }
                    if next == "0" {
                        break;
                    }
                    cursor = next;
                }
            }
            Ok(())
        }
        .boxed()
    }

    /// A page of the sessions that have records on `server`.
    async fn scan(
        &self,
        server: Option<&Server>,
        cursor: &str,
    ) -> Result<(String, Vec<SessionId>), StoreError> {
        let Shared { link, keys, .. } = &*self.shared;
        let page = |client: WithOptions<Client>| async move {
            let (pattern, kind) = (keys.sessions(), Some(ScanType::Hash));
            client.scan_page::<(String, Vec<Bytes>), _, _>(cursor, pattern, Some(PAGE), kind).await
        };
        let (next, found) = link.call_at(server, page).await.map_err(failed)?;
        let found = found.iter().filter_map(|key| keys.session_of(std::str::from_utf8(key).ok()?));
        Ok((next, found.collect()))
    }

    /// Puts into `list` what belongs there of `record`.
    async fn list_again(&self, list: &List, record: &SessionRecord) -> Result<(), StoreError> {
        match list {
            List::Deadlines => self.list_deadlines(record).await?,
            List::User(user) => {
                for participant in record.participants.iter().filter(|p| p.user == *user) {
                    self.know_again(participant, &record.id).await?;
                }
            }
            List::Connections(node) => {
                for Participant { user, .. } in &record.participants {
                    let role = record.role_of(user);
                    let own = role.and_then(|role| record.participant(role).connection());
                    if let Some(connection) = own.filter(|own| own.node() == node) {
                        self.hold(connection, user).await?;
                    }
                }
            }
            List::Leases => {}
        }
        Ok(())
    }

    /// Makes a participant a member, and makes the connection that it is attached with the one of its user.
    async fn know_again(
        &self,
        participant: &Participant,
        session: &SessionId,
    ) -> Result<(), StoreError> {
        let user = &participant.user;
        // As many as there are were allowed before.
        let _ = self.join_user(user, session, usize::MAX).await?;
        if let Some(connection) = participant.connection() {
            self.hold(connection, user).await?;
            // Who came meanwhile is newer.
            let (accepted, replace) = (Accepted::UNKNOWN, Replace::Nothing);
            let _ = self.connect_user(user, connection, accepted, replace).await?;
        }
        Ok(())
    }
}

/// By which a script knows an unreadable record again.
pub(super) fn identity(fields: &Fields) -> Vec<Value> {
    let raw = |name| fields.raw(name).cloned().unwrap_or_default();
    vec![raw("opening").into(), raw("revision").into()]
}

fn keys_of(items: Vec<Bytes>) -> Vec<Key> {
    items.into_iter().map(Key::from).collect()
}

fn values_of(items: Vec<Bytes>) -> Vec<Value> {
    items.into_iter().map(Value::from).collect()
}
