//! The names of all keys.
//!
//! Keys that one script touches share a slot on Redis Cluster: each has the other's name, or a
//! common word, in braces.

use signaling_core::id::{NodeId, SessionId, UserId};

/// What all keys begin with.
#[derive(Debug, Clone)]
pub(crate) struct Keys(String);

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }

    /// Hash: the record of a session.
    pub(crate) fn session(&self, session: &SessionId) -> String {
        format!("{}session:active:{session}", self.0)
    }

    /// String: who removed the record of a session just now.
    pub(crate) fn ended(&self, session: &SessionId) -> String {
        format!("{}session:ended:{{{}}}", self.0, self.session(session))
    }

    /// Hash: a user's connection, its number, and what the user is enrolled in.
    pub(crate) fn user(&self, user: &UserId) -> String {
        format!("{}session:user:{user}", self.0)
    }

    /// Sorted set: sessions by the times at which a participant's patience ends.
    pub(crate) fn deadlines(&self) -> String {
        format!("{}session:deadlines", self.0)
    }

    /// Sorted set: nodes by the ends of their leases.
    pub(crate) fn leases(&self) -> String {
        format!("{}session:{{nodes}}:leases", self.0)
    }

    /// Hash: what nodes with a lease have, as two numbers.
    pub(crate) fn counts(&self) -> String {
        format!("{}session:{{nodes}}:counts", self.0)
    }

    /// String: random, and another one when the database was emptied.
    pub(crate) fn marker(&self) -> String {
        format!("{}session:{{nodes}}:marker", self.0)
    }

    /// Hash: a node's connections and their users.
    pub(crate) fn connections(&self, node: &NodeId) -> String {
        format!("{}session:connections:{node}", self.0)
    }

    /// Stream: what other nodes have for one.
    pub(crate) fn inbox(&self, node: &NodeId) -> String {
        format!("{}session:inbox:{node}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_where_other_services_look_for_it() {
        let session = SessionId::new("abc").unwrap();
        assert_eq!(Keys::new("").session(&session), "session:active:abc");
        assert_eq!(Keys::new("app:").session(&session), "app:session:active:abc");
    }

    #[test]
    fn keys_of_one_script_share_a_slot() {
        let (keys, session) = (Keys::new("app:"), SessionId::new("abc").unwrap());
        let tag = |key: &str| {
            let tagged = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            tagged.map_or(key, |(tag, _)| tag).to_owned()
        };
        assert_eq!(tag(&keys.session(&session)), tag(&keys.ended(&session)));
        assert_eq!(tag(&keys.leases()), tag(&keys.marker()));
        assert_eq!(tag(&keys.leases()), tag(&keys.counts()));
    }
}
