//! Heartbeats, in batches: one short script for each session, however many of its participants are
//! in the batch, and a look at some of the users.

use std::collections::{BTreeMap, BTreeSet};

use fred::{
    clients::{Client, WithOptions},
    interfaces::HashesInterface,
    types::Value,
};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use signaling_core::{
    id::{ConnectionId, SessionId},
    session::Place,
    store::{Heartbeat, StoreError},
};

use super::{CONCURRENT, RedisStore, corrupt, failed};
use crate::record;

/// One heartbeat in so many lets what it touches live on. With a heartbeat every 10 s that is every
/// three minutes, and the chance that an hour passes without is one in ten thousand million.
const KEEP_ONE_IN: u32 = 16;
/// One heartbeat in so many looks whether the connection is still its user's. What a newer one took
/// over is found by every heartbeat: the sessions.
const LOOK_ONE_IN: u32 = 4;

/// Heartbeats in one script: its answer has a bit for each. More than two are in a batch only where
/// connections were replaced.
const MOST_AT_ONCE: usize = 32;

/// What a heartbeat says of one session.
type Beat<'a> = (&'a Heartbeat, &'a Place);

impl RedisStore {
    pub(super) async fn write_heartbeats(
        &self,
        heartbeats: &[Heartbeat],
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let mut sessions: BTreeMap<&SessionId, Vec<Beat<'_>>> = BTreeMap::new();
        for heartbeat in heartbeats {
            for place in &heartbeat.places {
                sessions.entry(&place.session).or_default().push((heartbeat, place));
            }
        }
        let mut writes: Vec<BoxFuture<'_, Result<Vec<ConnectionId>, StoreError>>> = Vec::new();
        writes.extend(heartbeats.iter().map(|heartbeat| self.beat_of_user(heartbeat).boxed()));
        for (session, beats) in &sessions {
            let parts = beats.chunks(MOST_AT_ONCE);
            writes.extend(parts.map(|beats| self.beats_of_session(session, beats).boxed()));
        }
        let written = stream::iter(writes).buffer_unordered(CONCURRENT);
        let doubtful: Vec<_> = written.try_collect().await?;
        Ok(doubtful.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// The connection, if another one is its user's.
    async fn beat_of_user(&self, heartbeat: &Heartbeat) -> Result<Vec<ConnectionId>, StoreError> {
        let Heartbeat { user, connection, .. } = heartbeat;
        let key = &self.shared.keys.user(user);
        let known = if one_in(KEEP_ONE_IN) {
            self.hold(connection, user).await?;
            let (link, script) = (&self.shared.link, &self.shared.scripts.keep_user);
            let args = vec![connection.to_string().into(), self.retention()];
            let kept = link.run(script, vec![key.clone()], args).await.map_err(failed)?;
            kept.as_u64() == Some(1)
        } else if heartbeat.places.is_empty() || one_in(LOOK_ONE_IN) {
            let get = |client: WithOptions<Client>| async move {
                client.hget::<Option<String>, _, _>(key, "connection").await
            };
            let there = self.shared.link.call(get).await.map_err(failed)?;
            there.is_some_and(|there| there == connection.to_string())
        } else {
            true
        };
        Ok((!known).then(|| connection.clone()).into_iter().collect())
    }

    /// The connections of which not all is as they believe.
    async fn beats_of_session(
        &self,
        session: &SessionId,
        beats: &[Beat<'_>],
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let (link, script) = (&self.shared.link, &self.shared.scripts.record_heartbeats);
        let keep = one_in(KEEP_ONE_IN);
        let mut args = vec![if keep { self.retention() } else { Value::from_static_str("") }];
        for (Heartbeat { connection, at, .. }, place) in beats {
            let names = record::names(place.role);
            args.extend([
                Value::from_static_str(names.ws),
                Value::from_static_str(names.last_heartbeat),
                connection.to_string().into(),
                at.as_millis().to_string().into(),
                place.opening.to_string().into(),
                place.revision.to_string().into(),
            ]);
        }
        let done = link.run(script, vec![self.shared.keys.session(session)], args).await;
        let wrong: u64 = done.map_err(failed)?.convert().map_err(corrupt)?;
        let doubtful = beats.iter().enumerate().filter(|(nth, _)| wrong >> nth & 1 == 1);
        Ok(doubtful.map(|(_, (heartbeat, _))| heartbeat.connection.clone()).collect())
    }
}

fn one_in(so_many: u32) -> bool {
    fastrand::u32(..so_many) == 0
}
