//! Heartbeats, in batches: one short script for each session, however many of its participants are
//! in the batch, and a look at some of the users. They have a connection of their own, on which
//! nothing else waits behind them.

use std::collections::{BTreeMap, BTreeSet};

use fred::{
    bytes::Bytes,
    clients::{Client, WithOptions},
    interfaces::HashesInterface,
    types::Value,
};
use futures::{
    FutureExt,
    future::{BoxFuture, try_join_all},
};
use signaling_core::{
    id::{ConnectionId, SessionId},
    session::Place,
    store::{Heartbeat, StoreError},
};

use super::{RedisStore, corrupt, failed};
use crate::{Shared, link, record};

/// One heartbeat in so many lets what it touches live on. With a heartbeat every 10 s that is every
/// three minutes, and the chance that an hour passes without is one in ten thousand million.
const KEEP_ONE_IN: u32 = 16;
/// Commands that are sent together. The more there are, the fewer times the server reads for them.
const AT_ONCE: usize = 4096;

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
        for heartbeat in heartbeats {
            if one_in(KEEP_ONE_IN) {
                writes.push(self.keep_user(heartbeat).boxed());
            } else if heartbeat.places.is_empty() {
                writes.push(self.look_at_user(heartbeat).boxed());
            }
            // What a newer connection took over of any other is found by its sessions.
        }
        for (session, beats) in &sessions {
            let parts = beats.chunks(MOST_AT_ONCE);
            writes.extend(parts.map(|beats| self.beats_of_session(session, beats).boxed()));
        }
        let (mut writes, mut doubtful) = (writes.into_iter(), BTreeSet::new());
        while writes.len() > 0 {
            let done = try_join_all(writes.by_ref().take(AT_ONCE)).await?;
            doubtful.extend(done.into_iter().flatten());
        }
        Ok(doubtful.into_iter().collect())
    }

    /// Lets the user live on. The connection, if another one is its user's.
    async fn keep_user(&self, heartbeat: &Heartbeat) -> Result<Vec<ConnectionId>, StoreError> {
        let Heartbeat { user, connection, .. } = heartbeat;
        self.hold(connection, user).await?;
        let Shared { heartbeats, scripts, keys, .. } = &*self.shared;
        let args = vec![connection.to_string().into(), self.retention()];
        let key = vec![keys.user(user)];
        let keep = || heartbeats.run(&scripts.keep_user, key.clone(), args.clone());
        let known = self.mending(&key, keep).await?.as_u64() == Some(1);
        Ok((!known).then(|| connection.clone()).into_iter().collect())
    }

    /// The connection, if another one is its user's.
    async fn look_at_user(&self, heartbeat: &Heartbeat) -> Result<Vec<ConnectionId>, StoreError> {
        let Heartbeat { user, connection, .. } = heartbeat;
        let Shared { heartbeats, keys, .. } = &*self.shared;
        let key = &keys.user(user);
        let get = |client: WithOptions<Client>| async move {
            client.hget::<Option<Bytes>, _, _>(key, "connection").await
        };
        let there = self.mending(std::slice::from_ref(key), || heartbeats.call(get)).await?;
        let known = there.is_some_and(|there| there == connection.to_string());
        Ok((!known).then(|| connection.clone()).into_iter().collect())
    }

    /// The connections of which not all is as they believe.
    async fn beats_of_session(
        &self,
        session: &SessionId,
        beats: &[Beat<'_>],
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let Shared { heartbeats, scripts, keys, .. } = &*self.shared;
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
        let key = vec![keys.session(session)];
        let wrong: u64 = match heartbeats.run(&scripts.record_heartbeats, key, args).await {
            // Whoever looks the record up finds that it cannot be read.
            Err(error) if link::is_wrong_type(&error) => u64::MAX,
            done => done.map_err(failed)?.convert().map_err(corrupt)?,
        };
        let doubtful = beats.iter().enumerate().filter(|(nth, _)| wrong >> nth & 1 == 1);
        Ok(doubtful.map(|(_, (heartbeat, _))| heartbeat.connection.clone()).collect())
    }
}

fn one_in(so_many: u32) -> bool {
    fastrand::u32(..so_many) == 0
}
