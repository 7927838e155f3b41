//! Nodes: their leases, their connections, and what is left of them when they are lost.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Add,
    sync::PoisonError,
    time::Duration,
};

use fred::{
    bytes::Bytes,
    clients::{Client, WithOptions},
    error::Error,
    interfaces::{
        ClientLike, ClusterInterface, HashesInterface, KeysInterface, SortedSetsInterface,
    },
    types::{InfoKind, Value, config::Server},
};
use futures::{StreamExt, TryStreamExt, stream};
use signaling_core::{
    id::{ConnectionId, NodeId, UserId},
    session::SessionRecord,
    store::{Counts, Lease, StoreError, UserRecord},
    time::Timestamp,
};

use super::{CONCURRENT, RedisStore, corrupt, failed, millis};
use crate::{
    Shared,
    keys::List,
    read::{self, Fields, Read, Unreadable},
};

/// Users looked at in one go.
const WALK_CHUNK: usize = CONCURRENT;

/// How far a lost node's connections were looked through.
#[derive(Debug, Default)]
pub(super) struct Walk {
    users: VecDeque<UserId>,
    /// Whether anything was attached in this round. A round in which nothing was is the last.
    found: bool,
    /// Whether there was a user without a record: the list may name somebody else than it should.
    unknown: bool,
    /// Whether the list was rebuilt for that.
    rebuilt: bool,
}

fn parse_counts(text: &[u8]) -> Option<Counts> {
    let (connections, sessions) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    Some(Counts { connections: connections.parse().ok()?, sessions: sessions.parse().ok()? })
}

/// A number that changes when records may have been lost: when the database was emptied, and when a
/// server has another history than the one before, since it was restarted or took over.
fn generation(marker: &[u8], histories: &BTreeSet<String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (marker, histories).hash(&mut hasher);
    hasher.finish()
}

impl RedisStore {
    /// Lists a connection among those of its node, before anything else says that it is there.
    pub(super) async fn hold(
        &self,
        connection: &ConnectionId,
        user: &UserId,
    ) -> Result<(), StoreError> {
        let script = &self.shared.scripts.hold_connection;
        let key = vec![self.shared.keys.connections(connection.node())];
        let number = connection.number().to_string();
        let args = vec![number.into(), user.as_str().into(), self.retention()];
        self.run(script, key, args).await?;
        Ok(())
    }

    /// Lists one that is in the way of another among those of its node: where that list was lost,
    /// nobody else would find it when the node is.
    pub(super) async fn hold_again(
        &self,
        there: &ConnectionId,
        user: &UserId,
    ) -> Result<(), StoreError> {
        self.hold(there, user).await?;
        if self.load_user(user).await?.connection.as_ref() != Some(there) {
            // It has ended meanwhile, perhaps before it was listed.
            self.release(there).await?;
        }
        Ok(())
    }

    /// Takes a connection from those of its node, when nothing else says any more that it is there.
    pub(super) async fn release(&self, connection: &ConnectionId) -> Result<(), StoreError> {
        let key = &self.shared.keys.connections(connection.node());
        let number = &connection.number().to_string();
        let remove = |client: WithOptions<Client>| async move {
            client.hdel::<Value, _, _>(key, number.as_str()).await
        };
        self.mending(std::slice::from_ref(key), || self.shared.link.call(remove)).await?;
        Ok(())
    }

    pub(super) async fn renew_node(
        &self,
        node: &NodeId,
        lease: Duration,
        counts: Counts,
        others: &[NodeId],
    ) -> Result<Lease, StoreError> {
        let keys = &self.shared.keys;
        let mut args = vec![
            node.as_str().into(),
            millis(lease),
            fastrand::u64(..).to_string().into(),
            self.retention(),
            // Gone before any record is, so that records which nobody could renew are missed.
            millis(self.shared.settings.retention / 2),
            format!("{} {}", counts.connections, counts.sessions).into(),
        ];
        args.extend(others.iter().map(|other| Value::from(other.as_str())));
        let script = &self.shared.scripts.renew_lease;
        let lists = vec![keys.leases(), keys.marker(), keys.counts()];
        let (done, histories) = futures::join!(self.run(script, lists, args), self.histories());
        let (held, now, marker, lost): (u64, u64, Bytes, Vec<Bytes>) =
            done?.convert().map_err(corrupt)?;
        let lost = Read::members(lost, |node| NodeId::new(node).ok());
        Ok(Lease {
            held: held == 1,
            now: Timestamp::from_millis(now),
            generation: generation(&marker, &histories?),
            lost: self.readable(&keys.leases(), lost).await,
        })
    }

