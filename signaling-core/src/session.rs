//! The rules of a session, pure: who takes part, and what an attach and a detach change.
//!
//! A [`SessionRecord`] is what the store keeps and all nodes agree on. It is never changed in
//! place: a rule makes the next record, one [`revision`](SessionRecord::revision) later, and the
//! store takes it only if the one it replaces is still there.

mod metadata;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use metadata::{Metadata, MetadataError};

use crate::{
    id::{ConnectionId, SessionId, UserId},
    protocol::PartnerReason,
    time::Timestamp,
};

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// A participant hung up.
    Left,
    /// The host ended it.
    ByHost,
    /// A participant stayed away too long.
    Abandoned,
}

impl EndReason {
    /// Its name for logs and other programs: `left`, `by-host` or `abandoned`. It is stable: a later
    /// version may add names, and changes none.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::ByHost => "by-host",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Shows [`EndReason::as_str`].
impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A participant's place in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Participant 1: enrolled first, makes the offer.
    Initiator,
    /// Participant 2.
    Responder,
}

impl Role {
    /// Both, in the order of a record's participants.
    pub const BOTH: [Self; 2] = [Self::Initiator, Self::Responder];

    /// The other one.
    #[must_use]
    pub const fn partner(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// Whether a session's participants are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// At least one is absent.
    Waiting,
    /// Both are attached.
    Active,
}

impl Status {
    /// Its name in records and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Active => "active",
        }
    }
}

/// Which connection a participant is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// The connection.
    pub connection: ConnectionId,
    /// The revision of the record that made the attachment: no two attachments of a session have
    /// the same, also when a connection attaches again.
    pub since: u64,
}

/// Where a participant is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// On this connection.
    Attached(Attachment),
    /// Nowhere; the session ends when it is not back by then.
    Absent {
        /// The end of its patience.
        until: Timestamp,
    },
}

/// One of the two users of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Participant {
    /// Who it is.
    pub user: UserId,
    /// Where it is.
    pub presence: Presence,
    /// The highest epoch that attached; an older connection's late attach is refused by it.
    pub epoch: u64,
    /// When its last heartbeat arrived. Stores keep this up to date beside the revisions.
    pub last_heartbeat: Option<Timestamp>,
    /// Why its last attachment ended; none before the first end, and where a version of this library
    /// wrote it that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<PartnerReason>,
}

impl Participant {
    fn new(user: UserId, until: Timestamp) -> Self {
        Self::stored(user, Presence::Absent { until }, 0, None)
    }

    /// The attachment, unless the participant is absent.
    #[must_use]
    pub fn attachment(&self) -> Option<&Attachment> {
        match &self.presence {
            Presence::Attached(attachment) => Some(attachment),
            Presence::Absent { .. } => None,
        }
    }

    /// The connection that it is attached with, unless it is absent.
    #[must_use]
    pub fn connection(&self) -> Option<&ConnectionId> {
        self.attachment().map(|attachment| &attachment.connection)
    }

    /// A participant as a store holds it, but for [`ended`](Self::ended).
    #[must_use]
    pub fn stored(
        user: UserId,
        presence: Presence,
        epoch: u64,
        last_heartbeat: Option<Timestamp>,
    ) -> Self {
        Self { user, presence, epoch, last_heartbeat, ended: None }
    }
}

/// That a connection believes to be attached to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The session.
    pub session: SessionId,
    /// As whom.
    pub role: Role,
    /// Which opening of the session.
    pub opening: u64,
    /// The newest revision that it knows.
    pub revision: u64,
}

/// Why two users cannot have a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user cannot be matched with itself")]
pub struct SameUser;

/// The attach came from a connection that a newer one has replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a newer connection of the same user was here")]
pub struct Superseded;

/// A session, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// A random number of this opening: a session opened later under the same id has another.
    pub opening: u64,
    /// Counts the changes of this record, heartbeats excepted; 0 when it is opened.
    pub revision: u64,
    /// The initiator, then the responder.
    pub participants: [Participant; 2],
    /// What the host said of it when it was opened. It never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// When it was opened, by the clock of the node that opened it; none where a version of this
    /// library wrote it that did not say. It never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
}

/// More revisions than a session has between two losses of its store.
const RESTORED_AHEAD: u64 = 1 << 24;

