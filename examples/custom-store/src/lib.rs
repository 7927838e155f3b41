//! A session store on SQLite: the nodes of one machine, which keep their sessions when it restarts.
//!
//! ```text
//! cargo run -p custom-store
//! ```
//!
//! A store compares, writes and finds; the rules of a session are not its business. Each call is
//! one transaction that has the file for itself from its start (`BEGIN IMMEDIATE`), so that nothing
//! changes between a look and the write that depends on it, also where several processes share the
//! file. The store's time is the machine's, which all these processes have. `tests/suite.rs` shows
//! that it does all that a store must.

mod database;

use std::{ops::Add, path::Path, time::Duration};

use async_trait::async_trait;
use rusqlite::{Params, Row, params};
use signaling_core::{id::*, session::SessionRecord, store::*, time::*};

use database::{Database, Db, Read, rows, text};

type Answer<T> = Result<T, StoreError>;

/// Sessions, users and nodes in one file. It needs tokio's multi-threaded runtime.
#[derive(Debug)]
pub struct SqliteStore(Database);

impl SqliteStore {
    /// The store in the file at `path`, which is made where there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or is something else.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        Database::open(path).map(Self)
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn put(
        &self,
        record: &SessionRecord,
        expected: Option<&SessionRecord>,
    ) -> Answer<Written> {
        self.0.call(|db| match (load(db, &record.id)?, expected) {
            (None, None) => put(db, record, None).map(|()| Written::Done),
            (Some(there), Some(expected)) if there.is_version(expected) => {
                put(db, record, Some(&there)).map(|()| Written::Done)
            }
            (None, Some(_)) => Ok(Written::Missing),
            (Some(there), _) => Ok(Written::Conflict(Box::new(there))),
        })
    }

    async fn load(&self, session: &SessionId) -> Answer<Option<SessionRecord>> {
        self.0.call(|db| load(db, session))
    }

    async fn delete(&self, record: &SessionRecord) -> Answer<Written> {
        let delete = "DELETE FROM session WHERE id = ?";
        self.0.call(|db| match load(db, &record.id)? {
            None => Ok(Written::Missing),
            Some(there) if there.is_version(record) => {
                Ok(db.execute(delete, [there.id.as_str()]).map(|_| Written::Done)?)
            }
            Some(there) => Ok(Written::Conflict(Box::new(there))),
        })
    }

    async fn join(&self, user: &UserId, session: &SessionId, limit: usize) -> Answer<Joined> {
        self.0.call(|db| {
            let there = memberships(db, user)?;
            let known = there.iter().any(|membership| membership.session == *session);
            if !known && there.len() >= limit {
                return Ok(Joined::Full(there));
            }
            let row = params![user.as_str(), session.as_str(), now().as_millis()];
            db.execute("INSERT OR IGNORE INTO membership VALUES (?, ?, ?)", row)?;
            Ok(Joined::Done(connection(db, user)?.map(|there| there.id)))
        })
    }

    async fn leave(
        &self,
        user: &UserId,
        session: &SessionId,
        since: Option<Timestamp>,
    ) -> Answer<()> {
        let delete =
            "DELETE FROM membership WHERE user = ? AND session = ? AND since = ifnull(?, since)";
        let row = params![user.as_str(), session.as_str(), since.map(|since| since.as_millis())];
        self.0.call(|db| Ok(db.execute(delete, row).map(drop)?))
    }

