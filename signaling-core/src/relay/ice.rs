//! Asks for the ICE servers of a connection's client. Where one is already matched, that is no duty
//! of its steward's: a leave or an end would wait behind it.

use std::{error::Error, sync::Arc};

use tokio::time;

use super::{Node, local::Local, mailbox::Mail};

impl Node {
    /// Has the connection told of the servers, or that there are none now, within
    /// [`Config::ice_server_timeout`](crate::Config::ice_server_timeout).
    pub(super) async fn ask_for_ice_servers(&self, local: &Local) {
        let Some(provider) = &self.ice_servers else {
            return;
        };
        let answer = provider.ice_servers(&local.user, self.clock.now());
        let answer = match time::timeout(self.config.ice_server_timeout, answer).await {
            Ok(Ok(servers)) => Some(servers),
            Ok(Err(error)) => {
                let error = &error as &dyn Error;
                tracing::warn!(connection = %local.id, error, "no ICE servers yet");
                None
            }
            Err(_) => {
                tracing::warn!(connection = %local.id, "no ICE servers yet: they took too long");
                None
            }
        };
        local.mailbox.push(Mail::IceServers(answer));
    }

    /// The same while everything goes on. It ends with its timeout, or with the node.
    pub(super) fn renew_ice_servers(self: &Arc<Self>, local: &Arc<Local>) {
        let (node, local) = (self.clone(), local.clone());
        tokio::spawn(async move {
            node.stopped.run_until_cancelled(node.ask_for_ice_servers(&local)).await;
        });
    }
}
