//! What this process has used.

use nix::time::{ClockId, clock_gettime};

/// Seconds for which this thread, which does all the work, was on a processor.
pub(crate) fn cpu() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a thread has a clock");
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}
