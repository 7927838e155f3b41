//! Sessions, users and nodes in memory.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{task::yield_now, time::Instant};

use crate::{
    id::{ConnectionId, NodeId, SessionId, UserId},
    session::SessionRecord,
    store::{
        Accepted, Connect, Connected, Counts, Heartbeat, Joined, Lease, Membership, Replace,
        SessionStore, StoreError, UserRecord, Written,
    },
    time::{Clock, SteadyClock, SystemClock, Timestamp},
};

/// Sessions, users and nodes in memory. It never fails. Its clock is the system's when the store was
/// made, and goes on by the monotonic clock.
pub struct MemoryStore {
    tables: Mutex<Tables>,
    clock: SteadyClock,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let clock = SteadyClock::new(SystemClock.now(), Instant::now());
        Self { tables: Mutex::default(), clock }
    }
}

#[derive(Default)]
struct Tables {
    /// Boxed, so that a table that grows moves little while the lock is held.
    sessions: HashMap<SessionId, Box<SessionRecord>>,
    deadlines: BTreeSet<Due>,
    users: HashMap<UserId, User>,
    /// The revocations of users by their ends.
    revocations: BTreeSet<(Timestamp, UserId)>,
    leases: HashMap<NodeId, Held>,
    last_epoch: u64,
    generation: u64,
}

/// A session's deadline. With the opening, so that ids are hardly ever compared: each would be a wait for
/// memory.
type Due = (Timestamp, u64, SessionId);

fn due(record: &SessionRecord) -> Option<Due> {
    Some((record.deadline()?, record.opening, record.id.clone()))
}

/// Room that a table keeps whatever is in it.
const SMALL: usize = 1024;

/// Gives back the room of a table that has become much smaller than it was.
fn shrink<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() > SMALL && table.len() < table.capacity() / 8 {
        table.shrink_to(2 * table.len());
    }
}

/// A millisecond's work: then others get their turn.
const HEARTBEATS_AT_ONCE: usize = 512;

/// A node's lease.
struct Held {
    until: Timestamp,
    counts: Counts,
}

#[derive(Default)]
struct User {
    connection: Option<UserConnection>,
    memberships: Vec<Membership>,
    revocation: Option<Revocation>,
}

impl User {
    /// Nothing is left to know.
    fn is_unknown(&self) -> bool {
        self.connection.is_none() && self.memberships.is_empty() && self.revocation.is_none()
    }
}

/// Tokens that were issued before a time are revoked.
#[derive(Clone, Copy)]
struct Revocation {
    before: Timestamp,
    until: Timestamp,
}

struct UserConnection {
    id: ConnectionId,
    epoch: u64,
    /// [`Accepted::earliest`]
    accepted: Timestamp,
    previous: Option<ConnectionId>,
}

impl Tables {
    fn put(&mut self, record: SessionRecord) {
        let is_due = due(&record);
        let was_due = match self.sessions.get_mut(&record.id) {
            Some(there) => due(&std::mem::replace(there, record)),
            None => {
                self.sessions.insert(record.id.clone(), Box::new(record));
                None
            }
        };
        if is_due != was_due {
            if let Some(was_due) = was_due {
                self.deadlines.remove(&was_due);
            }
            self.deadlines.extend(is_due);
        }
    }

    fn remove(&mut self, session: &SessionId) {
        shrink(&mut self.sessions);
        if let Some(due) = self.sessions.remove(session).and_then(|record| due(&record)) {
            self.deadlines.remove(&due);
        }
    }

    /// Changes a user, and forgets it when nothing is left to know.
    fn change_user<T>(&mut self, user: &UserId, change: impl FnOnce(&mut User) -> T) -> T {
        let known = self.users.entry(user.clone()).or_default();
        let result = change(known);
        if known.is_unknown() {
            self.users.remove(user);
            shrink(&mut self.users);
        }
        result
    }

    /// Forgets revocations that have ended by `now`.
    fn end_revocations(&mut self, now: Timestamp) {
        while let Some((until, _)) = self.revocations.first()
            && *until <= now
            && let Some((until, user)) = self.revocations.pop_first()
        {
            self.change_user(&user, |user| {
                user.revocation.take_if(|revocation| revocation.until == until);
            });
        }
    }

