//! Users: which connection is theirs, and what they are enrolled in.

use std::time::Duration;

use fred::types::Value;
use signaling_core::{
    id::{ConnectionId, SessionId, UserId},
    store::{Connect, Connected, Enrolled, Enrolment, Replace, StoreError, UserRecord},
    time::Timestamp,
};

use super::{Outcome, RedisStore, corrupt, failed, millis};
use crate::record::Fields;

/// What the fields of enrolments begin with.
const SESSION: &str = "session:";
/// How long the number of a user's last connection is remembered when there is nothing else to know. New
/// numbers come from the server's clock, so it has to outlive only a step back of that.
const IDLE_LIFETIME: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
#[error("the number of a user's connection is missing or none")]
struct NoEpoch;

fn enrolments(fields: &Fields) -> Result<Vec<Enrolment>, StoreError> {
    let mut enrolments = Vec::new();
    for (name, since) in fields {
        if let Some(session) = name.strip_prefix(SESSION) {
            enrolments.push(Enrolment {
                session: SessionId::new(session).map_err(corrupt)?,
                since: Timestamp::from_millis(since.parse().map_err(corrupt)?),
            });
        }
    }
    enrolments.sort_by(|a, b| (a.since, &a.session).cmp(&(b.since, &b.session)));
    Ok(enrolments)
}

/// The connection in a field; none where it is empty or missing.
fn connection(fields: &Fields, name: &str) -> Result<Option<ConnectionId>, StoreError> {
    let text = fields.get(name).filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(corrupt)).transpose()
}

impl RedisStore {
    pub(super) async fn load_user(&self, user: &UserId) -> Result<UserRecord, StoreError> {
        let fields = self.hash(&self.shared.keys.user(user)).await?;
        Ok(UserRecord {
            connection: connection(&fields, "connection")?,
            enrolments: enrolments(&fields)?,
        })
    }

    pub(super) async fn connect_user(
        &self,
        user: &UserId,
        connected: &ConnectionId,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError> {
        let (link, script) = (&self.shared.link, &self.shared.scripts.connect_user);
        // No connection is written like the first or the last.
        let replace = match replace {
            Replace::Any => Value::from_static_str("any"),
            Replace::Only(there) => there.to_string().into(),
            Replace::Nothing => Value::from_static_str("nothing"),
        };
        let args = vec![connected.to_string().into(), self.retention(), replace];
        let done = link.run(script, vec![self.shared.keys.user(user)], args).await;
        let done = done.map_err(failed)?;
        if let Some(there) = done.as_str() {
            return Ok(Connect::Taken(there.parse().map_err(corrupt)?));
        }
        let fields: Fields = done.convert().map_err(corrupt)?;
        let epoch = fields.get("epoch").and_then(|epoch| epoch.parse().ok());
        Ok(Connect::Done(Connected {
            epoch: epoch.ok_or_else(|| corrupt(NoEpoch))?,
            previous: connection(&fields, "replaced")?,
            enrolments: enrolments(&fields)?,
        }))
    }

    pub(super) async fn disconnect_user(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<bool, StoreError> {
        let (link, script) = (&self.shared.link, &self.shared.scripts.disconnect_user);
        let args = vec![connection.to_string().into(), millis(IDLE_LIFETIME)];
        let done = link.run(script, vec![self.shared.keys.user(user)], args).await;
        Ok(matches!(Outcome::of(done.map_err(failed)?)?, Outcome::Done))
    }

    pub(super) async fn enrol_user(
        &self,
        user: &UserId,
        session: &SessionId,
        limit: usize,
    ) -> Result<Enrolled, StoreError> {
        let (link, script) = (&self.shared.link, &self.shared.scripts.enrol_user);
        let args =
            vec![format!("{SESSION}{session}").into(), limit.to_string().into(), self.retention()];
        let done = link.run(script, vec![self.shared.keys.user(user)], args).await;
        let done = done.map_err(failed)?;
        if let Some(there) = done.as_str() {
            let there = Some(there).filter(|there| !there.is_empty());
            return Ok(Enrolled::Done(there.map(|id| id.parse().map_err(corrupt)).transpose()?));
        }
        let fields: Fields = done.convert().map_err(corrupt)?;
        Ok(Enrolled::Full(enrolments(&fields)?))
    }

    pub(super) async fn withdraw_user(
        &self,
        user: &UserId,
        session: &SessionId,
    ) -> Result<(), StoreError> {
        let (link, script) = (&self.shared.link, &self.shared.scripts.withdraw_user);
        let args = vec![format!("{SESSION}{session}").into(), millis(IDLE_LIFETIME)];
        let done = link.run(script, vec![self.shared.keys.user(user)], args).await;
        done.map(drop).map_err(failed)
    }
}