    async fn connect(
        &self,
        user: &UserId,
        id: &ConnectionId,
        accepted: Accepted,
        replace: Replace<'_>,
    ) -> Answer<Connect> {
        let put =
            "REPLACE INTO connection (user, id, node, accepted, previous) VALUES (?, ?, ?, ?, ?)";
        self.0.call(|db| {
            if revoked_before(db, user)?.is_some_and(|before| accepted.issued_at < before) {
                return Ok(Connect::Revoked);
            }
            let there = connection(db, user)?;
            if there.as_ref().is_none_or(|there| there.id != *id) {
                let allows = |it: &Known| replace.allows(accepted, &it.id, it.accepted, now());
                if let Some(there) = there.as_ref().filter(|there| !allows(there)) {
                    return Ok(Connect::Taken(there.id.clone()));
                }
                let (node, earliest) = (id.node().as_str(), accepted.earliest.as_millis());
                let previous = there.map(|there| there.id.to_string());
                let row = params![user.as_str(), id.to_string(), node, earliest, previous];
                db.execute(put, row)?;
            } else if let Some(earliest) = accepted.known() {
                let known = "UPDATE connection SET accepted = ? WHERE user = ?";
                db.execute(known, params![earliest.as_millis(), user.as_str()])?;
            }
            let Known { epoch, previous, .. } =
                connection(db, user)?.ok_or("it was just written")?;
            let memberships = memberships(db, user)?;
            Ok(Connect::Done(Connected { epoch, previous, memberships }))
        })
    }

    async fn disconnect(&self, user: &UserId, id: &ConnectionId) -> Answer<bool> {
        let delete = "DELETE FROM connection WHERE user = ? AND id = ?";
        self.0.call(|db| Ok(db.execute(delete, [user.as_str(), &id.to_string()])? > 0))
    }

    async fn user(&self, user: &UserId) -> Answer<UserRecord> {
        self.0.call(|db| {
            let connection = connection(db, user)?.map(|there| there.id);
            let (memberships, revoked_before) = (memberships(db, user)?, revoked_before(db, user)?);
            Ok(UserRecord { connection, memberships, revoked_before })
        })
    }

    async fn revoke(
        &self,
        user: &UserId,
        issued_before: Timestamp,
        keep: Duration,
    ) -> Answer<Option<ConnectionId>> {
        let put = "INSERT INTO revocation VALUES (?, ?, ?) ON CONFLICT (user) DO UPDATE SET \
                   issued_before = max(issued_before, excluded.issued_before), \
                   until = max(until, excluded.until)";
        self.0.call(|db| {
            let (now, before) = (now(), issued_before.as_millis());
            db.execute("DELETE FROM revocation WHERE until <= ?", [now.as_millis()])?;
            db.execute(put, params![user.as_str(), before, now.after(keep).as_millis()])?;
            Ok(connection(db, user)?.map(|there| there.id))
        })
    }

    async fn record_heartbeats(&self, heartbeats: &[Heartbeat]) -> Answer<Vec<ConnectionId>> {
        self.0.call(|db| {
            let mut doubtful = Vec::new();
            for Heartbeat { user, connection: id, at, places } in heartbeats {
                let mut as_believed = connection(db, user)?.is_some_and(|there| there.id == *id);
                for place in places {
                    let there = load(db, &place.session)?.filter(|r| r.opening == place.opening);
                    let attached = there.filter(|r| r.attached_as(id) == Some(place.role));
                    as_believed &= attached.as_ref().is_some_and(|r| r.revision == place.revision);
                    let Some(mut there) = attached else { continue };
                    let last = &mut there.participants[place.role as usize].last_heartbeat;
                    *last = (*last).max(Some(*at));
                    put(db, &there, None)?;
                }
                doubtful.extend((!as_believed).then(|| id.clone()));
            }
            Ok(doubtful)
        })
    }

    async fn overdue(&self, limit: usize) -> Answer<Vec<SessionRecord>> {
        let which = "WHERE deadline <= ? ORDER BY deadline LIMIT ?";
        self.0.call(|db| records(db, which, params![now().as_millis(), limit]))
    }

    async fn renew_lease(
        &self,
        node: &NodeId,
        lease: Duration,
        has: Counts,
        others: &[NodeId],
    ) -> Answer<Lease> {
        let lost = "SELECT node FROM lease WHERE until <= ?";
        let held = "SELECT 1 FROM lease WHERE node = ? AND until > ?";
        let put = "REPLACE INTO lease VALUES (?, ?, ?, ?)";
        self.0.call(|db| {
            let now = now();
            let held = db.prepare(held)?.exists(params![node.as_str(), now.as_millis()])?;
            let until = now.after(lease).as_millis();
            db.execute(put, params![node.as_str(), until, has.connections, has.sessions])?;
            for other in others {
                let first = "INSERT OR IGNORE INTO lease VALUES (?, ?, 0, 0)";
                db.execute(first, params![other.as_str(), until])?;
            }
            let lost = rows(db, lost, [now.as_millis()], |row| Ok(text(row)?.parse()?))?;
            // SQLite does not lose what it has written: one generation for ever.
            Ok(Lease { held, now, generation: 0, lost })
        })
    }

