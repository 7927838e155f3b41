//! What the clients of one pair did and saw, and what was done to the deployment meanwhile.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::plan::Fault;

/// A moment, since the run began.
pub(crate) type At = Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The matching service, which opens sessions.
    Host,
    /// Participant 0 or 1 of the pair.
    User(usize),
}

/// Something that happened to a pair, in the order in which it happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) at: At,
    pub(crate) who: Who,
    /// Which of the user's connections, from 1.
    pub(crate) connection: u32,
    pub(crate) what: What,
}

/// Sessions of a pair are numbered from 0; signals are numbered for each connection of the sender.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// The host begins to open a session; this participant is to be the initiator.
    Opening {
        session: u32,
        initiator: usize,
    },
    /// A node said that the session is open.
    Opened {
        session: u32,
    },
    /// An attempt to open it failed, which may have been, or yet be, done all the same.
    Unanswered {
        session: u32,
    },
    Dialed {
        node: usize,
    },
    /// The first answer of the server.
    Open,
    MatchFound {
        session: u32,
        initiator: bool,
    },
    PartnerGone {
        session: u32,
        reason: Option<String>,
    },
    Sent {
        session: u32,
        number: u32,
    },
    /// A signal of the partner's connection `from`.
    Got {
        session: u32,
        from: u32,
        number: u32,
    },
    Refused {
        session: Option<u32>,
        code: String,
    },
    /// A heartbeat that names the session.
    Beat {
        session: u32,
    },
    Left {
        session: u32,
    },
    Ended(End),
    /// What no correct server says.
    Odd(String),
}

/// How a connection ended, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client closed it by a close frame.
    Closed,
    /// The client reset the TCP connection.
    Reset,
    /// The client went away and left it open, reading nothing more.
    HalfOpen,
    /// The client gave it up because nothing was answered for 10 s.
    Silent,
    /// The TCP connection broke.
    Lost,
    /// It could not be made.
    Unreachable,
    /// The server closed it.
    Code(u16),
    /// It should have been replaced by a newer one, and was still open a minute later.
    StillOpen,
}

/// A fault as it was carried out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trouble {
    pub(crate) fault: Fault,
    pub(crate) from: At,
    /// [`At::MAX`] while it lasts.
    pub(crate) to: At,
}

/// What `/readyz` of a node said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    pub(crate) node: usize,
    pub(crate) asked: At,
    pub(crate) answered: At,
    pub(crate) ready: bool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The history of one pair while it is written.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    start: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Journal {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, entries: Arc::default() }
    }

    pub(crate) fn note(&self, who: Who, connection: u32, what: What) {
        let mut entries = lock(&self.entries);
        entries.push(Entry { at: self.start.elapsed(), who, connection, what });
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        lock(&self.entries).clone()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:9.3} ", self.at.as_secs_f64())?;
        match self.who {
            Who::Host => write!(f, "host  ")?,
            Who::User(side) => write!(f, "{}#{:<3}", ["ann", "bob"][side], self.connection)?,
        }
        write!(f, "{:?}", self.what)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, lasted) = (self.from.as_secs_f64(), self.to.saturating_sub(self.from));
        write!(f, "{from:9.3} {} for {:.1} s", self.fault, lasted.as_secs_f64())
    }
}
