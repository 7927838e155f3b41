//! The seam to wherever sessions are kept.

use std::{fmt, ops::Add, time::Duration};

use async_trait::async_trait;

use crate::{
    id::{ConnectionId, NodeId, SessionId, UserId},
    session::{Place, SessionRecord},
    time::Timestamp,
};

/// The store did not answer, or not in time, or not with sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It could not be reached, or took too long. What was asked may have been done all the same.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answers, and does not write: it is out of memory, read-only, or forbids it. Nothing was done.
    /// A node that meets this is not ready for a while.
    #[error("the store refuses to write")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The record that was asked for cannot be read: no store of this library wrote it. Only this
    /// record is concerned; see the [contract](SessionStore#contract).
    #[error("the store holds a record that cannot be read")]
    Corrupt(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// The store could not be reached.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }
}

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// It is done.
    Done,
    /// There is another record than expected; this one, unchanged.
    Conflict(Box<SessionRecord>),
    /// There is no record where one was expected.
    Missing,
}

/// What became of a [`SessionStore::join`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Joined {
    /// The session is among the user's, whose connection was this one then. A later one finds the session
    /// among its memberships.
    Done(Option<ConnectionId>),
    /// The user is in as many sessions as it may be in: these.
    Full(Vec<Membership>),
}

/// That a user takes part in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The session. Its record may not be there yet, or no more.
    pub session: SessionId,
    /// Since when the user is a member.
    pub since: Timestamp,
}

/// When a node accepted a connection, after its client was authenticated, by the store's clock, and with a
/// token from when. The true time of the first lies within a span, whose width is the round trip of the node's
/// last lease renewal ([`Lease::now`]) and a few milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Not before this.
    pub earliest: Timestamp,
    /// Not after this.
    pub latest: Timestamp,
    /// When the client's token was issued, as the token says it; 0 if it does not.
    pub issued_at: Timestamp,
}

impl Accepted {
    /// Nothing is known of it, and no revocation concerns it.
    pub const UNKNOWN: Self = Self {
        earliest: Timestamp::from_millis(0),
        latest: Timestamp::from_millis(u64::MAX),
        issued_at: Timestamp::from_millis(u64::MAX),
    };

    /// The earliest time, where one is known.
    #[must_use]
    pub fn known(&self) -> Option<Timestamp> {
        (self.earliest > Self::UNKNOWN.earliest).then_some(self.earliest)
    }
}

/// Which connection of its user a new one may take the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace<'a> {
    /// Any connection, unless it was certainly accepted later. So a request that reaches the store late, when
    /// the client has long since gone to another node, does not take the user from that connection.
    Older,
    /// This one, on the same condition; or none, where it is gone.
    Only(&'a ConnectionId),
    /// None.
    Nothing,
}

impl Replace<'_> {
    /// Whether a connection that was accepted at `new` may replace `there`, which was accepted at
    /// `earliest` or later. A time after `now`, the store's, is from a clock that has been set back since,
    /// and does not count.
    #[must_use]
    pub fn allows(
        &self,
        new: Accepted,
        there: &ConnectionId,
        earliest: Timestamp,
        now: Timestamp,
    ) -> bool {
        let may_be_older = earliest <= new.latest || earliest > now;
        match self {
            Self::Older => may_be_older,
            Self::Only(this) => *this == there && may_be_older,
            Self::Nothing => false,
        }
    }
}

/// What became of a [`SessionStore::connect`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Connect {
    /// The connection is its user's now.
    Done(Connected),
    /// This one is, and may not be replaced; nothing has changed.
    Taken(ConnectionId),
    /// The client's token was revoked; nothing has changed.
    Revoked,
}

/// How the connection of a user is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The number of this connection among the user's: higher than that of every earlier one.
    pub epoch: u64,
    /// The connection that this one replaced when it came, whether or not that has ended since.
    pub previous: Option<ConnectionId>,
    /// What the user is a member of.
    pub memberships: Vec<Membership>,
}

