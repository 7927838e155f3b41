//! Delivers notices to the connections of this node.
//!
//! A notice with a record in which an ended connection is attached shows that the record is stale: the
//! connection is then detached from it.

use std::sync::Arc;

use super::{
    jobs::{Claim, Job},
    mailbox::Mail,
    node::Node,
    registry::ConnectionHandle,
};
use crate::{
    id::{ConnectionId, UserId},
    notice::Notice,
    protocol::Dialect,
    session::SessionRecord,
};

impl Node {
    /// Delivers `notice` to a connection of this node.
    pub(super) fn deliver(self: &Arc<Self>, to: &ConnectionId, notice: Notice) {
        if let Some(handle) = self.registry.get(to.number()) {
            self.deliver_to(&handle, notice);
        } else if let Some(record) = notice.attaching(to) {
            self.detach_stale(to, record);
        } else if let Notice::Contested { user } = &notice {
            self.disconnect_stale(to, user);
        }
    }

    /// Delivers `notice` to a connection of this node, which may have ended since it was looked up.
    pub(super) fn deliver_to(self: &Arc<Self>, handle: &ConnectionHandle, notice: Notice) {
        let attaching = notice.attaching(&handle.id).cloned();
        let taken = handle.mailbox.offer(Mail::Notice(notice));
        if let Some(record) = attaching.filter(|_| !taken) {
            self.detach_stale(&handle.id, &record);
        }
    }

    /// Detaches `gone`, a connection of this node that has ended, from a session in whose `record` it is
    /// attached. A connection is registered before anything is written of it, so one that is not
    /// registered has ended.
    ///
    /// The connection's own worker does it, after its other jobs, so that nothing is written twice.
    fn detach_stale(self: &Arc<Self>, gone: &ConnectionId, record: &SessionRecord) {
        let Some(role) = record.attached_as(gone) else {
            return;
        };
        if let Some(closing) = self.registry.get(gone.number()) {
            closing.jobs.may_be_attached(&record.id);
            // While it is registered, its end is still to come and includes this session.
            if self.registry.get(gone.number()).is_some() {
                return;
            }
        }
        let handle = self.ending(gone, &record.participant(role).user);
        handle.jobs.may_be_attached(&record.id);
        self.spawn_job(&handle, Job::End);
    }

    /// Removes `gone`, a connection of `user` on this node that has ended, from the user's record.
    fn disconnect_stale(self: &Arc<Self>, gone: &ConnectionId, user: &UserId) {
        let handle = self.ending(gone, user);
        self.spawn_job(&handle, Job::End);
    }

    fn ending(&self, gone: &ConnectionId, user: &UserId) -> Arc<ConnectionHandle> {
        self.registry.ending(gone.number(), || {
            let (id, user, generation) = (gone.clone(), user.clone(), self.health.generation());
            let handle = ConnectionHandle::new(id, user, Dialect::Base, &self.config, generation);
            // Its user's record may still name it. What its client understands matters no more.
            handle.jobs.state().claim = Claim::Answered;
            handle
        })
    }
}
