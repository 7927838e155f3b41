//! Panics that end only what panicked.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

/// The outcome of `work`; none when it panics, which is in the log.
pub(crate) async fn contained<T>(work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}
