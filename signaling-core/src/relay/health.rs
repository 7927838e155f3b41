//! Whether the store answers, and since when without a break.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::store::StoreError;

/// None while the store does not answer.
#[derive(Debug)]
pub(super) struct Health(Mutex<Option<Instant>>);

impl Health {
    /// The store has just answered for the first time.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Instant::now())))
    }

    pub(super) fn is_well(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether the store has answered for at least `span`. Until then, what others could not write
    /// during an outage may still be missing.
    pub(super) fn well_for(&self, span: Duration) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() >= span)
    }

    /// Notes whether a call to the store was answered.
    pub(super) fn note<T>(&self, answer: &Result<T, StoreError>) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(_) if since.is_none() => {
                tracing::info!("the store answers again");
                *since = Some(Instant::now());
            }
            Err(error) if since.is_some() => {
                tracing::error!(error = error as &dyn std::error::Error, "the store is away");
                *since = None;
            }
            Ok(_) | Err(_) => {}
        }
    }
}
