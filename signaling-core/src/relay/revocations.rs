//! Revocations of tokens that this node has written, kept until they expire.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::{id::UserId, time::Timestamp};

/// Kept until they end, to be written again if the store loses them. Each takes about 100 bytes; a host decides
/// how many there are.
#[derive(Debug, Default)]
pub(super) struct Revocations(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    users: BTreeMap<UserId, Revocation>,
    /// Those that have ended are removed when there are so many.
    clean_up_at: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Revocation {
    pub(super) issued_before: Timestamp,
    /// By the store's clock.
    pub(super) until: Timestamp,
}

/// The fewest among which ended ones are looked for.
const LEAST_CLEAN_UP: usize = 1024;

impl Revocations {
    pub(super) fn add(&self, user: &UserId, new: Revocation, now: Timestamp) {
        let state = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = state.users.entry(user.clone()).or_insert(new);
        there.issued_before = there.issued_before.max(new.issued_before);
        there.until = there.until.max(new.until);
        if state.users.len() >= state.clean_up_at.max(LEAST_CLEAN_UP) {
            state.users.retain(|_, revocation| revocation.until > now);
            // So that each one added pays for looking at two.
            state.clean_up_at = 2 * state.users.len();
        }
    }

    pub(super) fn all(&self) -> Vec<(UserId, Revocation)> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.users.iter().map(|(user, revocation)| (user.clone(), *revocation)).collect()
    }
}
