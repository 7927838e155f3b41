//! The rules of a session, pure: who takes part, and what an attach and a detach change.
//!
//! A [`SessionRecord`] is what the store keeps and all nodes agree on. It is never changed in
//! place: a rule makes the next record, one [`revision`](SessionRecord::revision) later, and the
//! store takes it only if the one it replaces is still there.

mod metadata;

use std::{num::NonZeroU64, time::Duration};

use serde::{Deserialize, Serialize};

pub use metadata::{Metadata, MetadataError};

use crate::{
    id::{ConnectionId, SessionId, UserId},
    reason::PartnerReason,
    time::Timestamp,
};

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

/// Where a participant is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// On this connection.
    Attached(ConnectionId),
    /// On no connection.
    Absent {
        /// Deadline to attach again; the session ends if it passes.
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
    /// The negotiation in which it last took part; none before it first attaches.
    pub negotiation: Option<u64>,
    /// A random number of the client that takes part in that: a connection that continues the negotiation
    /// keeps it. None where the client cannot continue, or has not attached yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<NonZeroU64>,
    /// Why its last attachment ended; none before the first end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<PartnerReason>,
}

impl Participant {
    fn new(user: UserId, until: Timestamp) -> Self {
        Self::stored(user, Presence::Absent { until }, 0, None)
    }

    /// The connection that it is attached with, unless it is absent.
    #[must_use]
    pub fn connection(&self) -> Option<&ConnectionId> {
        match &self.presence {
            Presence::Attached(connection) => Some(connection),
            Presence::Absent { .. } => None,
        }
    }

