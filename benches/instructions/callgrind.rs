//! Counting by valgrind: <https://valgrind.org/docs/manual/cl-manual.html>

use std::{env, error::Error, fs, io, path::Path, process::Command};

use crate::work::Work;

/// Instructions for each `work`: the difference of two runs, one of which does it twice as often, so
/// that what comes before and after it does not count. The profile of the longer one is left in
/// `profiles`, for `callgrind_annotate`.
pub(crate) fn measure(work: Work, profiles: &Path) -> Result<f64, Box<dyn Error>> {
    fs::create_dir_all(profiles)?;
    let profile = profiles.join(format!("{work}.callgrind"));
    let (count, twice) = (work.count(), 2 * work.count());
    let once = collected(work, count, &profile)?;
    let twice = collected(work, twice, &profile)?;
    Ok((twice as f64 - once as f64) / count as f64)
}

/// Instructions of a whole process that does `work` so often.
fn collected(work: Work, count: usize, profile: &Path) -> Result<u64, Box<dyn Error>> {
    let mut file = std::ffi::OsString::from("--callgrind-out-file=");
    file.push(profile);
    let done = Command::new("valgrind")
        .args(["--tool=callgrind".into(), file])
        .arg(env::current_exe()?)
        .args(["work", &work.to_string(), &count.to_string()])
        .output();
    let done = match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("valgrind is not here; on Debian: apt-get install valgrind".into());
        }
        done => done?,
    };
    let said = String::from_utf8_lossy(&done.stderr);
    match said.lines().find_map(|line| line.split_once("Collected : ")) {
        Some((_, number)) if done.status.success() => Ok(number.trim().parse()?),
        _ => Err(format!("{work} under valgrind: {}\n{said}", done.status).into()),
    }
}

/// The first line that `program` says of its version.
pub(crate) fn version(program: &str) -> Result<String, Box<dyn Error>> {
    let said = Command::new(program).arg("--version").output()?.stdout;
    Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned())
}
