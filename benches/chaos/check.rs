//! What of DESIGN.md, sections 5 and 6, did not hold, by what the clients of one pair saw. Pure.
//!
//! Times are the clients', so a deadline has the run's slack; it starts again at the end of each trouble
//! that kept the store or a node concerned from acting.

mod lives;
mod readiness;
mod seat;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, fmt, time::Duration};

use self::{
    lives::{Conn, Lives},
    seat::{Arrived, Context, Seats},
};
use crate::{
    history::{At, End, Entry, Trouble, What, Who},
    plan::Kind,
};

pub(crate) use readiness::readiness;

/// In which a partner is told of an end.
const TOLD: Duration = Duration::from_secs(30);
/// In which both are matched when both are there: a heartbeat finds out what a lost notice did not say.
const MATCHED: Duration = Duration::from_secs(20);
/// In which all is well after the last fault.
pub(crate) const RECOVERED: Duration = Duration::from_secs(45);
/// For how long a session waits for a participant.
const ABANDONED: Duration = Duration::from_secs(60);
/// How much of a node's lease is left at least when its renewal is due, less a tick.
const LEASE_LEFT: Duration = Duration::from_secs(9);
/// In which the sender is told of a signal that was lost before one that arrived.
const GAP: Duration = Duration::from_secs(10);
/// Clients give a server up that answers nothing for this long.
const SILENCE: Duration = Duration::from_secs(20);

/// A broken promise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Breach {
    pub(crate) at: At,
    pub(crate) promise: &'static str,
    pub(crate) text: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:9.3} {}: {}", self.at.as_secs_f64(), self.promise, self.text)
    }
}

/// What a run was.
#[derive(Debug)]
pub(crate) struct World<'a> {
    /// In the order in which they began.
    pub(crate) troubles: &'a [Trouble],
    /// How much later than it happened something may be noticed, for lack of processor time.
    pub(crate) slack: Duration,
    /// The end of the last fault.
    pub(crate) healed: At,
    /// The end of the history.
    pub(crate) end: At,
}

impl World<'_> {
    /// The deadline of what `nodes` must do within `limit` after `from`, without the time of troubles.
    fn due(&self, from: At, limit: Duration, nodes: &[usize]) -> At {
        let mut due = from + limit + self.slack;
        for trouble in self.troubles {
            let fault = &trouble.fault;
            let hits = nodes.iter().any(|node| fault.is_outage_for(*node) || fault.stops(*node));
            if hits && trouble.from < due && trouble.to > from {
                due = due.max(trouble.to.saturating_add(limit + self.slack));
            }
        }
        due
    }

    /// Whether a trouble that `is` of the kind meant lay between the two moments.
    fn had(&self, from: At, to: At, is: impl Fn(&Trouble) -> bool) -> bool {
        let (from, to) = (from.saturating_sub(self.slack), to + self.slack);
        self.troubles.iter().any(|trouble| trouble.from <= to && from <= trouble.to && is(trouble))
    }
}

/// What a pair is, beside its history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    /// Which of the two speaks `signaling.v1`.
    pub(crate) v1: [bool; 2],
}

/// What came out of the history of a pair.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) breaches: Vec<Breach>,
    /// Signals that did not arrive.
    pub(crate) lost: usize,
    /// The longest time in which a user was told of its partner's end.
    pub(crate) told: Duration,
    /// All signals that were received so far, by side, the sender's connection and number.
    received: HashSet<(usize, u32, u32)>,
}

/// Finds all that was promised to a pair and did not hold.
pub(crate) fn check(pair: Pair, entries: &[Entry], world: &World<'_>) -> Checked {
    let lives = Lives::of(entries, world);
    let mut checked = Checked::default();
    for side in 0..2 {
        let mut arrived = Arrived::new();
        for entry in entries.iter().filter(|entry| entry.who == Who::User(1 - side)) {
            if let What::Got { from, number, .. } = entry.what {
                arrived.entry((from, number)).or_insert(entry.at);
            }
        }
        for (nth, conn) in lives.conns[side].iter().enumerate() {
            let own =
                |entry: &&Entry| entry.who == Who::User(side) && entry.connection == conn.number;
            let of = Context { pair, lives: &lives, world, conn, arrived: &arrived };
            let mut seats = Seats::new(of, &mut checked);
            entries.iter().filter(own).for_each(|entry| seats.see(entry));
            seats.finish();
            let newer = lives.conns[side].get(nth + 1);
            checked.breaches.extend(end_of(conn, newer, world));
            checked.breaches.extend(unmatched(conn, newer, &lives, world));
        }
        checked.breaches.extend(recovery(side, entries, world));
    }
    for entry in entries {
        if let What::Odd(text) = &entry.what {
            let (promise, text) = ("a message of the protocol", text.clone());
            checked.breaches.push(Breach { at: entry.at, promise, text });
        }
    }
    checked.breaches.sort_by_key(|breach| breach.at);
    checked
}