/// A user, as the store knows it; empty for one that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserRecord {
    /// Its newest connection, while that lives.
    pub connection: Option<ConnectionId>,
    /// What it is a member of.
    pub memberships: Vec<Membership>,
    /// Tokens that were issued before this are revoked; none if none are.
    pub revoked_before: Option<Timestamp>,
}

impl UserRecord {
    /// Whether a token of the user that was issued then is revoked; 0 stands for one of which that is not known.
    pub(crate) fn revokes(&self, issued_at: Timestamp) -> bool {
        self.revoked_before.is_some_and(|before| issued_at < before)
    }
}

/// That a connection was heard from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whose connection it is.
    pub user: UserId,
    /// The connection.
    pub connection: ConnectionId,
    /// When it was heard from.
    pub at: Timestamp,
    /// Where it believes to be attached.
    pub places: Vec<Place>,
}

/// How much a node has, or all nodes of a deployment together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections, those included that are not admitted yet.
    pub connections: u64,
    /// Sessions in which at least one participant is attached. Each is counted once, on the node of
    /// its initiator, or of its responder while the initiator is absent.
    pub sessions: u64,
}

impl Counts {
    /// These without `share`, which was added to them.
    pub(crate) fn without(self, share: Self) -> Self {
        Self {
            connections: self.connections.saturating_sub(share.connections),
            sessions: self.sessions.saturating_sub(share.sessions),
        }
    }
}

impl Add for Counts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            connections: self.connections.saturating_add(other.connections),
            sessions: self.sessions.saturating_add(other.sessions),
        }
    }
}

/// What became of a [`SessionStore::renew_lease`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whether the node had a lease that had not run out: without one, others may have written
    /// the node off.
    pub held: bool,
    /// The store's time when it renewed the lease.
    pub now: Timestamp,
    /// Changes when the store has lost records. A store that cannot lose them always says the
    /// same.
    pub generation: u64,
    /// The nodes whose lease has run out, until they are forgotten.
    pub lost: Vec<NodeId>,
}