    /// Gives the connections that believe something wrong.
    fn record_heartbeats(&mut self, heartbeats: &[Heartbeat]) -> Vec<ConnectionId> {
        let mut doubtful = Vec::new();
        for heartbeat in heartbeats {
            let user = self.users.get(&heartbeat.user).and_then(|user| user.connection.as_ref());
            let mut as_believed = user.is_some_and(|there| there.id == heartbeat.connection);
            for place in &heartbeat.places {
                let record = self.sessions.get_mut(&place.session);
                let attached = record.filter(|record| {
                    record.opening == place.opening
                        && record.attached_as(&heartbeat.connection) == Some(place.role)
                });
                as_believed &= attached.as_ref().is_some_and(|r| r.revision == place.revision);
                if let Some(record) = attached {
                    let last = &mut record.participants[place.role as usize].last_heartbeat;
                    *last = (*last).max(Some(heartbeat.at));
                }
            }
            if !as_believed {
                doubtful.push(heartbeat.connection.clone());
            }
        }
        doubtful
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses everything, as a server without persistence does when it restarts.
    #[cfg(feature = "test-util")]
    pub fn lose_everything(&self) {
        let mut tables = self.tables();
        let (last_epoch, generation) = (tables.last_epoch, tables.generation + 1);
        *tables = Tables { last_epoch, generation, ..Tables::default() };
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic while it was held left whole records behind: each change is one insert.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables();
        f.debug_struct("MemoryStore")
            .field("sessions", &tables.sessions.len())
            .field("users", &tables.users.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn put(
        &self,
        record: &SessionRecord,
        expected: Option<&SessionRecord>,
    ) -> Result<Written, StoreError> {
        let mut tables = self.tables();
        let there = tables.sessions.get(&record.id);
        let mut record = record.clone();
        match (there, expected) {
            (None, None) => {}
            (None, Some(_)) => return Ok(Written::Missing),
            (Some(there), Some(expected)) if there.is_version(expected) => {
                record.keep_beside(there);
            }
            (Some(there), _) => return Ok(Written::Conflict(there.clone())),
        }
        tables.put(record);
        Ok(Written::Done)
    }

    async fn load(&self, session: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
        Ok(self.tables().sessions.get(session).map(|record| (**record).clone()))
    }

    async fn delete(&self, record: &SessionRecord) -> Result<Written, StoreError> {
        let mut tables = self.tables();
        let Some(there) = tables.sessions.get(&record.id) else {
            return Ok(Written::Missing);
        };
        if !there.is_version(record) {
            return Ok(Written::Conflict(there.clone()));
        }
        tables.remove(&record.id);
        Ok(Written::Done)
    }

    async fn join(
        &self,
        user: &UserId,
        session: &SessionId,
        limit: usize,
    ) -> Result<Joined, StoreError> {
        Ok(self.tables().change_user(user, |user| {
            let done = Joined::Done(user.connection.as_ref().map(|there| there.id.clone()));
            if user.memberships.iter().any(|membership| membership.session == *session) {
                return done;
            }
            if user.memberships.len() >= limit {
                return Joined::Full(user.memberships.clone());
            }
            let since = self.clock.now();
            user.memberships.push(Membership { session: session.clone(), since });
            done
        }))
    }

    async fn leave(
        &self,
        user: &UserId,
        session: &SessionId,
        since: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let left = |known: &Membership| {
            known.session == *session && since.is_none_or(|since| known.since == since)
        };
        self.tables().change_user(user, |user| user.memberships.retain(|known| !left(known)));
        Ok(())
    }

    async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        accepted: Accepted,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError> {
        let now = self.clock.now();
        let mut tables = self.tables();
        let known = tables.users.get(user);
        let revocation = known.and_then(|user| user.revocation);
        if revocation.is_some_and(|revocation| accepted.issued_at < revocation.before) {
            return Ok(Connect::Revoked);
        }
        let there = known.and_then(|user| user.connection.as_ref());
        if let Some(there) = there.filter(|there| there.id != *connection)
            && !replace.allows(accepted, &there.id, there.accepted, now)
        {
            return Ok(Connect::Taken(there.id.clone()));
        }
        let epoch = tables.last_epoch + 1;
        let connected = tables.change_user(user, |user| {
            let there = match user.connection.take() {
                Some(there) if there.id == *connection => {
                    UserConnection { accepted: accepted.known().unwrap_or(there.accepted), ..there }
                }
                replaced => UserConnection {
                    id: connection.clone(),
                    epoch,
                    accepted: accepted.earliest,
                    previous: replaced.map(|there| there.id),
                },
            };
            let there = user.connection.insert(there);
            Connected {
                epoch: there.epoch,
                previous: there.previous.clone(),
                memberships: user.memberships.clone(),
            }
        });
        tables.last_epoch = tables.last_epoch.max(connected.epoch);
        Ok(Connect::Done(connected))
    }

    async fn disconnect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<bool, StoreError> {
        Ok(self.tables().change_user(user, |user| {
            user.connection.take_if(|there| there.id == *connection).is_some()
        }))
    }

    async fn revoke(
        &self,
        user: &UserId,
        issued_before: Timestamp,
        keep: Duration,
    ) -> Result<Option<ConnectionId>, StoreError> {
        let now = self.clock.now();
        let until = now.after(keep);
        let mut tables = self.tables();
        let (before, connection) = tables.change_user(user, |user| {
            let there = user.revocation;
            user.revocation = Some(Revocation {
                before: there.map_or(issued_before, |there| there.before.max(issued_before)),
                until: there.map_or(until, |there| there.until.max(until)),
            });
            (there, user.connection.as_ref().map(|there| there.id.clone()))
        });
        if let Some(before) = before {
            tables.revocations.remove(&(before.until, user.clone()));
        }
        let until = before.map_or(until, |before| before.until.max(until));
        tables.revocations.insert((until, user.clone()));
        Ok(connection)
    }

    async fn user(&self, user: &UserId) -> Result<UserRecord, StoreError> {
        let tables = self.tables();
        Ok(tables.users.get(user).map_or_else(UserRecord::default, |user| UserRecord {
            connection: user.connection.as_ref().map(|there| there.id.clone()),
            memberships: user.memberships.clone(),
            revoked_before: user.revocation.map(|revocation| revocation.before),
        }))
    }

    async fn record_heartbeats(
        &self,
        heartbeats: &[Heartbeat],
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let mut doubtful = Vec::new();
        for some in heartbeats.chunks(HEARTBEATS_AT_ONCE) {
            doubtful.extend(self.tables().record_heartbeats(some));
            yield_now().await;
        }
        Ok(doubtful)
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<SessionRecord>, StoreError> {
        let now = self.clock.now();
        let tables = self.tables();
        let due = tables.deadlines.iter().take_while(|(deadline, ..)| *deadline <= now).take(limit);
        let records = due.filter_map(|(.., session)| tables.sessions.get(session));
        Ok(records.map(|record| (**record).clone()).collect())
    }

    async fn renew_lease(
        &self,
        node: &NodeId,
        lease: Duration,
        counts: Counts,
        others: &[NodeId],
    ) -> Result<Lease, StoreError> {
        let now = self.clock.now();
        let mut tables = self.tables();
        tables.end_revocations(now);
        for other in others {
            let first = Held { until: now.after(lease), counts: Counts::default() };
            tables.leases.entry(other.clone()).or_insert(first);
        }
        let renewed = Held { until: now.after(lease), counts };
        let before = tables.leases.insert(node.clone(), renewed);
        let lost = tables.leases.iter().filter(|(_, held)| held.until <= now);
        Ok(Lease {
            held: before.is_some_and(|held| held.until > now),
            now,
            generation: tables.generation,
            lost: lost.map(|(node, _)| node.clone()).collect(),
        })
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let now = self.clock.now();
        let tables = self.tables();
        let alive = tables.leases.values().filter(|held| held.until > now);
        Ok(alive.fold(Counts::default(), |sum, held| sum + held.counts))
    }

    async fn attached_to(
        &self,
        node: &NodeId,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let tables = self.tables();
        let on_node = |record: &&SessionRecord| {
            record.participants.iter().any(|p| p.connection().is_some_and(|c| c.node() == node))
        };
        let records = tables.sessions.values().map(|record| &**record);
        Ok(records.filter(on_node).take(limit).cloned().collect())
    }

    async fn forget_node(&self, node: &NodeId) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.leases.remove(node);
        tables.users.retain(|_, user| {
            user.connection.take_if(|there| there.id.node() == node);
            !user.is_unknown()
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn tables_that_were_large_give_their_room_back() {
        let store = MemoryStore::new();
        let names: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
        for name in &names {
            let (session, user) = (SessionId::new(name).unwrap(), UserId::new(name).unwrap());
            let _ = store.join(&user, &session, 1).await.unwrap();
            let other = UserId::new("other").unwrap();
            let until = Timestamp::default();
            let record = SessionRecord::open(session, 1, user, other, until).unwrap();
            assert_eq!(store.put(&record, None).await.unwrap(), Written::Done);
        }
        loop {
            let overdue = store.overdue(512).await.unwrap();
            if overdue.is_empty() {
                break;
            }
            for record in overdue {
                assert_eq!(store.delete(&record).await.unwrap(), Written::Done);
                store.leave(&record.participants[0].user, &record.id, None).await.unwrap();
            }
        }
        let tables = store.tables();
        let room = [tables.sessions.capacity(), tables.users.capacity()];
        assert!(room.iter().all(|room| *room <= SMALL), "{room:?}");
    }

    #[tokio::test]
    async fn a_large_batch_is_recorded_whole_and_lets_others_in_between() {
        let (store, node) = (MemoryStore::new(), NodeId::generate(None).unwrap());
        let heartbeats: Vec<_> = (0..2 * HEARTBEATS_AT_ONCE as u64 + 1)
            .map(|number| Heartbeat {
                user: UserId::new(&format!("user-{number}")).unwrap(),
                connection: ConnectionId::new(node.clone(), number),
                at: Timestamp::from_millis(number),
                places: Vec::new(),
            })
            .collect();
        let mut recording = store.record_heartbeats(&heartbeats);
        assert!(poll!(&mut recording).is_pending());
        assert_eq!(store.user(&heartbeats[0].user).await.unwrap().connection, None);
        // The store knows none of them.
        let all = heartbeats.iter().map(|heartbeat| heartbeat.connection.clone());
        assert_eq!(recording.await.unwrap(), all.collect::<Vec<_>>());
    }
}
