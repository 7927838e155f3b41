//! The CPU time of a process.

use std::error::Error;

use nix::{time::clock_getcpuclockid, unistd::Pid};

type Done<T> = Result<T, Box<dyn Error>>;

/// Seconds of CPU time that it has used, user and system, of all its threads, those that ended too.
///
/// `/proc/<pid>/stat` counts in ticks of 10 ms; this counts in nanoseconds.
pub(crate) fn of(id: u32) -> Done<f64> {
    let used = clock_getcpuclockid(Pid::from_raw(id.try_into()?))?.now()?;
    Ok(used.tv_sec() as f64 + used.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use std::{process, sync::mpsc::sync_channel, thread, time::Duration};

    use tokio::time::Instant;

    use super::*;

    fn spin() {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(200) {}
    }

    #[test]
    fn the_time_of_all_threads_counts() {
        let before = of(process::id()).unwrap();
        // It is looked at while it lives.
        let (done, wait) = sync_channel(0);
        let other = thread::spawn(move || {
            spin();
            done.send(()).unwrap();
            done.send(()).unwrap();
        });
        wait.recv().unwrap();
        let used = of(process::id()).unwrap() - before;
        wait.recv().unwrap();
        other.join().unwrap();
        assert!(used > 0.03, "{used}");
    }

    #[test]
    fn the_time_of_a_thread_that_ended_counts() {
        let before = of(process::id()).unwrap();
        thread::spawn(spin).join().unwrap();
        let used = of(process::id()).unwrap() - before;
        assert!(used > 0.03, "{used}");
    }

    #[test]
    fn a_process_that_is_over_is_an_error() {
        let mut over = process::Command::new("true").spawn().unwrap();
        over.wait().unwrap();
        of(over.id()).unwrap_err();
    }
}