    /// Whoever renews a lease next finds that the database has lost records. Where it has lost the
    /// leases, nobody would find the nodes that died before.
    pub(super) async fn lose_generation(&self) -> Result<(), StoreError> {
        let marker = &self.shared.keys.marker();
        let remove = |client: WithOptions<Client>| async move { client.del(marker).await };
        self.shared.link.call::<(), _>(remove).await.map_err(failed)
    }

    pub(super) async fn add_counts(&self) -> Result<Counts, StoreError> {
        let Shared { scripts, keys, .. } = &*self.shared;
        let done =
            self.run(&scripts.add_counts, vec![keys.leases(), keys.counts()], vec![]).await?;
        let all: Vec<Bytes> = done.convert().map_err(corrupt)?;
        let all = all.as_chunks::<2>().0.iter().map(|[node, counts]| (node, counts));
        let read = Read::fields(all, |_, counts| Some(parse_counts(counts).ok_or(Unreadable)));
        let all = self.readable(&keys.counts(), read).await;
        Ok(all.into_iter().fold(Counts::default(), Add::add))
    }

    /// The histories of the servers that hold records.
    async fn histories(&self) -> Result<BTreeSet<String>, StoreError> {
        let asked = self.primaries().into_iter().map(|server| self.history(server));
        let histories = futures::future::try_join_all(asked).await.map_err(failed)?;
        Ok(histories.into_iter().collect())
    }

    /// The servers that hold records; none to name where there is one.
    pub(super) fn primaries(&self) -> Vec<Option<Server>> {
        match self.shared.link.client().cached_cluster_state() {
            Some(state) => state.unique_primary_nodes().into_iter().map(Some).collect(),
            None => vec![None],
        }
    }

    async fn history(&self, server: Option<Server>) -> Result<String, Error> {
        let get = |client: WithOptions<Client>| async move {
            client.info::<String>(Some(InfoKind::Replication)).await
        };
        let info = self.shared.link.call_at(server.as_ref(), get).await?;
        let history = info.lines().find_map(|line| line.strip_prefix("master_replid:"));
        Ok(history.unwrap_or_default().trim().to_owned())
    }

    /// The connections of a node and their users. Where a user cannot be read, the records of sessions
    /// tell who it was, if it is in any.
    async fn connections_of(
        &self,
        node: &NodeId,
    ) -> Result<Vec<(ConnectionId, UserId)>, StoreError> {
        let key = self.shared.keys.connections(node);
        let read = |fields: &Fields| {
            Read::fields(fields.iter(), |number, user| {
                let number =
                    read::exact(number).map(|number| ConnectionId::new(node.clone(), number));
                Some(number.zip(read::exact(user)).ok_or(Unreadable))
            })
        };
        let mut all = read(&self.hash(&key).await?);
        if !all.unreadable.is_empty() {
            self.readable(&key, all).await;
            self.rebuild(List::Connections(node.clone())).await?;
            all = read(&self.hash(&key).await?);
        }
        Ok(self.readable(&key, all).await)
    }

    /// Looks through the users of a node where the last call stopped, again from the first until
    /// nothing is found any more.
    pub(super) async fn walk(
        &self,
        node: &NodeId,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let under_way = self.walks().remove(node);
        let mut walk = match under_way {
            Some(walk) => walk,
            None => self.begin_walk(node).await?,
        };
        let mut found = Vec::new();
        loop {
            self.walk_on(node, limit, &mut walk, &mut found).await?;
            walk.found |= !found.is_empty();
            if !found.is_empty() {
                self.walks().insert(node.clone(), walk);
                return Ok(found);
            }
            let rebuild = walk.unknown && !walk.rebuilt;
            if rebuild {
                self.rebuild(List::Connections(node.clone())).await?;
            } else if !walk.found {
                return Ok(found);
            }
            let rebuilt = walk.rebuilt || rebuild;
            walk = Walk { rebuilt, ..self.begin_walk(node).await? };
        }
    }

