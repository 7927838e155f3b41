use tokio::time::Instant;

use crate::time::{Clock, Timestamp};

/// A wall clock that stands still while tokio's time is paused, and jumps with it.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock(Instant);

impl TokioClock {
    /// A clock that starts at an arbitrary moment.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000).after(self.0.elapsed())
    }
}
