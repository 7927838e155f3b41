use std::sync::Arc;

use crate::{
    frame::Text,
    id::ConnectionId,
    notice::Notice,
    protocol::{NegotiationId, Secret},
    reason::DisconnectReason,
    session::{Role, SessionRecord},
};

/// What is to be done for a connection.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Send a message to the client.
    Send(Text),
    /// Send `match-found`, in the words of
    /// [`Connection::match_found`](super::Connection::match_found).
    MatchFound(Arc<SessionRecord>, Role),
    /// Have somebody asked for the client's ICE servers, while everything goes on.
    AskForIceServers,
    /// Validate the token of a `refresh` in a separate task.
    Refresh(Secret<'static>),
    /// Ping the client.
    Ping,
    /// Look at the deadline again: it has moved earlier.
    SetAlarm,
    /// Hand a notice to another connection.
    Notify { to: ConnectionId, notice: Notice },
    /// Have the user's heartbeat written.
    Heartbeat,
    /// Have the connection attached to a session, to continue that negotiation if it can.
    Attach { record: Arc<SessionRecord>, continuing: Option<NegotiationId> },
    /// Have a new negotiation begun in a session to which the connection is attached.
    Renew(Arc<SessionRecord>),
    /// Have a session ended.
    Leave(Arc<SessionRecord>),
    /// Have a session ended that is known to have ended and was opened again by a connection that did
    /// not know.
    EndAgain(Arc<SessionRecord>),
    /// Tell the older connection of the same user that it is replaced.
    ReplaceOlder,
    /// Have what is known of the user and its sessions looked up.
    LookUp,
    /// Close; nothing follows.
    Close(DisconnectReason),
}
