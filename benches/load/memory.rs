//! The memory of a process.

use std::{error::Error, fs};

type Done<T> = Result<T, Box<dyn Error>>;

/// KiB of memory that it has resident.
pub(crate) fn resident(id: u32) -> Done<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn memory_that_is_written_is_resident() {
        let before = resident(process::id()).unwrap();
        let filled = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = resident(process::id()).unwrap();
        assert!(after >= before + 60 * 1024, "{before} {after}");
        drop(filled);
    }
}
