//! What the clients saw, and what of it must hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use tokio::time::Instant;

use super::{Summary, actor::Actor};
use crate::{
    id::{SessionId, UserId},
    protocol::Dialect,
    reason::PartnerReason,
    session::{SessionRecord, Status},
};

/// A signal of a simulated client: which of its connections sent it, and as its how-manieth in the
/// session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SignalName {
    pub(super) actor: usize,
    pub(super) number: u64,
}

impl SignalName {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (actor, number) = text.split_once('/')?;
        Some(Self { actor: actor.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.actor, self.number)
    }
}

/// Something that a client did or saw.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    MatchFound {
        session: SessionId,
        partner: UserId,
    },
    PartnerDisconnected {
        session: SessionId,
        reason: Option<PartnerReason>,
    },
    Sent {
        session: SessionId,
        signal: SignalName,
    },
    Got {
        session: SessionId,
        signal: SignalName,
        at: Instant,
    },
    Refused {
        session: SessionId,
    },
    Left {
        session: SessionId,
    },
    Closed,
    /// The server closed with 4413.
    TooSlow,
    Over,
}

/// What a connection has to do with one session.
#[derive(Default)]
struct Thread {
    has_partner: bool,
    /// The last signal of each of the partner's connections.
    heard: BTreeMap<usize, u64>,
    /// Sent, with nothing said since that would excuse a loss.
    unexcused: BTreeSet<SignalName>,
}

pub(super) fn check(actors: &[Actor], records: &BTreeMap<SessionId, SessionRecord>) {
    let delivered: BTreeSet<_> = actors.iter().flat_map(Actor::entries).filter_map(got).collect();
    for actor in actors {
        check_reasons(actor, actors);
        let unexcused = follow(actor);
        for (session, signal) in unexcused {
            // A signal for a partner that has never come, or not since, waits for it.
            let kept = records.get(&session).is_some_and(|r| r.status() == Status::Waiting);
            assert!(
                kept || delivered.contains(&(session.clone(), signal)),
                "signal {signal} in {session} got lost, and its sender was not told: {:#?}",
                actor.entries()
            );
        }
    }
}

/// Who asked for it is told why, nobody else is, and nobody is told what was not so.
fn check_reasons(actor: &Actor, actors: &[Actor]) {
    let mut partners = BTreeMap::new();
    for entry in actor.entries() {
        let (session, reason) = match entry {
            Entry::MatchFound { session, partner } => {
                partners.insert(session, partner);
                continue;
            }
            Entry::PartnerDisconnected { session, reason } => (session, reason),
            _ => continue,
        };
        assert_eq!(reason.is_some(), actor.dialect == Dialect::V1, "{reason:?} for {}", actor.user);
        let partner = &partners[&session];
        let of_partner = || actors.iter().filter(|other| other.user == *partner);
        let so = match reason {
            Some(PartnerReason::Left) => {
                of_partner().flat_map(Actor::entries).any(|did| match did {
                    Entry::Left { session: left } => left == session,
                    did => matches!(did, Entry::Closed),
                })
            }
            Some(PartnerReason::Replaced) => of_partner().count() > 1,
            _ => true,
        };
        assert!(
            so,
            "{} was told that {partner} in {session} {reason:?}: {:#?}",
            actor.user,
            actor.entries()
        );
    }
}

fn got(entry: Entry) -> Option<(SessionId, SignalName)> {
    match entry {
        Entry::Got { session, signal, .. } => Some((session, signal)),
        _ => None,
    }
}

/// Checks what one connection saw, and gives what it sent without being told of a loss.
fn follow(actor: &Actor) -> Vec<(SessionId, SignalName)> {
    let mut threads: BTreeMap<SessionId, Thread> = BTreeMap::new();
    let entries = actor.entries();
    let wrong = |what: &str, session: &SessionId, at: usize| -> ! {
        panic!("actor {} in {session}, entry {at}: {what}: {entries:#?}", actor.number)
    };
    for (at, entry) in entries.iter().enumerate() {
        match entry {
            Entry::MatchFound { session, .. } => {
                let thread = threads.entry(session.clone()).or_default();
                thread.has_partner = true;
                thread.unexcused.clear();
            }
            Entry::PartnerDisconnected { session, .. } => {
                let thread = threads.entry(session.clone()).or_default();
                if !std::mem::replace(&mut thread.has_partner, false) {
                    wrong("a partner was lost that was not there", session, at);
                }
                thread.unexcused.clear();
            }
            Entry::Got { session, signal, .. } => {
                let thread = threads.entry(session.clone()).or_default();
                if !thread.has_partner {
                    wrong("a signal of an absent partner", session, at);
                }
                let last = thread.heard.insert(signal.actor, signal.number);
                if last.is_some_and(|last| last >= signal.number) {
                    wrong("a signal came twice or out of order", session, at);
                }
            }
            Entry::Sent { session, signal } => {
                threads.entry(session.clone()).or_default().unexcused.insert(*signal);
            }
            Entry::Refused { session } => {
                threads.entry(session.clone()).or_default().unexcused.clear();
            }
            // The session that it left is over for it, whatever is on its way.
            Entry::Left { session } => {
                threads.entry(session.clone()).or_default().unexcused.clear();
            }
            Entry::TooSlow => panic!("actor {} reads, and was closed: {entries:#?}", actor.number),
            Entry::Closed | Entry::Over => return Vec::new(),
        }
    }
    let left = |(session, thread): (SessionId, Thread)| {
        thread.unexcused.into_iter().map(move |signal| (session.clone(), signal))
    };
    threads.into_iter().flat_map(left).collect()
}

pub(super) fn summary(actors: &[Actor]) -> Summary {
    let mut summary = Summary { connections: actors.len(), ..Summary::default() };
    for entry in actors.iter().flat_map(Actor::entries) {
        match entry {
            Entry::Sent { .. } => summary.sent += 1,
            Entry::Got { .. } => summary.delivered += 1,
            Entry::PartnerDisconnected { .. } => summary.losses += 1,
            _ => {}
        }
    }
    summary
}
