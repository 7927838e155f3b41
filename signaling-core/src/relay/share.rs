//! How much of a queue that several sessions share one of them may hold: as much as is still free.
//!
//! This is the dynamic threshold of shared-memory switches (Choudhury and Hahne, "Dynamic Queue
//! Length Thresholds for Shared-Memory Packet Switches", IEEE/ACM Transactions on Networking 6(2),
//! 1998). One session gets half of the queue at most, ten get an eleventh each, and a session that
//! has nothing in the queue yet always finds room.

use std::{
    iter::Sum,
    ops::{Add, AddAssign, SubAssign},
};

/// What a queue, or a part of it, holds; also the capacity of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Load {
    /// One message with a text of so many bytes.
    pub(super) const fn message(bytes: usize) -> Self {
        Self { messages: 1, bytes }
    }

    pub(super) const fn fits(self, capacity: Self) -> bool {
        self.messages <= capacity.messages && self.bytes <= capacity.bytes
    }
}

impl Add for Load {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.messages -= other.messages;
        self.bytes -= other.bytes;
    }
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), Self::add)
    }
}

/// Whether a session may add `new` to a queue of `capacity`, of which `used` is taken and `own` is
/// the session's. `own` is asked for only when the queue is more than half full: up to there the
/// answer is yes even if everything in it were the session's.
pub(super) fn has_room(capacity: Load, used: Load, new: Load, own: impl FnOnce() -> Load) -> bool {
    (used + used + new).fits(capacity) || (own() + used + new).fits(capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: Load = Load { messages: 110, bytes: 11_000 };

    /// So many sessions add messages of `bytes`, in turn, until none finds room; what each holds.
    fn fill(sessions: usize, bytes: usize) -> Vec<Load> {
        let mut held = vec![Load::default(); sessions];
        loop {
            let mut added = false;
            for session in 0..sessions {
                let (used, new) = (held.iter().copied().sum(), Load::message(bytes));
                if has_room(CAPACITY, used, new, || held[session]) {
                    held[session] += new;
                    added = true;
                }
            }
            if !added {
                return held;
            }
        }
    }

    #[test]
    fn one_session_gets_half_and_ten_get_an_eleventh_each() {
        assert_eq!(fill(1, 1), [Load { messages: 55, bytes: 55 }]);
        assert_eq!(fill(10, 1), [Load { messages: 10, bytes: 10 }; 10]);
        assert_eq!(fill(1, 500), [Load { messages: 11, bytes: 5500 }]);
        assert_eq!(fill(10, 500), [Load { messages: 2, bytes: 1000 }; 10]);
    }

    #[test]
    fn a_session_that_holds_nothing_finds_room_behind_those_that_hold_all_they_may() {
        for sessions in 1..20 {
            let used = fill(sessions, 1).into_iter().sum();
            assert!(has_room(CAPACITY, used, Load::message(1), Load::default), "{sessions}");
        }
    }

    #[test]
    fn what_one_session_holds_is_not_asked_for_while_half_is_free() {
        let half = Load { messages: 54, bytes: 5499 };
        let asked = || panic!("asked");
        assert!(has_room(CAPACITY, half, Load::message(1), asked));
    }

    #[test]
    fn one_message_may_be_as_large_as_an_empty_queue() {
        let room = |bytes| has_room(CAPACITY, Load::default(), Load::message(bytes), Load::default);
        assert!(room(11_000));
        assert!(!room(11_001));
    }
}
