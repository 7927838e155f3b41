//! Revokes tokens: writes it to the store, tells the user's connection, and writes it again if the store loses
//! it.

use std::sync::Arc;

use super::{background::caught, backoff::Backoff, node::Node, revocations::Revocation};
use crate::{id::UserId, notice::Notice, store::StoreError, time::Timestamp};

impl Node {
    /// See [`Relay::revoke`](super::Relay::revoke).
    pub(super) async fn revoke(
        self: &Arc<Self>,
        user: &UserId,
        issued_before: Timestamp,
    ) -> Result<(), StoreError> {
        let (node, user) = (self.clone(), user.clone());
        // In a task, so that a caller that goes away does not keep the connection from being told.
        let revoked = self.tasks.spawn(async move {
            let now = node.now();
            let until = now.after(node.config.revocation_lifetime);
            let revocation = Revocation { issued_before, until };
            // First, so that a store that loses it right after it was written has it again.
            node.revocations.add(&user, revocation, now);
            node.write_revocation(&user, revocation).await?;
            tracing::info!(%user, issued_before_ms = issued_before.as_millis(), "tokens revoked");
            Ok(())
        });
        revoked.await.unwrap_or_else(|panicked| Err(StoreError::unavailable(panicked)))
    }

    async fn write_revocation(
        self: &Arc<Self>,
        user: &UserId,
        Revocation { issued_before, until }: Revocation,
    ) -> Result<(), StoreError> {
        let keep = until.since(self.now());
        let connection = self.store.revoke(user, issued_before, keep).await?;
        if let Some(connection) = connection {
            self.notify(&connection, Notice::Revoked { issued_before });
        }
        Ok(())
    }

    /// Writes the revocations of this node to a store that has lost records, until it has them all or the node
    /// stops.
    pub(super) async fn restore_revocations(self: Arc<Self>) {
        let (mut left, mut backoff) = (self.revocations.all(), Backoff::default());
        loop {
            let mut failed = Vec::new();
            for (user, revocation) in left {
                if revocation.until <= self.now() {
                    continue;
                }
                match caught(self.write_revocation(&user, revocation)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        self.health.note(&error);
                        failed.push((user, revocation));
                    }
                    Err(_) => failed.push((user, revocation)),
                }
            }
            if failed.is_empty() || !backoff.wait(&self.stopped).await {
                return;
            }
            left = failed;
        }
    }
}
