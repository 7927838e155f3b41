//! Whether the store serves this node, whether the node counts as alive for the others, and what time
//! it is in the store.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    config::Config,
    id::NodeId,
    store::{Accepted, Counts, Lease, StoreError},
    time::{SteadyClock, Timestamp},
};

/// How long the store may take to renew a lease before this node is not ready: with the pause between two
/// renewals it stays below 2 s by default, and is above the answers of a slow store that still serves.
const ANSWER_LIMIT: Duration = Duration::from_millis(1_600);

/// Upper bound of the error from truncating two times to whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Health {
    /// A lease that was asked for longer ago than this shows that the store does not serve.
    fresh_for: Duration,
    /// How long a lease is relied on, and how long after an outage nobody is given up.
    relied_on_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the lease that the node has was asked for.
    renewed: Instant,
    /// What the node said with it that it has.
    reported: Counts,
    /// Whether the store refused to renew it once more.
    not_renewed: bool,
    /// When the store or the bus last refused to write something else.
    refused: Option<Instant>,
    /// Since when leases have been renewed without a gap in which the node was not ready.
    steady_since: Instant,
    /// Upper bound of the store's time: the lease said it, counted from when it was asked for.
    clock: SteadyClock,
    /// Lower bound of the store's time: the same, counted from when the lease was granted.
    clock_lower: SteadyClock,
    /// What the store was then; another one has lost the records of this one.
    generation: u64,
    /// The nodes that had no lease then.
    lost: Vec<NodeId>,
    /// When it was found to be another.
    lost_records: Option<Instant>,
}

impl Health {
    /// The store has just granted the first lease, asked for at `renewed`.
    pub(super) fn new(renewed: Instant, lease: &Lease, config: &Config) -> Self {
        Self {
            fresh_for: config.node_renewal + ANSWER_LIMIT,
            relied_on_for: config.node_lease * 2 / 3,
            state: Mutex::new(State {
                renewed,
                reported: Counts::default(),
                not_renewed: false,
                refused: None,
                steady_since: Instant::now(),
                clock: SteadyClock::new(lease.now, renewed),
                clock_lower: SteadyClock::new(lease.now, Instant::now()),
                generation: lease.generation,
                lost: Vec::new(),
                lost_records: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store serves this node: it has renewed the lease lately, and has refused nothing, which
    /// it may do with some writes alone. No task has to run for the answer to become no.
    pub(super) fn is_well(&self) -> bool {
        let state = self.state();
        let over = |at: Instant| at.elapsed() > self.fresh_for;
        !state.not_renewed && !over(state.renewed) && state.refused.is_none_or(over)
    }

    /// The lease was not renewed.
    pub(super) fn not_renewed(&self, error: &StoreError) {
        if matches!(error, StoreError::Refused(_)) {
            self.state().not_renewed = true;
        }
    }

    /// Notes a call that failed, other than that for the lease.
    pub(super) fn note(&self, error: &StoreError) {
        if matches!(error, StoreError::Refused(_)) {
            self.refused();
        }
    }

    /// The store or the bus refused to write.
    pub(super) fn refused(&self) {
        let (mut state, now) = (self.state(), Instant::now());
        (state.refused, state.steady_since) = (Some(now), now);
    }

    /// Whether the store has served for so long that what others could not write during an outage is
    /// written by now.
    pub(super) fn is_settled(&self) -> bool {
        self.is_well() && self.state().steady_since.elapsed() >= self.relied_on_for
    }

    /// The lease was asked for at `at`, with what the node has, and granted; says whether the store's
    /// generation is another than before. One that is answered late says nothing new.
    pub(super) fn renewed(&self, at: Instant, reported: Counts, lease: &Lease) -> bool {
        let mut state = self.state();
        if at < state.renewed {
            return false;
        }
        if at.duration_since(state.renewed) > self.fresh_for || state.not_renewed {
            state.steady_since = Instant::now();
        }
        (state.renewed, state.reported, state.not_renewed) = (at, reported, false);
        state.clock = SteadyClock::new(lease.now, at);
        state.clock_lower = SteadyClock::new(lease.now, Instant::now());
        state.lost.clone_from(&lease.lost);
        let lost = std::mem::replace(&mut state.generation, lease.generation) != lease.generation;
        if lost {
            // Leases and deadlines of an older state of the store have run out.
            let now = Instant::now();
            (state.lost_records, state.steady_since) = (Some(now), now);
        }
        lost
    }

    /// The nodes without a lease, by one that was asked for after `moment`.
    pub(super) fn lost_after(&self, moment: Instant) -> Vec<NodeId> {
        let state = self.state();
        if state.renewed > moment { state.lost.clone() } else { Vec::new() }
    }

    /// Whether the store was found to have lost its records in the last `span`.
    pub(super) fn lost_records_within(&self, span: Duration) -> bool {
        self.state().lost_records.is_some_and(|at| at.elapsed() <= span)
    }

    pub(super) fn store_time(&self) -> Timestamp {
        self.state().clock.now()
    }

    /// Converts the time at which a connection was accepted to the store's clock. Its token was issued at
    /// `issued_at` by the clock of its issuer.
    pub(super) fn accepted(&self, at: Instant, issued_at: Timestamp) -> Accepted {
        let state = self.state();
        Accepted {
            earliest: state.clock_lower.at(at).before(ROUNDING),
            latest: state.clock.at(at).after(ROUNDING),
            issued_at,
        }
    }

    /// What the store counts for this node.
    pub(super) fn reported(&self) -> Counts {
        self.state().reported
    }

    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// How long ago the lease was asked for.
    pub(super) fn lease_age(&self) -> Duration {
        self.state().renewed.elapsed()
    }

    /// Whether the lease will not run out before a write that begins now is done.
    pub(super) fn has_lease(&self) -> bool {
        self.lease_age() < self.relied_on_for
    }
}
