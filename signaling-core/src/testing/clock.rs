use std::time::Duration;

use tokio::time::Instant;

use crate::time::{Clock, Timestamp};

/// A wall clock that stands still while tokio's time is paused, and jumps with it.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    started: Instant,
    showed: Timestamp,
}

impl TokioClock {
    /// A clock that starts at an arbitrary moment.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), showed: Timestamp::from_millis(1_700_000_000_000) }
    }

    /// The clock of a machine whose time is wrong: ahead by so much.
    #[must_use]
    pub fn ahead_by(self, span: Duration) -> Self {
        Self { showed: self.showed.after(span), ..self }
    }

    /// The same, behind by so much.
    #[must_use]
    pub fn behind_by(self, span: Duration) -> Self {
        let showed = self.showed.since(Timestamp::default().after(span));
        Self { showed: Timestamp::default().after(showed), ..self }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.showed.after(self.started.elapsed())
    }
}