/// Where sessions, users and nodes are kept; shared by all nodes of a deployment.
///
/// # Contract
///
/// - The rules live in [`session`](crate::session), not here: a store compares, writes and finds.
/// - Each call is atomic by itself, and calls on the same record are linearisable: who reads after
///   a write was answered sees it.
/// - A condition that does not hold is a value, never an error. After an error the call may have
///   been done or not, and callers repeat it: done twice has the effect of done once.
/// - No call takes longer than a few seconds; one that would is [`StoreError::Unavailable`].
/// - Dropping a future midway is an error that nobody sees: the call may have been done.
/// - Nothing is kept for ever: what belongs to no live session, connection or node goes by itself.
/// - The store has one clock for all nodes. Leases and deadlines run out by it, and a node takes the
///   time that it writes into records from it, by [`Lease::now`]: a node whose own clock is wrong
///   changes nothing for the others.
/// - An unreadable item (a record, a field, a member of a list, written by something other than this
///   library) harms its own session only. The store reports it once, and no call fails because of it,
///   except [`load`](Self::load) of an unreadable record:
///   - `load` fails with [`StoreError::Corrupt`]. The engine then writes the record again from what an
///     attached connection knows. Until then the record is kept for a minute at least, and
///     [`record_heartbeats`](Self::record_heartbeats) returns its connections as stale.
///   - If a record is expected, `put` returns [`Written::Missing`]. If none is, `put` replaces it, and
///     `delete` removes it.
///   - Calls that return several items skip it. It is removed from its list, so that it does not come
///     again.
///   - A list of another type is made again from the records of sessions.
#[async_trait]
pub trait SessionStore: Send + Sync + fmt::Debug + 'static {
    /// Writes `record` if the store has `expected`: a record with its opening and its revision, or no
    /// record if none is expected. The `last_heartbeat`s and the metadata of a record that is replaced
    /// are kept.
    async fn put(
        &self,
        record: &SessionRecord,
        expected: Option<&SessionRecord>,
    ) -> Result<Written, StoreError>;

    /// The record of `session`.
    async fn load(&self, session: &SessionId) -> Result<Option<SessionRecord>, StoreError>;

    /// Removes the record with the same opening and revision as `record`.
    async fn delete(&self, record: &SessionRecord) -> Result<Written, StoreError>;

    /// Puts `session` among those of `user`, unless it already is or `limit` are.
    /// [`Membership::since`] is the store's time.
    async fn join(
        &self,
        user: &UserId,
        session: &SessionId,
        limit: usize,
    ) -> Result<Joined, StoreError>;

    /// Takes `session` from those of `user`: any membership of it, or the one `since` that time. A later
    /// one was not known to the caller, and stays.
    async fn leave(
        &self,
        user: &UserId,
        session: &SessionId,
        since: Option<Timestamp>,
    ) -> Result<(), StoreError>;

    /// Makes `connection`, accepted at `accepted`, the one of `user`, in one step with reading what it
    /// replaces, where `replace` allows that: of those that come at the same time and may replace
    /// nothing, one is done. [`Accepted::earliest`] is kept with it, to be compared with those that come
    /// later. Once more with the connection that is there already gives the same epoch and the same
    /// `previous`, whatever it may replace, and changes nothing but that time, where it is known.
    ///
    /// A connection whose [`Accepted::issued_at`] is before the user's [revocation](Self::revoke) is refused.
    ///
    /// The connection that a [`Connect::Taken`] names is one of its node's, also where that was not
    /// known any more, so that [`forget_node`](Self::forget_node) forgets it.
    async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        accepted: Accepted,
        replace: Replace<'_>,
    ) -> Result<Connect, StoreError>;

    /// Forgets that `connection` is the one of `user`, if it is; says whether it was.
    async fn disconnect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<bool, StoreError>;

    /// Revokes the tokens of `user` that were issued before this, for as long as `keep` from now on. The
    /// latest time counts. Returns the connection of the user, in one step: a later one is refused if its
    /// token is revoked.
    async fn revoke(
        &self,
        user: &UserId,
        issued_before: Timestamp,
        keep: Duration,
    ) -> Result<Option<ConnectionId>, StoreError>;

    /// What is known of `user`.
    async fn user(&self, user: &UserId) -> Result<UserRecord, StoreError>;

    /// Moves `last_heartbeat` forward for all places where the connection is still attached, and
    /// names the connections of which not all is as they believe: another one is the user's, or a
    /// place is not theirs any more, or its record is at another revision. It may say so some
    /// heartbeats late.
    ///
    /// This is how a connection finds out whatever no notice told it.
    async fn record_heartbeats(
        &self,
        heartbeats: &[Heartbeat],
    ) -> Result<Vec<ConnectionId>, StoreError>;

    /// Up to `limit` records whose deadline has passed, those first that are longest over it.
    async fn overdue(&self, limit: usize) -> Result<Vec<SessionRecord>, StoreError>;

    /// Renews the lease of `node`, which runs out after `lease`, and notes the node's counts. Each of
    /// `others` of which no lease is known gets one too, so that a node which died before the store lost
    /// its leases is found lost. Returns the nodes whose lease has run out.
    async fn renew_lease(
        &self,
        node: &NodeId,
        lease: Duration,
        counts: Counts,
        others: &[NodeId],
    ) -> Result<Lease, StoreError>;

    /// What the nodes that are alive said last that they have, added up.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// Up to `limit` records with an attachment to a connection of `node`, of the sessions in which
    /// the users of its connections are members. A connection is one of the node's from
    /// [`connect`](Self::connect) until [`disconnect`](Self::disconnect) with the same connection,
    /// also where another one of the user, on this node or another, has replaced it.
    async fn attached_to(
        &self,
        node: &NodeId,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, StoreError>;

    /// Forgets a node that has no attachments any more, its lease and the connections of users
    /// that are on it.
    async fn forget_node(&self, node: &NodeId) -> Result<(), StoreError>;
}