/// Whether a connection ended in a way for which there was a reason.
fn end_of(conn: &Conn, newer: Option<&Conn>, world: &World<'_>) -> Option<Breach> {
    let newer = newer.map(|newer| (newer.dialed, newer.open));
    let breach = |at, promise, text: String| {
        let text = format!("{} {text}", conn.name());
        Some(Breach { at, promise, text })
    };
    // Read on after a newer one was there.
    let (at, end) = conn.ended.unwrap_or((world.end, End::StillOpen));
    if let Some((_, Some(open))) = newer {
        let due = world.due(open, TOLD, &conn.nodes());
        if at > due {
            return breach(due, "one connection per user", "is open beside a newer one".into());
        }
    }
    conn.ended?;
    let secs = Duration::from_secs;
    let had = |before, is: &dyn Fn(&Trouble) -> bool| world.had(at.saturating_sub(before), at, is);
    let stopped = |trouble: &Trouble| conn.nodes().iter().any(|node| trouble.fault.stops(*node));
    let out =
        |trouble: &Trouble| conn.nodes().iter().any(|node| trouble.fault.is_outage_for(*node));
    let reason = match end {
        End::Closed | End::Reset | End::HalfOpen | End::StillOpen | End::Unreachable => true,
        End::Silent => had(2 * SILENCE, &|trouble| stopped(trouble) || out(trouble)),
        End::Lost => had(secs(5), &stopped),
        End::Code(1001) => {
            had(secs(5), &|trouble| stopped(trouble) && trouble.fault.kind == Kind::Terminate)
        }
        // One that is only read on sends no heartbeats.
        End::Code(4408) => newer.is_some() || had(secs(40), &stopped),
        End::Code(4409) => {
            if newer.is_none_or(|(dialed, _)| dialed > at) {
                let text = "was closed with 4409, and no newer one was dialed".into();
                return breach(at, "one connection per user", text);
            }
            true
        }
        End::Code(4503) => had(secs(15), &|trouble| stopped(trouble) || out(trouble)),
        End::Code(_) => false,
    };
    if reason {
        return None;
    }
    breach(at, "a connection lasts", format!("ended without a fault that explains it: {end:?}"))
}

/// Who is connected gets the match of every session that waits for it.
fn unmatched(
    conn: &Conn,
    newer: Option<&Conn>,
    lives: &Lives,
    world: &World<'_>,
) -> Option<Breach> {
    let open = conn.open?;
    let until = conn.until(world).min(newer.map_or(At::MAX, |newer| newer.dialed));
    lives.sessions.iter().find_map(|session| {
        let from = open.max(session.opened?);
        let due = world.due(from, MATCHED, &conn.nodes());
        let matched = conn.matched(session.number);
        let over = session.may_be_over.is_some_and(|over| over <= due);
        let missing = matched.is_none_or(|at| at > due) && until > due && !over;
        missing.then(|| Breach {
            at: due,
            promise: "match-found for who is connected",
            text: format!("{} is there and session {} is open", conn.name(), session.number),
        })
    })
}

/// After the last fault both hear each other again.
fn recovery(side: usize, entries: &[Entry], world: &World<'_>) -> Option<Breach> {
    let due = world.healed + RECOVERED + world.slack;
    let heard = entries.iter().rev().any(|entry| {
        entry.at >= due && entry.who == Who::User(side) && matches!(entry.what, What::Got { .. })
    });
    if heard || world.end < due {
        return None;
    }
    let text = format!("{} hears nothing of its partner", ["ann", "bob"][side]);
    Some(Breach { at: due, promise: "recovery", text })
}
