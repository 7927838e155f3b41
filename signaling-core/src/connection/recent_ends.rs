//! The sessions that have ended last, so that late news of them is known as such.

use std::collections::VecDeque;

const CAPACITY: usize = 8;

/// First openings of sessions, the oldest in front.
#[derive(Debug, Default)]
pub(crate) struct RecentEnds(VecDeque<u64>);

impl RecentEnds {
    pub(crate) fn contains(&self, first_opening: u64) -> bool {
        self.0.contains(&first_opening)
    }

    pub(crate) fn add(&mut self, first_opening: u64) {
        if self.contains(first_opening) {
            return;
        }
        if self.0.len() == CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(first_opening);
    }
}
