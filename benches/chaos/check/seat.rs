//! What one connection was told and told others, session by session.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ABANDONED, Breach, Checked, GAP, LEASE_LEFT, MATCHED, Pair, TOLD, World,
    lives::{Conn, Lives, Session},
};
use crate::{
    history::{At, Entry, What},
    plan::Kind,
};

/// When the partner received a signal of this user, by connection and number.
pub(super) type Arrived = BTreeMap<(u32, u32), At>;

/// One connection, and all that its entries are checked against.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) pair: Pair,
    pub(super) lives: &'a Lives,
    pub(super) world: &'a World<'a>,
    pub(super) conn: &'a Conn,
    pub(super) arrived: &'a Arrived,
}

/// The seats of one connection, while its entries are read in their order.
pub(super) struct Seats<'a> {
    of: Context<'a>,
    seats: BTreeMap<u32, Seat>,
    checked: &'a mut Checked,
    over: bool,
}

#[derive(Debug, Default)]
struct Seat {
    partner: Partner,
    since: At,
    /// Connections of the partner that were heard since the match.
    heard: BTreeSet<u32>,
    /// The last number of each of the partner's connections.
    last: BTreeMap<u32, u32>,
    /// Sent, with nothing said since that would tell of a loss.
    untold: Vec<(u32, At)>,
    /// A heartbeat that the server should answer with `unknown-session`.
    beat: Option<At>,
}

/// What the client has been told of its partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Partner {
    /// Nothing: no match-found yet.
    #[default]
    Unknown,
    Here,
    Absent,
    /// The session has ended, or was left.
    Over,
}

impl<'a> Seats<'a> {
    pub(super) fn new(of: Context<'a>, checked: &'a mut Checked) -> Self {
        Self { of, seats: BTreeMap::new(), checked, over: false }
    }

    fn breach(&mut self, at: At, promise: &'static str, text: &str) {
        let text = format!("{} {text}", self.of.conn.name());
        self.checked.breaches.push(Breach { at, promise, text });
    }

    pub(super) fn see(&mut self, entry: &Entry) {
        let at = entry.at;
        match &entry.what {
            What::MatchFound { session, initiator } => self.match_found(at, *session, *initiator),
            What::PartnerGone { session, reason } => self.gone(at, *session, reason.as_deref()),
            What::Sent { session, number } => {
                self.seats.entry(*session).or_default().untold.push((*number, at));
            }
            What::Got { session, from, number } => self.got(at, *session, *from, *number),
            What::Refused { session, code } => self.refused(at, *session, code),
            What::Beat { session } => {
                let due = self.of.session(*session).and_then(|session| session.is_over);
                let due = due.map(|over| self.of.world.due(over, TOLD, &self.of.conn.nodes()));
                if due.is_some_and(|due| due < at) {
                    self.seats.entry(*session).or_default().beat.get_or_insert(at);
                }
            }
            What::Left { session } => self.becomes(at, *session, Partner::Over),
            What::Ended(_) => {
                self.over = true;
                self.finish_at(at);
            }
            _ => {}
        }
    }

    pub(super) fn finish(mut self) {
        if self.over {
            return;
        }
        let (of, end) = (self.of, self.of.world.end);
        // What is not told yet may still be.
        for (number, seat) in &mut self.seats {
            let session = of.session(*number);
            seat.untold.retain(|(signal, at)| {
                session.is_some_and(|session| of.due(session, *signal, *at) < end)
            });
        }
        self.finish_at(end);
    }

    fn finish_at(&mut self, at: At) {
        for session in self.seats.keys().copied().collect::<Vec<_>>() {
            let beat = self.seats.get(&session).and_then(|seat| seat.beat);
            let due = beat.map(|beat| self.of.world.due(beat, MATCHED, &self.of.conn.nodes()));
            if let Some(due) = due.filter(|due| *due < at) {
                let text = format!("is still taken for a participant of session {session}");
                self.breach(due, "a session ends", &text);
            }
            self.becomes(at, session, Partner::Over);
        }
    }

    fn match_found(&mut self, at: At, number: u32, initiator: bool) {
        let Some(session) = self.of.session(number) else {
            return self.breach(at, "roles", "was matched in an unknown session");
        };
        if initiator != (session.initiator == self.of.conn.side) {
            self.breach(at, "roles", &format!("is in the wrong role in session {number}"));
        }
        let over = session.is_over.map(|over| self.of.world.due(over, TOLD, &self.of.conn.nodes()));
        if over.is_some_and(|over| over < at) {
            self.breach(
                at,
                "a session ends",
                &format!("was matched in session {number} after its end"),
            );
        }
        self.becomes(at, number, Partner::Here);
    }