    /// A participant as a store holds it, but for its [`negotiation`](Self::negotiation),
    /// [`client`](Self::client) and [`ended`](Self::ended).
    #[must_use]
    pub fn stored(
        user: UserId,
        presence: Presence,
        epoch: u64,
        last_heartbeat: Option<Timestamp>,
    ) -> Self {
        Self { user, presence, epoch, last_heartbeat, negotiation: None, client: None, ended: None }
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
    /// A random number of this opening. The record has another one after each time that it was opened
    /// again because the store had lost it; see [`reopen`](Self::reopen).
    pub opening: u64,
    /// The opening by the host. It never changes: two records with the same id and another first opening
    /// are of two sessions.
    pub first_opening: u64,
    /// Counts the openings after the first.
    pub reopened: u64,
    /// Counts the changes of this record since this opening, heartbeats excepted; 0 when it is opened.
    pub revision: u64,
    /// The current negotiation, by a random number; see [`attach`](Self::attach).
    pub negotiation: u64,
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

    /// A record as a store holds it, of a first opening and in its first negotiation, but for its
    /// [`metadata`](Self::metadata) and [`opened_at`](Self::opened_at).
    #[must_use]
    pub fn stored(
        id: SessionId,
        opening: u64,
        revision: u64,
        participants: [Participant; 2],
    ) -> Self {
        Self {
            id,
            opening,
            first_opening: opening,
            reopened: 0,
            revision,
            // The first negotiation needs no random number of its own.
            negotiation: opening,
            participants,
            metadata: None,
            opened_at: None,
        }
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
        let attached = |participant: &Participant| participant.connection().is_some();
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

    /// Whether both records are of the same opening and revision: a store that loses nothing never holds
    /// two different ones.
    #[must_use]
    pub fn is_version(&self, other: &Self) -> bool {
        (self.opening, self.revision) == (other.opening, other.revision)
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
        (&self.id, self.opening, self.revision, self.negotiation)
            == (&other.id, other.opening, other.revision, other.negotiation)
            && places(self) == places(other)
    }

    /// Whether a store that holds this record has lost `known`, another one of the same session which it
    /// held once: a store does not go back, and holds no revision twice.
    pub(crate) fn lacks(&self, known: &Self) -> bool {
        if self.first_opening != known.first_opening {
            return false;
        }
        let same_opening = self.opening == known.opening;
        self.reopened < known.reopened
            || same_opening && self.revision <= known.revision && !self.same_state(known)
    }

    /// Opens the session again, from the last that is known of it, after the store has lost its record:
    /// both participants are absent, and may attach until `until`. `opening` is a new random number, so
    /// that revisions of before and after the loss are not mixed up.
    ///
    /// A participant of which no negotiation is known counts as one that took part in the current one: it
    /// may have joined it by a write that was lost.
    #[must_use]
    pub fn reopen(&self, opening: u64, until: Timestamp) -> Self {
        let mut reopened =
            Self { opening, reopened: self.reopened + 1, revision: 0, ..self.clone() };
        for participant in &mut reopened.participants {
            if participant.connection().is_some() {
                participant.ended = Some(PartnerReason::Lost);
            }
            participant.presence = Presence::Absent { until };
            participant.negotiation.get_or_insert(self.negotiation);
        }
        reopened
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

    /// Whether a new connection of the participant in `role` may continue the negotiation that it took part
    /// in: if its client can, and its partner is absent or has a client that can, too.
    #[must_use]
    pub fn may_continue(&self, role: Role) -> bool {
        let partner = self.participant(role.partner());
        self.participant(role).client.is_some()
            && (partner.connection().is_none() || partner.client.is_some())
    }

    /// The record after `role` attached with `connection`, the user's connection number `epoch`, in place
    /// of a connection that it was attached with.
    ///
    /// `continuing` names the negotiation that the participant wants to continue. If that is the
    /// current one and the participant took part in it, it continues. A participant that attaches for the
    /// first time joins the current negotiation. Otherwise the negotiation `new`, a random number, begins,
    /// and everyone who is attached takes part in it.
    ///
    /// A participant that continues keeps its [`client`](Participant::client); any other has none until
    /// [`with_client`](Self::with_client).
    ///
    /// # Errors
    ///
    /// When a connection with a higher epoch has attached before.
    pub fn attach(
        &self,
        role: Role,
        connection: &ConnectionId,
        epoch: u64,
        continuing: Option<u64>,
        new: u64,
    ) -> Result<Self, Superseded> {
        if epoch < self.participant(role).epoch {
            return Err(Superseded);
        }
        let mut next = self.clone();
        next.revision += 1;
        let [own, partner] = [role, role.partner()].map(|role| role as usize);
        let last = next.participants[own].negotiation;
        let continues = continuing == last && last == Some(self.negotiation);
        if last.is_some() && !continues {
            next.negotiation = new;
            if next.participants[partner].connection().is_some() {
                next.participants[partner].negotiation = Some(new);
            }
        }
        let participant = &mut next.participants[own];
        if let Some(before) = participant.connection() {
            // A connection that attaches again replaces none: it was taken for lost.
            let again = before == connection;
            participant.ended =
                Some(if again { PartnerReason::Lost } else { PartnerReason::Replaced });
        }
        participant.presence = Presence::Attached(connection.clone());
        participant.epoch = epoch;
        participant.negotiation = Some(next.negotiation);
        if !continues {
            participant.client = None;
        }
        Ok(next)
    }

    /// The record with `client` as that of the participant in `role`, unless it has one.
    #[must_use]
    pub fn with_client(mut self, role: Role, client: Option<NonZeroU64>) -> Self {
        let participant = &mut self.participants[role as usize];
        participant.client = participant.client.or(client);
        self
    }

    /// The record once `connection` has ended for `reason`; none when it is attached nowhere in it.
    ///
    /// Its participant may stay away for `abandon_after` from `now`.
    #[must_use]
    pub fn detach(
        &self,
        connection: &ConnectionId,
        reason: PartnerReason,
        now: Timestamp,
        abandon_after: Duration,
    ) -> Option<Self> {
        let role = self.attached_as(connection)?;
        let mut next = self.clone();
        next.revision += 1;
        let participant = &mut next.participants[role as usize];
        participant.presence = Presence::Absent { until: now.after(abandon_after) };
        participant.ended = Some(reason);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    const ABANDON_AFTER: Duration = Duration::from_secs(60);

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
        let record = record.attach(Role::Responder, &connection(1), 1, None, 100).unwrap();
        assert_eq!((record.status(), record.deadline()), (Status::Waiting, Some(at(60))));
        let record = record.attach(Role::Initiator, &connection(2), 1, None, 200).unwrap();
        assert_eq!((record.status(), record.deadline()), (Status::Active, None));
        let record =
            record.detach(&connection(1), PartnerReason::Lost, at(100), ABANDON_AFTER).unwrap();
        assert_eq!((record.status(), record.deadline()), (Status::Waiting, Some(at(160))));
        assert_eq!(record.attached_as(&connection(2)), Some(Role::Initiator));
        assert_eq!(record.revision, 3);
    }

    #[test]
    fn the_deadline_is_that_of_whoever_is_away_longest() {
        let record = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        let record =
            record.detach(&connection(1), PartnerReason::Lost, at(30), ABANDON_AFTER).unwrap();
        assert_eq!(record.deadline(), Some(at(60)));
    }

    #[test]
    fn a_replaced_connections_late_end_changes_nothing() {
        let record = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        let record = record.attach(Role::Initiator, &connection(2), 2, None, 200).unwrap();
        assert_eq!(record.detach(&connection(1), PartnerReason::Lost, at(1), ABANDON_AFTER), None);
    }

    #[test]
    fn a_replaced_connections_late_attach_is_refused() {
        let record = opened().attach(Role::Initiator, &connection(2), 2, None, 200).unwrap();
        assert_eq!(record.attach(Role::Initiator, &connection(1), 1, None, 100), Err(Superseded));
        let record =
            record.detach(&connection(2), PartnerReason::Lost, at(1), ABANDON_AFTER).unwrap();
        assert_eq!(record.attach(Role::Initiator, &connection(1), 1, None, 100), Err(Superseded));
    }

    /// The current negotiation, then those in which the participants last took part.
    fn negotiations(record: &SessionRecord) -> (u64, [Option<u64>; 2]) {
        (record.negotiation, record.participants.each_ref().map(|one| one.negotiation))
    }

    #[test]
    fn who_attaches_first_joins_the_current_negotiation() {
        let record = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        assert_eq!(negotiations(&record), (7, [Some(7), None]));
        let record = record.attach(Role::Responder, &connection(2), 2, None, 200).unwrap();
        assert_eq!(negotiations(&record), (7, [Some(7), Some(7)]));
    }

    #[test]
    fn who_comes_back_begins_a_negotiation_with_everyone_attached() {
        let record = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        let both = record.attach(Role::Responder, &connection(2), 2, None, 200).unwrap();
        let back = both.attach(Role::Initiator, &connection(3), 3, None, 300).unwrap();
        assert_eq!(negotiations(&back), (300, [Some(300), Some(300)]));
        let away = both.detach(&connection(2), PartnerReason::Lost, at(1), ABANDON_AFTER).unwrap();
        let back = away.attach(Role::Initiator, &connection(3), 3, None, 300).unwrap();
        assert_eq!(negotiations(&back), (300, [Some(300), Some(7)]));
        // The responder names one that is not the current one any more.
        let back = back.attach(Role::Responder, &connection(4), 4, Some(7), 400).unwrap();
        assert_eq!(negotiations(&back), (400, [Some(400), Some(400)]));
    }

    #[test]
    fn who_names_the_current_negotiation_and_took_part_in_it_continues_it() {
        let record = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        let record = record.attach(Role::Responder, &connection(2), 2, None, 200).unwrap();
        let back = record.attach(Role::Initiator, &connection(3), 3, Some(7), 300).unwrap();
        assert_eq!(negotiations(&back), (7, [Some(7), Some(7)]));
        assert_eq!(back.revision, 3);
    }

    #[test]
    fn who_did_not_take_part_in_a_negotiation_does_not_continue_it() {
        let record = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        let record = record.attach(Role::Responder, &connection(2), 2, None, 200).unwrap();
        let record =
            record.detach(&connection(2), PartnerReason::Lost, at(1), ABANDON_AFTER).unwrap();
        let record = record.attach(Role::Initiator, &connection(3), 3, None, 300).unwrap();
        let record = record.attach(Role::Responder, &connection(4), 4, Some(300), 400).unwrap();
        assert_eq!(negotiations(&record), (400, [Some(400), Some(400)]));
    }

    #[test]
    fn who_continues_is_the_same_client_and_who_does_not_is_another() {
        let number = |number| NonZeroU64::new(number);
        let client = |record: &SessionRecord| record.participant(Role::Initiator).client;
        let one = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        assert_eq!((client(&one), one.may_continue(Role::Initiator)), (None, false));
        let one = one.with_client(Role::Initiator, number(10));
        assert_eq!((client(&one), one.may_continue(Role::Initiator)), (number(10), true));
        let same = one.attach(Role::Initiator, &connection(2), 2, Some(7), 200).unwrap();
        let same = same.with_client(Role::Initiator, number(20));
        assert_eq!(client(&same), number(10));
        let other = one.attach(Role::Initiator, &connection(2), 2, None, 200).unwrap();
        let other = other.with_client(Role::Initiator, number(20));
        assert_eq!(client(&other), number(20));
        assert_eq!(client(&one.reopen(8, at(90))), number(10));
    }

    #[test]
    fn a_negotiation_continues_with_a_partner_that_can_or_is_absent() {
        let one = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        let one = one.with_client(Role::Initiator, NonZeroU64::new(10));
        let both = one.attach(Role::Responder, &connection(2), 2, None, 200).unwrap();
        assert!(!both.may_continue(Role::Initiator) && !both.may_continue(Role::Responder));
        let able = both.clone().with_client(Role::Responder, NonZeroU64::new(20));
        assert!(able.may_continue(Role::Initiator) && able.may_continue(Role::Responder));
        let away = both.detach(&connection(2), PartnerReason::Lost, at(1), ABANDON_AFTER).unwrap();
        assert!(away.may_continue(Role::Initiator));
    }

    #[test]
    fn a_session_that_is_opened_again_keeps_its_negotiation_and_nobody_is_attached() {
        let record = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        let record = record.attach(Role::Responder, &connection(2), 2, None, 200).unwrap();
        let again = record.reopen(8, at(90));
        assert_eq!((again.opening, again.first_opening, again.revision), (8, 7, 0));
        assert_eq!((again.status(), again.deadline()), (Status::Waiting, Some(at(90))));
        assert_eq!(negotiations(&again), negotiations(&record));
        // A store that has the first opening again has lost the second one.
        assert!(!again.lacks(&record) && record.lacks(&again));
        // The responder may have joined by a write that was lost: then signals of it are on their way.
        let alone = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        let again = alone.reopen(8, at(90));
        let newer = again.attach(Role::Responder, &connection(3), 3, None, 300).unwrap();
        assert_eq!(newer.negotiation, 300);
        let again = record.reopen(8, at(90));
        let back = again.attach(Role::Responder, &connection(2), 2, Some(7), 200).unwrap();
        assert_eq!(negotiations(&back), negotiations(&record));
    }

    #[test]
    fn why_the_last_attachment_ended_is_known_until_the_next_one_ends() {
        let ended = |record: &SessionRecord| record.participant(Role::Initiator).ended;
        let record = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        assert_eq!(ended(&record), None);
        let record =
            record.detach(&connection(1), PartnerReason::Timeout, at(1), ABANDON_AFTER).unwrap();
        assert_eq!(ended(&record), Some(PartnerReason::Timeout));
        let record = record.attach(Role::Initiator, &connection(2), 2, None, 200).unwrap();
        assert_eq!(ended(&record), Some(PartnerReason::Timeout));
        let record = record.attach(Role::Initiator, &connection(3), 3, None, 300).unwrap();
        assert_eq!(ended(&record), Some(PartnerReason::Replaced));
        let record = record.attach(Role::Initiator, &connection(3), 3, None, 300).unwrap();
        assert_eq!(ended(&record), Some(PartnerReason::Lost));
        assert_eq!(record.participant(Role::Responder).ended, None);
    }

    #[test]
    fn what_is_only_said_of_a_session_is_no_part_of_its_state() {
        let record = opened().attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        let mut left =
            record.detach(&connection(1), PartnerReason::Left, at(1), ABANDON_AFTER).unwrap();
        left.metadata = Some(Metadata::new("x").unwrap());
        let lost =
            record.detach(&connection(1), PartnerReason::Lost, at(1), ABANDON_AFTER).unwrap();
        assert!(left.same_state(&lost) && !left.lacks(&lost) && !lost.lacks(&left));
    }

    #[test]
    fn a_store_lacks_what_it_held_and_holds_no_more() {
        let before = opened();
        let attached = before.attach(Role::Initiator, &connection(1), 1, None, 100).unwrap();
        let another = before.attach(Role::Responder, &connection(2), 1, None, 200).unwrap();
        assert!(before.lacks(&attached) && another.lacks(&attached));
        assert!(!attached.lacks(&before) && !attached.lacks(&attached));
        let mut heard = attached.clone();
        heard.participants[0].last_heartbeat = Some(at(1));
        assert!(!heard.lacks(&attached));
    }
}
