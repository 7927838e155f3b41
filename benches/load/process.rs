//! What a process has used.

use std::{error::Error, fs};

use nix::{time::clock_getcpuclockid, unistd::Pid};

/// Seconds of CPU time, user and system, of all its threads, those that ended too.
///
/// `/proc/<pid>/stat` counts in ticks of 10 ms; this counts in nanoseconds.
pub(crate) fn cpu(id: u32) -> Result<f64, Box<dyn Error>> {
    let used = clock_getcpuclockid(Pid::from_raw(id.try_into()?))?.now()?;
    Ok(used.tv_sec() as f64 + used.tv_nsec() as f64 / 1e9)
}

/// KiB of memory that it has resident.
pub(crate) fn resident(id: u32) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[cfg(test)]
mod tests {
    use std::{process::id, thread, time::Duration};

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn the_time_of_a_thread_that_ended_counts() {
        let before = cpu(id()).unwrap();
        let spin = || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(200) {}
        };
        thread::spawn(spin).join().unwrap();
        let used = cpu(id()).unwrap() - before;
        assert!(used > 0.03, "{used}");
    }

    #[test]
    fn memory_that_is_written_is_resident() {
        let before = resident(id()).unwrap();
        let filled = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = resident(id()).unwrap();
        assert!(after >= before + 60 * 1024, "{before} {after}");
        drop(filled);
    }
}
