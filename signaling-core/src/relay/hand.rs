//! Hands notices to the connections of this node, and finds those out that are for one that is no
//! more: a record may have put it back, or never have lost it.

use std::sync::Arc;

use super::{Node, mailbox::Mail, registry::ConnectionHandle, worker::Job};
use crate::{
    id::{ConnectionId, UserId},
    notice::Notice,
    session::SessionRecord,
};

impl Node {
    /// Hands `notice` to a connection of this node.
    pub(super) fn hand(self: &Arc<Self>, to: &ConnectionId, notice: Notice) {
        if let Some(handle) = self.registry.get(to.number()) {
            self.hand_to(&handle, notice);
        } else if let Some(record) = notice.attaching(to) {
            self.reclaim(to, record);
        } else if let Notice::Contested { user } = &notice {
            self.disown(to, user);
        }
    }

    /// Hands `notice` to a connection of this node that may have ended meanwhile.
    pub(super) fn hand_to(self: &Arc<Self>, handle: &ConnectionHandle, notice: Notice) {
        let attaching = notice.attaching(&handle.id).cloned();
        let taken = handle.mailbox.offer(Mail::Notice(notice));
        if let Some(record) = attaching.filter(|_| !taken) {
            self.reclaim(&handle.id, &record);
        }
    }

    /// Has `gone`, a connection of this node that is over, taken out of a session of which `record`
    /// says that it is attached to it. It was added to the node's before anything was written of it,
    /// so it is over for certain.
    ///
    /// Its worker does that after what it may be doing still, so that nothing is written twice.
    fn reclaim(self: &Arc<Self>, gone: &ConnectionId, record: &SessionRecord) {
        let Some(role) = record.attached_as(gone) else {
            return;
        };
        if let Some(closing) = self.registry.get(gone.number()) {
            closing.jobs.may_be_attached(&record.id);
            // While it is there, its end is still to come, and takes this along.
            if self.registry.get(gone.number()).is_some() {
                return;
            }
        }
        let handle = self.ending(gone, &record.participant(role).user);
        handle.jobs.may_be_attached(&record.id);
        self.spawn_job(&handle, Job::End);
    }

    /// Has the store forget `gone`, a connection of `user` on this node that is over, if it has not.
    fn disown(self: &Arc<Self>, gone: &ConnectionId, user: &UserId) {
        let handle = self.ending(gone, user);
        self.spawn_job(&handle, Job::End);
    }

    fn ending(&self, gone: &ConnectionId, user: &UserId) -> Arc<ConnectionHandle> {
        self.registry.ending(gone.number(), || {
            ConnectionHandle::new(
                gone.clone(),
                user.clone(),
                &self.config,
                self.health.generation(),
            )
        })
    }
}
