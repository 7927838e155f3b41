//! The CPU time of a process, and how busy it was.

use std::{collections::HashMap, error::Error, fs};

use nix::{time::clock_getcpuclockid, unistd::Pid};

type Done<T> = Result<T, Box<dyn Error>>;

/// Seconds of CPU time that it has used, user and system, of all its threads, those that ended too.
///
/// `/proc/<pid>/stat` counts in ticks of 10 ms; this counts in nanoseconds.
pub(crate) fn of(id: u32) -> Done<f64> {
    let used = clock_getcpuclockid(Pid::from_raw(id.try_into()?))?.now()?;
    Ok(used.tv_sec() as f64 + used.tv_nsec() as f64 / 1e9)
}

/// What the threads of some processes have used until now, by thread id.
#[derive(Debug, Default)]
pub(crate) struct Threads(HashMap<String, Thread>);

#[derive(Debug, Default, Clone, Copy)]
struct Thread {
    /// Seconds that it ran.
    ran: f64,
    /// Seconds that it could run and another thread had the core.
    waited: f64,
}

impl Threads {
    pub(crate) fn of(processes: impl IntoIterator<Item = u32>) -> Done<Self> {
        let mut threads = HashMap::new();
        for process in processes {
            for entry in fs::read_dir(format!("/proc/{process}/task"))? {
                let task = entry?;
                // A thread that has just ended is left out.
                let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                let mut numbers = text.split(' ').map(|number| number.parse::<u64>());
                let (Some(Ok(ran)), Some(Ok(waited))) = (numbers.next(), numbers.next()) else {
                    return Err(format!("not a schedstat: {text}").into());
                };
                let thread = Thread { ran: ran as f64 / 1e9, waited: waited as f64 / 1e9 };
                threads.insert(task.file_name().to_string_lossy().into_owned(), thread);
            }
        }
        Ok(Self(threads))
    }

    /// The share of `seconds` that they ran on their one core since `before`. The time that other programs took
    /// from the busiest of them does not count.
    pub(crate) fn busy_since(&self, before: &Self, seconds: f64) -> f64 {
        let used = self.0.iter().map(|(id, now)| {
            let before = before.0.get(id).copied().unwrap_or_default();
            Thread { ran: now.ran - before.ran, waited: now.waited - before.waited }
        });
        let used = used.collect::<Vec<_>>();
        let ran = used.iter().map(|thread| thread.ran).sum::<f64>();
        let busiest = used.iter().max_by(|one, other| one.ran.total_cmp(&other.ran));
        // It also waits for the other threads of its process.
        let taken = busiest.map_or(0.0, |thread| thread.waited - (ran - thread.ran)).max(0.0);
        (ran / (seconds - taken)).min(1.0)
    }
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
    fn busy_is_what_ran_of_the_time_that_others_left() {
        let threads = |threads: &[(&str, f64, f64)]| {
            let thread =
                |&(id, ran, waited): &(&str, _, _)| (id.to_owned(), Thread { ran, waited });
            Threads(threads.iter().map(thread).collect())
        };
        let before = threads(&[("1", 5.0, 1.0)]);
        let busy = |after: &[_]| threads(after).busy_since(&before, 2.0);
        assert_eq!(busy(&[("1", 6.0, 1.0)]), 0.5);
        assert_eq!(busy(&[("1", 6.0, 2.0)]), 1.0);
        // One of its threads had the core while the other waited.
        assert_eq!(busy(&[("1", 6.0, 1.5), ("2", 0.5, 0.0)]), 0.75);
    }

    #[test]
    fn this_process_has_threads() {
        spin();
        let before = Threads::of([process::id()]).unwrap();
        spin();
        let busy = Threads::of([process::id()]).unwrap().busy_since(&before, 0.2);
        assert!(busy > 0.1, "{busy}");
    }

    #[test]
    fn a_process_that_is_over_is_an_error() {
        let mut over = process::Command::new("true").spawn().unwrap();
        over.wait().unwrap();
        of(over.id()).unwrap_err();
    }
}
