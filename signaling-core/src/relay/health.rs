//! Whether the store answers, and whether this node counts as alive for the others.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    store::{Lease, StoreError},
    time::{SteadyClock, Timestamp},
};

#[derive(Debug)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Since when the store has answered without a break; none while it does not.
    well_since: Option<Instant>,
    /// When the lease that the node has was asked for.
    renewed: Instant,
    /// The store's clock, as the lease said.
    clock: SteadyClock,
    /// What the store was then; another one has lost the records of this one.
    generation: u64,
    /// When it was found to be another.
    lost_records: Option<Instant>,
}

impl Health {
    /// The store has just granted the first lease, asked for at `renewed`.
    pub(super) fn new(renewed: Instant, lease: &Lease) -> Self {
        Self(Mutex::new(State {
            well_since: Some(Instant::now()),
            renewed,
            clock: SteadyClock::new(lease.now, renewed),
            generation: lease.generation,
            lost_records: None,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_well(&self) -> bool {
        self.state().well_since.is_some()
    }

    /// Whether the store has answered for at least `span`. Until then, what others could not write
    /// during an outage may still be missing.
    pub(super) fn well_for(&self, span: Duration) -> bool {
        self.state().well_since.is_some_and(|since| since.elapsed() >= span)
    }

    /// The lease was asked for at `at`, and granted; says whether the store's generation is another than
    /// before. One that is answered late says nothing new.
    pub(super) fn renewed(&self, at: Instant, lease: &Lease) -> bool {
        let mut state = self.state();
        if at < state.renewed {
            return false;
        }
        state.renewed = at;
        state.clock = SteadyClock::new(lease.now, at);
        let lost = std::mem::replace(&mut state.generation, lease.generation) != lease.generation;
        if lost {
            state.lost_records = Some(Instant::now());
        }
        lost
    }

    /// Whether the store was found to have lost its records in the last `span`.
    pub(super) fn lost_records_within(&self, span: Duration) -> bool {
        self.state().lost_records.is_some_and(|at| at.elapsed() <= span)
    }

    pub(super) fn store_time(&self) -> Timestamp {
        self.state().clock.now()
    }

    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// How long ago the lease was asked for.
    pub(super) fn lease_age(&self) -> Duration {
        self.state().renewed.elapsed()
    }

    /// Notes whether a call to the store was answered.
    pub(super) fn note<T>(&self, answer: &Result<T, StoreError>) {
        let mut state = self.state();
        match answer {
            Ok(_) if state.well_since.is_none() => {
                tracing::info!("the store answers again");
                state.well_since = Some(Instant::now());
            }
            Err(error) if state.well_since.is_some() => {
                tracing::error!(error = error as &dyn std::error::Error, "the store is away");
                state.well_since = None;
            }
            Ok(_) | Err(_) => {}
        }
    }
}