    fn walks(&self) -> std::sync::MutexGuard<'_, HashMap<NodeId, Walk>> {
        self.walks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin_walk(&self, node: &NodeId) -> Result<Walk, StoreError> {
        let users = self.connections_of(node).await?.into_iter().map(|(_, user)| user);
        let mut users: VecDeque<_> = users.collect::<BTreeSet<_>>().into_iter().collect();
        // Several nodes find the same one lost. Each begins elsewhere, so that they share the work.
        if !users.is_empty() {
            users.rotate_left(fastrand::usize(..users.len()));
        }
        Ok(Walk { users, ..Walk::default() })
    }

    /// Goes on until `limit` records are found, or all users were looked at.
    async fn walk_on(
        &self,
        node: &NodeId,
        limit: usize,
        walk: &mut Walk,
        found: &mut Vec<SessionRecord>,
    ) -> Result<(), StoreError> {
        let mut seen = BTreeSet::new();
        while found.len() < limit && !walk.users.is_empty() {
            let chunk = walk.users.drain(..WALK_CHUNK.min(walk.users.len())).collect::<Vec<_>>();
            let looked = stream::iter(chunk).map(|user| async move {
                let records = self.attached_on(node, &user).await?;
                Ok::<_, StoreError>((user, records))
            });
            let looked: Vec<_> = looked.buffered(CONCURRENT).try_collect().await?;
            for (user, records) in looked {
                let Some(mut records) = records else {
                    walk.unknown = true;
                    continue;
                };
                records.retain(|record| seen.insert(record.id.clone()));
                if found.len() >= limit && !records.is_empty() {
                    walk.users.push_back(user);
                    continue;
                }
                found.extend(records);
            }
        }
        // What is cut off is found in the next round.
        found.truncate(limit);
        Ok(())
    }

    /// The sessions of `user` that attach it to a connection of `node`; none if the user is unknown.
    async fn attached_on(
        &self,
        node: &NodeId,
        user: &UserId,
    ) -> Result<Option<Vec<SessionRecord>>, StoreError> {
        let known = self.load_user(user).await?;
        if known == UserRecord::default() {
            return Ok(None);
        }
        let read =
            known.memberships.iter().map(|membership| self.load_readable(&membership.session));
        let records = futures::future::try_join_all(read).await?.into_iter().flatten();
        let attached = records.filter(|record| {
            let mut connections = record.participants.iter().filter_map(|p| p.connection());
            connections.any(|connection| connection.node() == node)
        });
        Ok(Some(attached.collect()))
    }

    pub(super) async fn forget(&self, node: &NodeId) -> Result<(), StoreError> {
        let (link, keys) = (&self.shared.link, &self.shared.keys);
        let connections = self.connections_of(node).await?;
        let forgotten = stream::iter(connections).map(|(connection, user)| async move {
            self.disconnect_user(&user, &connection).await?;
            self.release(&connection).await
        });
        forgotten.buffer_unordered(CONCURRENT).try_collect::<Vec<_>>().await?;
        self.walks().remove(node);
        let (inbox, leases, counts) = (&keys.inbox(node), &keys.leases(), &keys.counts());
        let holds = &keys.inbox_holds(node);
        let close = |client: WithOptions<Client>| async move {
            client.del::<u64, _>(vec![inbox.as_str(), holds]).await?;
            client.hdel::<u64, _, _>(counts, node.as_str()).await?;
            client.zrem::<u64, _, _>(leases, node.as_str()).await
        };
        self.mending(&[leases.clone(), counts.clone()], || link.call(close)).await?;
        Ok(())
    }
}
