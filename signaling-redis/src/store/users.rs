//! Users: which connection is theirs, and which sessions they are members of.

use std::time::Duration;

use fred::{bytes::Bytes, types::Value};
use signaling_core::{
    id::{ConnectionId, SessionId, UserId},
    store::{Accepted, Connect, Connected, Joined, Membership, Replace, StoreError, UserRecord},
    time::Timestamp,
};

use super::{Outcome, RedisStore, corrupt, millis};
use crate::read::{self, Fields, Read, Unreadable};

/// How often a user is connected again in the place of a connection that cannot be read.
const CONNECT_ROUNDS: usize = 8;
/// What the fields of memberships begin with.
const SESSION: &str = "session:";
/// How long the number of a user's last connection is remembered when there is nothing else to know. New
/// numbers come from the server's clock, so it has to outlive only a step back of that.
const IDLE_LIFETIME: Duration = Duration::from_secs(30);

/// What the script that connects a user did.
enum Tried {
    /// The user's fields, with the connection in them.
    Done(Fields),
    /// What is there may not be replaced, as it is written there.
    Taken(Bytes),
    Revoked,
}

#[derive(Debug, thiserror::Error)]
#[error("the number of a user's connection is missing or none")]
struct NoEpoch;

/// The memberships among the fields of a user. One since an unreadable time is as old as can be.
fn memberships(fields: &Fields) -> Read<Membership> {
    let mut read = Read::fields(fields.iter(), |name, since| {
        let session = read::exact(name.strip_prefix(SESSION.as_bytes())?);
        let since = Timestamp::from_millis(read::number(since).unwrap_or_default());
        Some(session.map(|session| Membership { session, since }).ok_or(Unreadable))
    });
    read.items.sort_by(|a, b| (a.since, &a.session).cmp(&(b.since, &b.session)));
    read
}

/// The connection in a field; none where it is empty, missing or unreadable.
fn connection(fields: &Fields, name: &str) -> Option<ConnectionId> {
    read::exact(fields.raw(name)?)
}

impl RedisStore {
    pub(super) async fn load_user(&self, user: &UserId) -> Result<UserRecord, StoreError> {
        let key = self.shared.keys.user(user);
        let fields = self.hash(&key).await?;
        let memberships = self.readable(&key, memberships(&fields)).await;
        let mut known = UserRecord {
            connection: connection(&fields, "connection"),
            memberships,
            revoked_before: fields
                .raw("revokedBefore")
                .and_then(|at| read::number(at))
                .map(Timestamp::from_millis),
        };
        let unreadable = fields.raw("connection").filter(|_| known.connection.is_none());
        if let Some(unreadable) = unreadable {
            known.connection = self.find_connection(user, unreadable, &known.memberships).await?;
        }
        Ok(known)
    }

    /// Finds by its sessions on which connection a user is whose own record has an unreadable one.
    async fn find_connection(
        &self,
        user: &UserId,
        unreadable: &Bytes,
        memberships: &[Membership],
    ) -> Result<Option<ConnectionId>, StoreError> {
        self.shared.quarantine.report(
            &self.shared.keys.user(user),
            Some(b"connection"),
            &Unreadable,
        );
        for Membership { session, .. } in memberships {
            let Some(record) = self.load_readable(session).await? else { continue };
            let role = record.role_of(user);
            let attached = role.and_then(|role| record.participant(role).connection());
            if let Some(attached) = attached {
                self.hold(attached, user).await?;
                let there = Value::from(unreadable.clone());
                return match self.try_connect_user(user, attached, Accepted::UNKNOWN, there).await?
                {
                    Tried::Done(_) => Ok(Some(attached.clone())),
                    Tried::Taken(there) => Ok(read::exact(&there)),
                    // Not with `Accepted::UNKNOWN`.
                    Tried::Revoked => Ok(None),
                };
            }
        }
        Ok(None)
    }

