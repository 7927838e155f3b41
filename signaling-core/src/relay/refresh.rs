//! Validates the token of a `refresh`. That is no job of its connection's worker: a leave or an end would wait
//! behind it.

use std::{error::Error, sync::Arc};

use super::{background::caught, hooks, mailbox::Mail, node::Node, registry::ConnectionHandle};
use crate::{
    auth::{AuthError, Credentials},
    connection::Refresh,
    protocol::Secret,
};

impl Node {
    /// Validates `token` in a separate task, within [`Config::hook_timeout`](crate::Config::hook_timeout), and sends
    /// the result to the connection. The task ends with the node.
    pub(super) fn refresh(self: &Arc<Self>, handle: &Arc<ConnectionHandle>, token: Secret<'_>) {
        let credentials = Credentials::bearer(token.reveal());
        let (node, handle) = (self.clone(), handle.clone());
        tokio::spawn(async move {
            let validated = caught(node.validate(&handle, &credentials));
            if let Some(validated) = node.stopped.run_until_cancelled(validated).await {
                // Also after a panic, or the connection would wait for its answer.
                let refresh = validated.unwrap_or(Refresh::Unavailable);
                handle.mailbox.push(Mail::Refreshed(refresh));
            }
        });
    }

    async fn validate(&self, handle: &ConnectionHandle, credentials: &Credentials) -> Refresh {
        let asked = async { self.authenticator.authenticate(credentials).await };
        let identity = match hooks::ask(self.config.hook_timeout, asked).await {
            Ok(Ok(identity)) => identity,
            Ok(Err(error)) => {
                self.credentials_refused(&error);
                return match error {
                    AuthError::Unavailable(_) => Refresh::Unavailable,
                    AuthError::Missing | AuthError::Expired | AuthError::Invalid(_) => {
                        Refresh::Invalid
                    }
                };
            }
            Err(error) => {
                self.warn(
                    "a client's new token was not validated",
                    &error as &(dyn Error + 'static),
                );
                return Refresh::Unavailable;
            }
        };
        if identity.user != handle.user {
            tracing::debug!(connection = %handle.id, "new token refused: it is of another user");
            return Refresh::Invalid;
        }
        match self.store.user(&handle.user).await {
            Ok(known) if known.revokes(identity.issued_at.unwrap_or_default()) => Refresh::Invalid,
            Ok(_) => Refresh::Valid(self.token_times(&identity)),
            Err(error) => {
                self.health.note(&error);
                Refresh::Unavailable
            }
        }
    }
}
