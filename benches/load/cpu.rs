//! The CPU time of a process.

use std::{error::Error, fs};

type Done<T> = Result<T, Box<dyn Error>>;

/// Seconds of CPU time that it has used, user and system, of all its threads. A thread that ended
/// takes its time along; contenders keep theirs.
///
/// `/proc/<pid>/stat` counts in ticks of 10 ms; this counts in nanoseconds.
pub(crate) fn of(id: u32) -> Done<f64> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let counted = fs::read_to_string(thread?.path().join("schedstat"))?;
        let ran = counted.split_whitespace().next().ok_or("an empty schedstat")?;
        nanoseconds += ran.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use std::{process, sync::mpsc::sync_channel, thread, time::Duration};

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn the_time_of_all_threads_counts() {
        let before = of(process::id()).unwrap();
        // It is looked at while it lives.
        let (done, wait) = sync_channel(0);
        let other = thread::spawn(move || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(200) {}
            done.send(()).unwrap();
            done.send(()).unwrap();
        });
        wait.recv().unwrap();
        let used = of(process::id()).unwrap() - before;
        wait.recv().unwrap();
        other.join().unwrap();
        assert!(used > 0.03, "{used}");
    }
}
