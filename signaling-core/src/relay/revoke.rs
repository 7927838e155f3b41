//! Revocations of tokens: written to the store, told to the connection, and written again if the store loses
//! them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{background::caught, backoff::Backoff, node::Node};
use crate::{id::UserId, notice::Notice, store::StoreError, time::Timestamp};

/// Those that this node has written, until they end.
#[derive(Debug, Default)]
pub(super) struct Revocations(Mutex<BTreeMap<UserId, Revocation>>);

#[derive(Debug, Clone, Copy)]
struct Revocation {
    issued_before: Timestamp,
    /// By the store's clock.
    until: Timestamp,
}

impl Revocations {
    fn add(&self, user: &UserId, new: Revocation, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, revocation| revocation.until > now);
        let there = all.entry(user.clone()).or_insert(new);
        there.issued_before = there.issued_before.max(new.issued_before);
        there.until = there.until.max(new.until);
    }

    fn all(&self) -> Vec<(UserId, Revocation)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(user, revocation)| (user.clone(), *revocation)).collect()
    }
}

impl Node {
    /// See [`Relay::revoke`](super::Relay::revoke).
    pub(super) async fn revoke(
        self: &Arc<Self>,
        user: &UserId,
        issued_before: Timestamp,
    ) -> Result<(), StoreError> {
        let (keep, now) = (self.config.revocation_lifetime, self.now());
        let until = now.after(keep);
        let connection = self.store.revoke(user, issued_before, keep).await?;
        self.revocations.add(user, Revocation { issued_before, until }, now);
        tracing::info!(%user, issued_before_ms = issued_before.as_millis(), "tokens revoked");
        if let Some(connection) = connection {
            self.notify(&connection, Notice::Revoked { issued_before });
        }
        Ok(())
    }

    /// Writes the revocations of this node to a store that has lost records, until the store has them or the
    /// node stops.
    pub(super) async fn restore_revocations(self: Arc<Self>) {
        for (user, Revocation { issued_before, until }) in self.revocations.all() {
            let mut backoff = Backoff::default();
            loop {
                let keep = until.since(self.now());
                if keep.is_zero() {
                    break;
                }
                match caught(self.store.revoke(&user, issued_before, keep)).await {
                    Ok(Ok(connection)) => {
                        if let Some(connection) = connection {
                            self.notify(&connection, Notice::Revoked { issued_before });
                        }
                        break;
                    }
                    Ok(Err(error)) => self.health.note(&error),
                    Err(_) => {}
                }
                if !backoff.wait(&self.stopped).await {
                    return;
                }
            }
        }
    }
}
