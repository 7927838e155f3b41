use crate::{
    id::{SessionId, UserId},
    session::Metadata,
};

/// A session that is to be opened: for whom, under which id, and what the host wants to know of it
/// again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    pub(super) initiator: UserId,
    pub(super) responder: UserId,
    pub(super) id: Option<SessionId>,
    pub(super) metadata: Option<Metadata>,
}

impl NewSession {
    /// For two users who were matched; `initiator` enrolled first and makes the offer. Under a new
    /// id, and without metadata.
    #[must_use]
    pub fn between(initiator: &UserId, responder: &UserId) -> Self {
        let (initiator, responder) = (initiator.clone(), responder.clone());
        Self { initiator, responder, id: None, metadata: None }
    }

    /// Under an id of the host's own.
    #[must_use]
    pub fn id(mut self, id: &SessionId) -> Self {
        self.id = Some(id.clone());
        self
    }

    /// With something for the host to find again in
    /// [`SessionRecord::metadata`](crate::session::SessionRecord::metadata) and in events. Clients
    /// never see it.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(metadata);
        self
    }
}