    fn gone(&mut self, at: At, number: u32, reason: Option<&str>) {
        let partner = self.seats.get(&number).map_or(Partner::Unknown, |seat| seat.partner);
        match partner {
            Partner::Unknown => {
                self.breach(at, "told once", "lost a partner that it never had");
            }
            Partner::Absent => self.breach(at, "told once", "was told twice of one end"),
            Partner::Here if !self.is_explained(number, at) => {
                self.breach(at, "no live user is given up", "lost a partner that was there");
            }
            Partner::Here => {}
            Partner::Over => return,
        }
        if reason.is_some() != self.of.pair.v1[self.of.conn.side] {
            self.breach(
                at,
                "a message of the protocol",
                &format!("was told the reason {reason:?}"),
            );
        }
        self.becomes(at, number, Partner::Absent);
    }

    /// Whether anything happened from which the partner could be taken for gone, other than what led
    /// to the connection on which it was heard.
    fn is_explained(&self, number: u32, at: At) -> bool {
        let (Some(session), Some(seat)) = (self.of.session(number), self.seats.get(&number)) else {
            return false;
        };
        let (since, heard) = (seat.since, seat.heard.last().copied().unwrap_or(0));
        let (other, late) = (1 - self.of.conn.side, at + self.of.world.slack);
        let moved = |moment: At| since <= moment && moment <= late;
        let attached = &session.attached[other];
        let mut nodes = self.of.conn.nodes();
        nodes.extend(attached.iter().filter(|one| one.from <= late).filter_map(|one| one.node));
        session.may_be_over.is_some_and(|over| over <= late)
            || session.attached_at(other, at).is_none()
            || attached.iter().any(|one| one.connection > heard && moved(one.from))
            || attached.iter().any(|one| one.connection >= heard && moved(one.to))
            || self.of.lives.conns[other]
                .iter()
                .any(|conn| conn.number > heard && moved(conn.dialed))
            || self.of.world.had(at.saturating_sub(TOLD), at, |trouble| {
                let hit = trouble.fault.node.is_some_and(|node| nodes.contains(&node));
                let long = trouble.to.saturating_sub(trouble.from) >= LEASE_LEFT;
                hit && (long || matches!(trouble.fault.kind, Kind::Kill | Kind::Terminate))
            })
    }

    fn got(&mut self, at: At, number: u32, from: u32, signal: u32) {
        let what = format!("{signal} of the partner's #{from} in session {number}");
        if !self.checked.received.insert((self.of.conn.side, from, signal)) {
            self.breach(at, "order: never twice", &format!("received twice: {what}"));
        }
        let seat = self.seats.entry(number).or_default();
        let partner = seat.partner;
        seat.heard.insert(from);
        let last = seat.last.insert(from, signal);
        if last.is_some_and(|last| last > signal) {
            self.breach(at, "order", &format!("received after a later one: {what}"));
        }
        if matches!(partner, Partner::Unknown | Partner::Absent) {
            self.breach(at, "signals of a partner", &format!("received with no partner: {what}"));
        }
    }

    fn refused(&mut self, at: At, session: Option<u32>, code: &str) {
        let known = session.and_then(|number| self.of.session(number));
        match (code, known) {
            ("unavailable", Some(session)) => self.tell(at, session.number),
            ("partner-absent", Some(session)) => {
                let here = self.seats.get(&session.number).map(|seat| seat.partner);
                match here {
                    Some(Partner::Here) => self.becomes(at, session.number, Partner::Absent),
                    _ => self.tell(at, session.number),
                }
            }
            ("unknown-session", Some(session)) => {
                let may = session.may_be_over.is_some_and(|over| over <= at + self.of.world.slack);
                if !may {
                    let text = format!("lost session {}, which was not ended", session.number);
                    self.breach(at, "a session lasts", &text);
                }
                if let Some(seat) = self.seats.get_mut(&session.number) {
                    seat.beat = None;
                }
                self.becomes(at, session.number, Partner::Over);
            }
            _ => {
                self.breach(at, "errors", &format!("was refused with {code}, session {session:?}"))
            }
        }
    }