    async fn counts(&self) -> Answer<Counts> {
        let alive = "SELECT connections, sessions FROM lease WHERE until > ?";
        let read = |row: &Row<'_>| Ok(Counts { connections: row.get(0)?, sessions: row.get(1)? });
        self.0.call(|db| {
            let alive = rows(db, alive, [now().as_millis()], read)?;
            Ok(alive.into_iter().fold(Counts::default(), Add::add))
        })
    }

    async fn attached_to(&self, node: &NodeId, limit: usize) -> Answer<Vec<SessionRecord>> {
        let which = "WHERE node1 = ?1 OR node2 = ?1 LIMIT ?2";
        self.0.call(|db| records(db, which, params![node.as_str(), limit]))
    }

    async fn forget_node(&self, node: &NodeId) -> Answer<()> {
        self.0.call(|db| {
            db.execute("DELETE FROM lease WHERE node = ?", [node.as_str()])?;
            db.execute("DELETE FROM connection WHERE node = ?", [node.as_str()])?;
            Ok(())
        })
    }
}

fn now() -> Timestamp {
    SystemClock.now()
}

/// Writes `record` in the place of `there`, of which it keeps what is not of a revision.
fn put(db: &Db<'_>, record: &SessionRecord, there: Option<&SessionRecord>) -> Read<()> {
    let mut record = record.clone();
    there.inspect(|there| record.keep_beside(there));
    let node = |n: usize| record.participants[n].connection().map(|it| it.node().as_str());
    let (json, deadline) = (serde_json::to_string(&record)?, record.deadline());
    let due = deadline.map(Timestamp::as_millis);
    let row = params![record.id.as_str(), json, due, node(0), node(1)];
    Ok(db.execute("REPLACE INTO session VALUES (?, ?, ?, ?, ?)", row).map(drop)?)
}

fn load(db: &Db<'_>, session: &SessionId) -> Read<Option<SessionRecord>> {
    Ok(records(db, "WHERE id = ?", [session.as_str()])?.pop())
}

fn records(db: &Db<'_>, which: &str, params: impl Params) -> Read<Vec<SessionRecord>> {
    let select = format!("SELECT record FROM session {which}");
    rows(db, &select, params, |row| Ok(serde_json::from_str(text(row)?)?))
}

fn memberships(db: &Db<'_>, user: &UserId) -> Read<Vec<Membership>> {
    let select = "SELECT session, since FROM membership WHERE user = ?";
    rows(db, select, [user.as_str()], |row| {
        Ok(Membership { session: text(row)?.parse()?, since: Timestamp::from_millis(row.get(1)?) })
    })
}

fn revoked_before(db: &Db<'_>, user: &UserId) -> Read<Option<Timestamp>> {
    let select = "SELECT issued_before FROM revocation WHERE user = ? AND until > ?";
    let before = |row: &Row<'_>| Ok(Timestamp::from_millis(row.get(0)?));
    Ok(rows(db, select, params![user.as_str(), now().as_millis()], before)?.pop())
}

/// A user's connection.
struct Known {
    id: ConnectionId,
    epoch: u64,
    accepted: Timestamp,
    previous: Option<ConnectionId>,
}

fn connection(db: &Db<'_>, user: &UserId) -> Read<Option<Known>> {
    let select = "SELECT id, epoch, accepted, previous FROM connection WHERE user = ?";
    let known = rows(db, select, [user.as_str()], |row| {
        Ok(Known {
            id: text(row)?.parse()?,
            epoch: row.get(1)?,
            accepted: Timestamp::from_millis(row.get(2)?),
            previous: row.get::<_, Option<String>>(3)?.map(|id| id.parse()).transpose()?,
        })
    });
    Ok(known?.pop())
}
