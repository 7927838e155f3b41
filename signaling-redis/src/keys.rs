//! The names of all keys.
//!
//! Keys that one script touches share a slot on Redis Cluster: each has the other's name, or a
//! common word, in braces.

use signaling_core::id::{NodeId, SessionId, UserId};

/// The types of all keys, by what their names begin with after the prefix.
const TYPES: [(&str, &str); 10] = [
    ("session:active:", "hash"),
    ("session:ended:", "string"),
    ("session:user:", "hash"),
    ("session:deadlines", "zset"),
    ("session:{nodes}:leases", "zset"),
    ("session:{nodes}:counts", "hash"),
    ("session:{nodes}:marker", "string"),
    ("session:connections:", "hash"),
    ("session:inbox:", "stream"),
    ("session:inbox-holds:", "string"),
];

/// A key with a list that leads to records of sessions, and can be made again from these.
#[derive(Debug)]
pub(crate) enum List {
    Deadlines,
    Leases,
    User(UserId),
    Connections(NodeId),
}

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

    /// Hash: a user's connection, its number, and what the user is a member of.
    pub(crate) fn user(&self, user: &UserId) -> String {
        format!("{}session:user:{user}", self.0)
    }

    /// Sorted set: sessions by the deadlines by which a participant has to attach again.
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

    /// String: how many entries and unread bytes the inbox of the node holds.
    pub(crate) fn inbox_holds(&self, node: &NodeId) -> String {
        format!("{}session:inbox-holds:{{{}}}", self.0, self.inbox(node))
    }

    /// The type of a key, as Redis names it.
    pub(crate) fn type_of(&self, key: &str) -> &'static str {
        let name = key.strip_prefix(&self.0).unwrap_or(key);
        let of = TYPES.iter().find(|(begin, _)| name.starts_with(begin));
        of.map_or("hash", |(_, kind)| kind)
    }

    /// The list under a key; none where there is no list.
    pub(crate) fn list(&self, key: &str) -> Option<List> {
        if key == self.deadlines() {
            return Some(List::Deadlines);
        }
        if key == self.leases() {
            return Some(List::Leases);
        }
        let name = key.strip_prefix(&self.0)?;
        if let Some(user) = name.strip_prefix("session:user:") {
            return UserId::new(user).ok().map(List::User);
        }
        NodeId::new(name.strip_prefix("session:connections:")?).ok().map(List::Connections)
    }

    /// A glob pattern of the keys of all records of sessions.
    pub(crate) fn sessions(&self) -> String {
        let mut pattern = String::new();
        for c in self.0.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern + "session:active:*"
    }

    /// The session whose record has this key.
    pub(crate) fn session_of(&self, key: &str) -> Option<SessionId> {
        SessionId::new(key.strip_prefix(&self.0)?.strip_prefix("session:active:")?).ok()
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
        let node = NodeId::new("n1").unwrap();
        assert_eq!(tag(&keys.inbox(&node)), tag(&keys.inbox_holds(&node)));
    }

    #[test]
    fn every_key_has_a_type_and_is_found_again() {
        let (keys, node) = (Keys::new("a*b:"), NodeId::new("n1").unwrap());
        let (session, user) = (SessionId::new("abc").unwrap(), UserId::new("a: {b}").unwrap());
        for (key, kind) in [
            (keys.session(&session), "hash"),
            (keys.ended(&session), "string"),
            (keys.user(&user), "hash"),
            (keys.deadlines(), "zset"),
            (keys.leases(), "zset"),
            (keys.counts(), "hash"),
            (keys.marker(), "string"),
            (keys.connections(&node), "hash"),
            (keys.inbox(&node), "stream"),
            (keys.inbox_holds(&node), "string"),
        ] {
            assert_eq!(keys.type_of(&key), kind, "{key}");
        }
        assert!(matches!(keys.list(&keys.user(&user)), Some(List::User(known)) if known == user));
        let connections = keys.list(&keys.connections(&node));
        assert!(matches!(connections, Some(List::Connections(known)) if known == node));
        assert!(matches!(keys.list(&keys.deadlines()), Some(List::Deadlines)));
        assert!(matches!(keys.list(&keys.leases()), Some(List::Leases)));
        assert!(keys.list(&keys.session(&session)).is_none());
        assert_eq!(keys.session_of(&keys.session(&session)), Some(session));
        assert_eq!(keys.sessions(), r"a\*b:session:active:*");
    }
}