    /// The client learns something: whatever it has sent so far it may know to be lost.
    fn tell(&mut self, at: At, number: u32) {
        let (Some(session), Some(seat)) = (self.of.session(number), self.seats.get_mut(&number))
        else {
            return;
        };
        let mut untold = std::mem::take(&mut seat.untold);
        untold.retain(|(signal, _)| !self.of.arrived.contains_key(&(self.of.conn.number, *signal)));
        self.checked.lost += untold.len();
        let of = self.of;
        let due = |(signal, sent): &(u32, At)| of.due(session, *signal, *sent);
        untold.retain(|signal| due(signal) < at);
        if let Some((signal, sent)) = untold.first() {
            let text = format!(
                "sent {signal} in session {number} at {:.3}, which never arrived, and was not told \
                 ({} such signals)",
                sent.as_secs_f64(),
                untold.len(),
            );
            self.breach(due(&(*signal, *sent)), "outcome", &text);
        }
    }

    /// What the client knows of its partner changes; what it should have been told before is looked at.
    fn becomes(&mut self, at: At, number: u32, partner: Partner) {
        self.tell(at, number);
        let Some(session) = self.of.session(number) else {
            return;
        };
        let seat = self.seats.entry(number).or_default();
        let (was, since) = (seat.partner, seat.since);
        let heard = std::mem::take(&mut seat.heard);
        (seat.partner, seat.since) = (partner, at);
        let other = 1 - self.of.conn.side;
        let attached = &session.attached[other];
        match was {
            Partner::Here => {
                let ends = attached.iter().filter(|one| heard.contains(&one.connection));
                let ends = ends.map(|one| one.to).chain(session.is_over);
                if partner == Partner::Absent {
                    let told = ends.clone().map(|end| at.saturating_sub(end.max(since))).max();
                    self.checked.told = self.checked.told.max(told.unwrap_or_default());
                }
                let due =
                    ends.map(|end| self.of.world.due(end.max(since), TOLD, &self.of.conn.nodes()));
                if let Some(due) = due.min().filter(|due| *due < at) {
                    let text = format!(
                        "was not told of its partner's end in session {number} before {:.3}",
                        at.as_secs_f64()
                    );
                    self.breach(due, "told within 30 s", &text);
                }
            }
            Partner::Absent => {
                let missed = attached.iter().find_map(|one| {
                    let mut nodes = self.of.conn.nodes();
                    nodes.extend(one.node);
                    let due = self.of.world.due(one.from.max(since), MATCHED, &nodes);
                    let over = session.may_be_over.is_some_and(|over| over <= due);
                    (one.to.min(at) > due && !over).then_some(due)
                });
                if let Some(due) = missed {
                    let text = format!("was not matched again in session {number}");
                    self.breach(due, "match-found for both", &text);
                }
            }
            Partner::Unknown | Partner::Over => {}
        }
    }
}

impl<'a> Context<'a> {
    fn session(&self, number: u32) -> Option<&'a Session> {
        self.lives.sessions.iter().find(|session| session.number == number)
    }

    /// By when `signal`, sent at `at`, has arrived, or its sender knows that it has not.
    fn due(&self, session: &Session, signal: u32, at: At) -> At {
        let (other, own) = (1 - self.conn.side, self.conn.nodes());
        let from = match session.attached_at(other, at) {
            Some(_) => at,
            // It waits for a partner who is away.
            None => {
                let attached = &session.attached[other];
                let back = attached.iter().map(|one| one.from).find(|from| *from >= at);
                let ended = attached.iter().map(|one| one.to).filter(|to| *to <= at).max();
                let opened = session.opened.unwrap_or_default();
                let abandoned = ended.unwrap_or(opened).max(opened) + ABANDONED;
                back.unwrap_or(At::MAX).min(abandoned.max(at))
            }
        };
        let due = self.world.due(from, TOLD, &own);
        // The receiver of a later one knows that this one is lost.
        let later = (self.conn.number, signal + 1)..(self.conn.number + 1, 0);
        let later = self.arrived.range(later).next().map(|(_, later)| *later);
        later.map_or(due, |later| {
            let partner = session.attached_at(other, later).and_then(|one| one.node);
            let nodes: Vec<_> = own.into_iter().chain(partner).collect();
            due.min(self.world.due(later, GAP, &nodes))
        })
    }
}