    pub(super) async fn connect_user(
        &self,
        user: &UserId,
        connected: &ConnectionId,
        accepted: Accepted,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError> {
        // No connection is written like the first or the last.
        let mut replace = match replace {
            Replace::Older => Value::from_static_str("older"),
            Replace::Only(there) => there.to_string().into(),
            Replace::Nothing => Value::from_static_str("nothing"),
        };
        let key = self.shared.keys.user(user);
        let mut accepted = accepted;
        for _ in 0..CONNECT_ROUNDS {
            match self.try_connect_user(user, connected, accepted, replace).await? {
                Tried::Done(fields) => {
                    let epoch = fields.raw("epoch").and_then(|epoch| read::number(epoch));
                    return Ok(Connect::Done(Connected {
                        epoch: epoch.ok_or_else(|| corrupt(NoEpoch))?,
                        previous: connection(&fields, "replaced"),
                        memberships: self.readable(&key, memberships(&fields)).await,
                    }));
                }
                Tried::Revoked => return Ok(Connect::Revoked),
                Tried::Taken(there) => match read::exact(&there) {
                    Some(there) => return Ok(Connect::Taken(there)),
                    // What is no connection gives way.
                    None => {
                        self.shared.quarantine.report(&key, Some(b"connection"), &Unreadable);
                        replace = there.into();
                        accepted.latest = Accepted::UNKNOWN.latest;
                    }
                },
            }
        }
        Err(corrupt(Unreadable))
    }

    async fn try_connect_user(
        &self,
        user: &UserId,
        connected: &ConnectionId,
        accepted: Accepted,
        replace: Value,
    ) -> Result<Tried, StoreError> {
        let number = |at: Timestamp| Value::from(at.as_millis().to_string());
        let args = vec![
            connected.to_string().into(),
            self.retention(),
            replace,
            number(accepted.earliest),
            number(accepted.latest),
            number(accepted.issued_at),
        ];
        let key = vec![self.shared.keys.user(user)];
        let done = self.run(&self.shared.scripts.connect_user, key, args).await?;
        match (&done, done.as_bytes()) {
            (Value::Integer(_), _) => Ok(Tried::Revoked),
            (_, Some(there)) => Ok(Tried::Taken(Bytes::copy_from_slice(there))),
            (_, None) => done.convert().map(Tried::Done).map_err(corrupt),
        }
    }

    pub(super) async fn revoke_user(
        &self,
        user: &UserId,
        issued_before: Timestamp,
        keep: Duration,
    ) -> Result<Option<ConnectionId>, StoreError> {
        let script = &self.shared.scripts.revoke_user;
        let args = vec![issued_before.as_millis().to_string().into(), millis(keep)];
        let done = self.run(script, vec![self.shared.keys.user(user)], args).await?;
        Ok(match done.as_bytes() {
            Some(there) if !there.is_empty() => match read::exact(there) {
                Some(there) => Some(there),
                None => self.load_user(user).await?.connection,
            },
            _ => None,
        })
    }

    pub(super) async fn disconnect_user(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<bool, StoreError> {
        let script = &self.shared.scripts.disconnect_user;
        let args = vec![connection.to_string().into(), millis(IDLE_LIFETIME)];
        let done = self.run(script, vec![self.shared.keys.user(user)], args).await?;
        Ok(matches!(Outcome::of(done)?, Outcome::Done))
    }

    pub(super) async fn join_user(
        &self,
        user: &UserId,
        session: &SessionId,
        limit: usize,
    ) -> Result<Joined, StoreError> {
        let script = &self.shared.scripts.join_user;
        let args =
            vec![format!("{SESSION}{session}").into(), limit.to_string().into(), self.retention()];
        let key = self.shared.keys.user(user);
        let done = self.run(script, vec![key.clone()], args).await?;
        if let Some(there) = done.as_bytes() {
            return Ok(Joined::Done(match read::exact(there) {
                None if !there.is_empty() => self.load_user(user).await?.connection,
                there => there,
            }));
        }
        let fields: Fields = done.convert().map_err(corrupt)?;
        Ok(Joined::Full(self.readable(&key, memberships(&fields)).await))
    }

    pub(super) async fn leave_user(
        &self,
        user: &UserId,
        session: &SessionId,
        since: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let script = &self.shared.scripts.leave_user;
        let since = since.map(|since| since.as_millis().to_string()).unwrap_or_default();
        let args = vec![format!("{SESSION}{session}").into(), millis(IDLE_LIFETIME), since.into()];
        self.run(script, vec![self.shared.keys.user(user)], args).await.map(drop)
    }
}
