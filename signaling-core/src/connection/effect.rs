use std::sync::Arc;

use super::DisconnectReason;
use crate::{
    frame::Text, id::ConnectionId, notice::Notice, protocol::PartnerReason, session::SessionRecord,
};

/// What is to be done for a connection.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Send a message to the client.
    Send(Text),
    /// Ping the client.
    Ping,
    /// Hand a notice to another connection.
    Notify { to: ConnectionId, notice: Notice },
    /// Have the user's heartbeat written.
    Heartbeat,
    /// Have the connection attached to a session.
    Attach(Arc<SessionRecord>),
    /// Have the connection attached anew to a session to which it is attached.
    Renew(Arc<SessionRecord>),
    /// Have a session ended.
    Leave(Arc<SessionRecord>),
    /// Have a session ended that has ended before and was put back; the partner is told this.
    EndAgain(Arc<SessionRecord>, PartnerReason),
    /// Have what is known of the user and its sessions looked up.
    LookUp,
    /// Close; nothing follows.
    Close(DisconnectReason),
}
