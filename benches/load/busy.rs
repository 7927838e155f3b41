//! How busy processes keep their core.

use std::{collections::HashMap, fs};

use crate::Done;

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
    use std::process;

    use super::*;

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
        let threads = Threads::of([process::id()]).unwrap();
        assert!(threads.0.values().any(|thread| thread.ran > 0.0), "{threads:?}");
    }
}