/// Among how many revisions a record that is put back may land: enough for no two to land near each
/// other, and few enough for many losses to stay below 2^53, which stores may count in floating
/// point.
const RESTORED_APART: u64 = 1 << 36;

impl SessionRecord {
    /// A session of two users, both absent until they attach or `until` passes.
    ///
    /// # Errors
    ///
    /// When both are the same user.
    pub fn open(
        id: SessionId,
        opening: u64,
        initiator: UserId,
        responder: UserId,
        until: Timestamp,
    ) -> Result<Self, SameUser> {
        if initiator == responder {
            return Err(SameUser);
        }
        let participants = [initiator, responder].map(|user| Participant::new(user, until));
        Ok(Self::stored(id, opening, 0, participants))
    }

    /// A record as a store holds it, but for its [`metadata`](Self::metadata) and
    /// [`opened_at`](Self::opened_at).
    #[must_use]
    pub fn stored(
        id: SessionId,
        opening: u64,
        revision: u64,
        participants: [Participant; 2],
    ) -> Self {
        Self { id, opening, revision, participants, metadata: None, opened_at: None }
    }

    /// The participant in `role`.
    #[must_use]
    pub fn participant(&self, role: Role) -> &Participant {
        &self.participants[role as usize]
    }

    /// The role of `user`; none when it takes no part.
    #[must_use]
    pub fn role_of(&self, user: &UserId) -> Option<Role> {
        Role::BOTH.into_iter().find(|role| self.participant(*role).user == *user)
    }

    /// The role in which `connection` is attached.
    #[must_use]
    pub fn attached_as(&self, connection: &ConnectionId) -> Option<Role> {
        let is = |role: &Role| self.participant(*role).connection() == Some(connection);
        Role::BOTH.into_iter().find(is)
    }

    /// Active when both are attached.
    #[must_use]
    pub fn status(&self) -> Status {
        let attached = |participant: &Participant| participant.attachment().is_some();
        if self.participants.iter().all(attached) { Status::Active } else { Status::Waiting }
    }

