//! Asks for the ICE servers of a connection's client. Where one is already matched, that is no job
//! of its worker's: a leave or an end would wait behind it.

use std::{error::Error, sync::Arc};

use super::{hooks, mailbox::Mail, node::Node, registry::ConnectionHandle};

impl Node {
    /// Has the connection told of the servers, or that there are none now, within
    /// [`Config::ice_server_timeout`](crate::Config::ice_server_timeout).
    pub(super) async fn ask_for_ice_servers(&self, handle: &ConnectionHandle) {
        let Some(provider) = &self.ice_servers else {
            return;
        };
        let asked = async { provider.ice_servers(&handle.user, self.clock.now()).await };
        let answer = hooks::ask(self.config.ice_server_timeout, asked).await;
        let failed = match &answer {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error as &(dyn Error + 'static)),
            Err(error) => Some(error as _),
        };
        if let Some(error) = failed {
            self.warn("no ICE servers yet", error);
        }
        handle.mailbox.push(Mail::IceServers(answer.ok().and_then(Result::ok)));
    }

    /// The same while everything goes on. It ends with its timeout, or with the node.
    pub(super) fn renew_ice_servers(self: &Arc<Self>, handle: &Arc<ConnectionHandle>) {
        let (node, handle) = (self.clone(), handle.clone());
        tokio::spawn(async move {
            node.stopped.run_until_cancelled(node.ask_for_ice_servers(&handle)).await;
        });
    }
}
