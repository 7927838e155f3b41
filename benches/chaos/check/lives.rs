//! Who was there when: the connections and sessions of a pair, drawn from its history.

use std::time::Duration;

use super::{ABANDONED, TOLD, World};
use crate::history::{At, End, Entry, What, Who};

/// One connection of a user.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) side: usize,
    pub(super) number: u32,
    node: Option<usize>,
    pub(super) dialed: At,
    pub(super) open: Option<At>,
    matches: Vec<(u32, At)>,
    pub(super) ended: Option<(At, End)>,
}

/// One session of the pair.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) number: u32,
    pub(super) initiator: usize,
    pub(super) opened: Option<At>,
    /// From when on it may have ended.
    pub(super) may_be_over: Option<At>,
    /// From when on it has ended for certain.
    pub(super) is_over: Option<At>,
    /// For each participant on which connections it was, and from when to when.
    pub(super) attached: [Vec<Attached>; 2],
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Attached {
    pub(super) connection: u32,
    pub(super) node: Option<usize>,
    pub(super) from: At,
    pub(super) to: At,
}

#[derive(Debug, Default)]
pub(super) struct Lives {
    pub(super) conns: [Vec<Conn>; 2],
    pub(super) sessions: Vec<Session>,
}

impl Conn {
    pub(super) fn name(&self) -> String {
        format!("{}#{}", ["ann", "bob"][self.side], self.number)
    }

    pub(super) fn nodes(&self) -> Vec<usize> {
        self.node.into_iter().collect()
    }

    pub(super) fn until(&self, world: &World<'_>) -> At {
        self.ended.map_or(world.end, |(at, _)| at)
    }

    pub(super) fn matched(&self, session: u32) -> Option<At> {
        self.matches.iter().find(|(of, _)| *of == session).map(|(_, at)| *at)
    }
}

impl Lives {
    pub(super) fn of(entries: &[Entry], world: &World<'_>) -> Self {
        let mut lives = Self::default();
        for entry in entries {
            match entry.who {
                Who::Host => lives.host(entry),
                Who::User(side) => lives.user(side, entry),
            }
        }
        let Self { conns, sessions } = &mut lives;
        for session in sessions {
            session.attach(conns, world);
            session.end(conns, entries, world);
        }
        lives
    }

    fn host(&mut self, entry: &Entry) {
        match entry.what {
            What::Opening { session: number, initiator } => self.sessions.push(Session {
                number,
                initiator,
                opened: None,
                may_be_over: None,
                is_over: None,
                attached: [Vec::new(), Vec::new()],
            }),
            What::Opened { .. } => {
                if let Some(session) = self.sessions.last_mut() {
                    session.opened = Some(entry.at);
                }
            }
            _ => {}
        }
    }

    fn user(&mut self, side: usize, entry: &Entry) {
        let conns = &mut self.conns[side];
        let node = match entry.what {
            What::Dialed { node } => Some(node),
            _ => None,
        };
        let at = conns.iter().position(|conn| conn.number == entry.connection);
        let at = at.unwrap_or_else(|| {
            conns.push(Conn {
                side,
                number: entry.connection,
                node,
                dialed: entry.at,
                open: None,
                matches: Vec::new(),
                ended: None,
            });
            conns.len() - 1
        });
        match entry.what {
            What::Open => conns[at].open = Some(entry.at),
            What::MatchFound { session, .. } => conns[at].matches.push((session, entry.at)),
            What::Ended(end) => conns[at].ended = Some((entry.at, end)),
            _ => {}
        }
    }
}

impl Session {
    fn attach(&mut self, conns: &[Vec<Conn>; 2], world: &World<'_>) {
        for (attached, conns) in self.attached.iter_mut().zip(conns) {
            for conn in conns {
                let Some(from) = conn.matched(self.number) else {
                    continue;
                };
                if let Some(before) = attached.last_mut() {
                    let before: &mut Attached = before;
                    before.to = before.to.min(from);
                }
                let to = conn.until(world);
                attached.push(Attached { connection: conn.number, node: conn.node, from, to });
            }
        }
    }

    fn end(&mut self, conns: &[Vec<Conn>; 2], entries: &[Entry], world: &World<'_>) {
        let opening = |entry: &&Entry| matches!(entry.what, What::Opening { session, .. } if session == self.number);
        let opening = entries.iter().find(opening).map_or(At::MAX, |entry| entry.at);
        let left =
            |entry: &&Entry| matches!(entry.what, What::Left { session } if session == self.number);
        let mut may_be = entries.iter().find(left).map(|entry| entry.at);
        // Who left is told of the end when it asks again.
        let mut is = entries.iter().filter(left).find_map(|left| {
            let confirmed = |entry: &&Entry| {
                entry.who == left.who
                    && entry.at >= left.at
                    && matches!(&entry.what, What::Refused { session: Some(session), code }
                        if *session == self.number && code == "unknown-session")
            };
            entries.iter().find(confirmed).map(|entry| entry.at)
        });
        let earlier = |one: Option<At>, other| Some(one.map_or(other, |one: At| one.min(other)));
        for (attached, conns) in self.attached.iter().zip(conns) {
            let mut away = opening;
            for next in attached.iter().map(Some).chain([None]) {
                let (back, to) = next.map_or((world.end, world.end), |next| (next.from, next.to));
                if back.saturating_sub(away) > ABANDONED - Duration::from_secs(5) {
                    may_be = earlier(may_be, away + ABANDONED - Duration::from_secs(5));
                }
                // A node may have attached a connection whose client never heard of it; and an end
                // without a word is noticed 30 s later.
                let dialed = conns.iter().map(|conn| conn.dialed).filter(|dialed| *dialed >= away);
                let gone = dialed.chain([back]).min().unwrap_or(back).saturating_sub(away);
                let over = away + ABANDONED + TOLD;
                // During an outage no session is abandoned; a user who returns by its end is still in it.
                let went_on = next.is_some_and(|next| {
                    back <= world.due(away + ABANDONED, TOLD, next.node.as_slice())
                });
                if gone > ABANDONED + TOLD && !went_on {
                    is = earlier(is, over);
                }
                away = to;
            }
        }
        // An attempt to open it that was given up may open it again.
        let unanswered = |entry: &Entry| matches!(entry.what, What::Unanswered { session } if session == self.number);
        let is = is.filter(|_| !entries.iter().any(unanswered));
        (self.may_be_over, self.is_over) = (may_be, is);
    }

    /// Where `side` was at `at`.
    pub(super) fn attached_at(&self, side: usize, at: At) -> Option<&Attached> {
        self.attached[side].iter().find(|one| one.from <= at && at < one.to)
    }
}