    /// When the session ends if nobody attaches; none while both are attached.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let until = |participant: &Participant| match participant.presence {
            Presence::Absent { until } => Some(until),
            Presence::Attached(_) => None,
        };
        self.participants.iter().filter_map(until).min()
    }

    /// Whether both sessions are for the same users in the same roles.
    #[must_use]
    pub fn same_users(&self, other: &Self) -> bool {
        Role::BOTH.iter().all(|role| self.participant(*role).user == other.participant(*role).user)
    }

    /// Whether both records are the same, aside from what is only said of it: heartbeats, why
    /// somebody is away, when it was opened, and metadata.
    #[must_use]
    pub fn same_state(&self, other: &Self) -> bool {
        let places = |record: &Self| {
            record.participants.clone().map(|participant| Participant {
                last_heartbeat: None,
                ended: None,
                ..participant
            })
        };
        (&self.id, self.opening, self.revision) == (&other.id, other.opening, other.revision)
            && places(self) == places(other)
    }

    /// Whether a store that holds this record has lost `known`, another one of the same opening which
    /// it held once: a store does not go back, and holds no revision twice.
    pub(crate) fn lacks(&self, known: &Self) -> bool {
        self.opening == known.opening && self.revision <= known.revision && !self.same_state(known)
    }

    /// The record as the participant in `by` puts it back at `now`, from its connection number
    /// `epoch`, into a store that has lost it: ahead of every revision that was made, or is still
    /// being made, of what the store held before or has kept of it. How far ahead is its own: a
    /// store that loses this as well may get back another history of the same record, and nobody
    /// may take a record of the one for that of the same revision in the other.
    #[must_use]
    pub(crate) fn restored(&self, by: Role, epoch: u64, now: Timestamp) -> Self {
        let mut hasher = DefaultHasher::new();
        (by, epoch, now).hash(&mut hasher);
        let ahead = RESTORED_AHEAD + hasher.finish() % RESTORED_APART;
        Self { revision: self.revision + ahead, ..self.clone() }
    }

    /// Takes from `there`, the record that this one replaces, what stores keep beside the revisions:
    /// the `last_heartbeat`s, and metadata, of which the first stays.
    pub fn keep_beside(&mut self, there: &Self) {
        for (new, old) in self.participants.iter_mut().zip(&there.participants) {
            new.last_heartbeat = old.last_heartbeat;
        }
        if there.metadata.is_some() {
            self.metadata.clone_from(&there.metadata);
        }
    }

    /// The record once `role` is on `connection`, the user's connection number `epoch`; whatever
    /// it was on before, it is there no more.
    ///
    /// # Errors
    ///
    /// When a connection with a higher epoch has attached before.
    pub fn attach(
        &self,
        role: Role,
        connection: &ConnectionId,
        epoch: u64,
    ) -> Result<Self, Superseded> {
        if epoch < self.participant(role).epoch {
            return Err(Superseded);
        }
        let mut next = self.clone();
        next.revision += 1;
        let participant = &mut next.participants[role as usize];
        if let Some(before) = participant.connection() {
            // A connection that attaches anew replaces none: it was taken for lost.
            let anew = before == connection;
            participant.ended =
                Some(if anew { PartnerReason::Lost } else { PartnerReason::Replaced });
        }
        let attachment = Attachment { connection: connection.clone(), since: next.revision };
        participant.presence = Presence::Attached(attachment);
        participant.epoch = epoch;
        Ok(next)
    }

    /// The record once `connection` has ended for `reason`; none when it is attached nowhere in it.
    ///
    /// Its participant may stay away for `patience` from `now`.
    #[must_use]
    pub fn detach(
        &self,
        connection: &ConnectionId,
        reason: PartnerReason,
        now: Timestamp,
        patience: Duration,
    ) -> Option<Self> {
        let role = self.attached_as(connection)?;
        let mut next = self.clone();
        next.revision += 1;
        let participant = &mut next.participants[role as usize];
        participant.presence = Presence::Absent { until: now.after(patience) };
        participant.ended = Some(reason);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn connection(number: u64) -> ConnectionId {
        ConnectionId::new(NodeId::new("n").unwrap(), number)
    }

    fn opened() -> SessionRecord {
        let id = SessionId::new("s").unwrap();
        SessionRecord::open(id, 7, user("ann"), user("bob"), at(60)).unwrap()
    }

    #[test]
    fn a_user_is_not_matched_with_itself() {
        let id = SessionId::new("s").unwrap();
        let same = SessionRecord::open(id, 7, user("ann"), user("ann"), at(60));
        assert_eq!(same, Err(SameUser));
    }

    #[test]
    fn the_first_enrolled_is_the_initiator() {
        let record = opened();
        assert_eq!(record.role_of(&user("ann")), Some(Role::Initiator));
        assert_eq!(record.role_of(&user("bob")), Some(Role::Responder));
        assert_eq!(record.role_of(&user("eve")), None);
    }

    #[test]
    fn a_session_is_active_while_both_are_attached() {
        let record = opened();
        assert_eq!((record.status(), record.deadline()), (Status::Waiting, Some(at(60))));
        let record = record.attach(Role::Responder, &connection(1), 1).unwrap();
        assert_eq!((record.status(), record.deadline()), (Status::Waiting, Some(at(60))));
        let record = record.attach(Role::Initiator, &connection(2), 1).unwrap();
        assert_eq!((record.status(), record.deadline()), (Status::Active, None));
        let record = record.detach(&connection(1), PartnerReason::Lost, at(100), PATIENCE).unwrap();
        assert_eq!((record.status(), record.deadline()), (Status::Waiting, Some(at(160))));
        assert_eq!(record.attached_as(&connection(2)), Some(Role::Initiator));
        assert_eq!(record.revision, 3);
    }

    #[test]
    fn the_deadline_is_that_of_whoever_is_away_longest() {
        let record = opened().attach(Role::Initiator, &connection(1), 1).unwrap();
        let record = record.detach(&connection(1), PartnerReason::Lost, at(30), PATIENCE).unwrap();
        assert_eq!(record.deadline(), Some(at(60)));
    }

    #[test]
    fn a_replaced_connections_late_end_changes_nothing() {
        let record = opened().attach(Role::Initiator, &connection(1), 1).unwrap();
        let record = record.attach(Role::Initiator, &connection(2), 2).unwrap();
        assert_eq!(record.detach(&connection(1), PartnerReason::Lost, at(1), PATIENCE), None);
    }

    #[test]
    fn a_replaced_connections_late_attach_is_refused() {
        let record = opened().attach(Role::Initiator, &connection(2), 2).unwrap();
        assert_eq!(record.attach(Role::Initiator, &connection(1), 1), Err(Superseded));
        let record = record.detach(&connection(2), PartnerReason::Lost, at(1), PATIENCE).unwrap();
        assert_eq!(record.attach(Role::Initiator, &connection(1), 1), Err(Superseded));
    }

    #[test]
    fn attaching_again_is_another_attachment() {
        let record = opened().attach(Role::Initiator, &connection(1), 1).unwrap();
        let first = record.participant(Role::Initiator).attachment().cloned();
        let record = record.detach(&connection(1), PartnerReason::Lost, at(1), PATIENCE).unwrap();
        let record = record.attach(Role::Initiator, &connection(1), 1).unwrap();
        assert_ne!(record.participant(Role::Initiator).attachment().cloned(), first);
    }

    #[test]
    fn why_the_last_attachment_ended_is_known_until_the_next_one_ends() {
        let ended = |record: &SessionRecord| record.participant(Role::Initiator).ended;
        let record = opened().attach(Role::Initiator, &connection(1), 1).unwrap();
        assert_eq!(ended(&record), None);
        let record =
            record.detach(&connection(1), PartnerReason::Timeout, at(1), PATIENCE).unwrap();
        assert_eq!(ended(&record), Some(PartnerReason::Timeout));
        let record = record.attach(Role::Initiator, &connection(2), 2).unwrap();
        assert_eq!(ended(&record), Some(PartnerReason::Timeout));
        let record = record.attach(Role::Initiator, &connection(3), 3).unwrap();
        assert_eq!(ended(&record), Some(PartnerReason::Replaced));
        let record = record.attach(Role::Initiator, &connection(3), 3).unwrap();
        assert_eq!(ended(&record), Some(PartnerReason::Lost));
        assert_eq!(record.participant(Role::Responder).ended, None);
    }

    #[test]
    fn what_is_only_said_of_a_session_is_no_part_of_its_state() {
        let record = opened().attach(Role::Initiator, &connection(1), 1).unwrap();
        let mut left = record.detach(&connection(1), PartnerReason::Left, at(1), PATIENCE).unwrap();
        left.metadata = Some(Metadata::new("x").unwrap());
        let lost = record.detach(&connection(1), PartnerReason::Lost, at(1), PATIENCE).unwrap();
        assert!(left.same_state(&lost) && !left.lacks(&lost) && !lost.lacks(&left));
    }

    #[test]
    fn a_record_without_what_later_versions_say_is_read() {
        let record = opened().attach(Role::Initiator, &connection(1), 1).unwrap();
        let text = serde_json::to_string(&record).unwrap();
        for later in ["ended", "metadata", "opened_at"] {
            assert!(!text.contains(later), "{text}");
        }
        assert_eq!(serde_json::from_str::<SessionRecord>(&text).unwrap(), record);
    }

    #[test]
    fn records_that_are_put_back_do_not_meet() {
        let record = opened();
        let mut revisions: Vec<_> = [(Role::Initiator, 1, 0), (Role::Responder, 1, 0)]
            .into_iter()
            .chain([(Role::Initiator, 2, 0), (Role::Initiator, 1, 1)])
            .map(|(by, epoch, seconds)| record.restored(by, epoch, at(seconds)).revision)
            .collect();
        revisions.sort_unstable();
        assert!(revisions[0] >= RESTORED_AHEAD);
        assert!(revisions.windows(2).all(|pair| pair[1] - pair[0] > 1000), "{revisions:?}");
    }

    #[test]
    fn a_store_lacks_what_it_held_and_holds_no_more() {
        let before = opened();
        let attached = before.attach(Role::Initiator, &connection(1), 1).unwrap();
        let another = before.attach(Role::Responder, &connection(2), 1).unwrap();
        assert!(before.lacks(&attached) && another.lacks(&attached));
        assert!(!attached.lacks(&before) && !attached.lacks(&attached));
        let mut heard = attached.clone();
        heard.participants[0].last_heartbeat = Some(at(1));
        assert!(!heard.lacks(&attached));
    }
}
