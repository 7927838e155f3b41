//! Counting by valgrind (<https://valgrind.org/docs/manual/cl-manual.html>), and the numbers in the repository.

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{Done, work::Work};

/// By how many percent a number may be above the one in the repository.
const ALLOWED: f64 = 5.0;

#[derive(Serialize, Deserialize)]
struct Book {
    /// The compiler decides about these numbers as the code does.
    rustc: String,
    /// It hides some of what a processor can do, and not the same in each version.
    valgrind: String,
    /// Instructions for each.
    instructions: BTreeMap<Work, f64>,
}

/// Counts all, and compares with the numbers in the repository or replaces them. False if one has grown by more than is
/// allowed, or is not in the repository.
pub(crate) fn run(keep: bool, book: &Path, profiles: &Path) -> Done<bool> {
    let read = |path| -> Done<Book> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let kept = read(book).map_err(|error| format!("{}: {error}", book.display()))?;
    let mut now = Book {
        rustc: version("rustc")?,
        valgrind: version("valgrind")?,
        instructions: BTreeMap::new(),
    };
    for (kept, now) in [(&kept.rustc, &now.rustc), (&kept.valgrind, &now.valgrind)] {
        if kept != now {
            println!("kept with {kept}, counted with {now}");
        }
    }
    let mut is_good = true;
    println!("{:12}{:>12}{:>12}", "", "kept", "now");
    for work in Work::value_variants() {
        let counted = (measure(*work, profiles)? * 10.0).round() / 10.0;
        now.instructions.insert(*work, counted);
        match kept.instructions.get(work) {
            Some(kept) => {
                let above = (counted / kept - 1.0) * 100.0;
                println!("{:12}{kept:>12.1}{counted:>12.1}{above:>+9.2} %", work.to_string());
                is_good &= above <= ALLOWED;
            }
            None => {
                println!("{:12}{:>12}{counted:>12.1}", work.to_string(), "");
                is_good = false;
            }
        }
    }
    if keep {
        fs::write(book, serde_json::to_string_pretty(&now)? + "\n")?;
    } else if !is_good {
        eprintln!("some are more than {ALLOWED} % above what is kept, or not kept");
    }
    Ok(is_good || keep)
}

/// Instructions for each `work`: the difference of two runs, one of which does it twice as often, so
/// that what comes before and after it does not count. The profile of the longer one is left in
/// `profiles`, for `callgrind_annotate`.
fn measure(work: Work, profiles: &Path) -> Done<f64> {
    fs::create_dir_all(profiles)?;
    let profile = profiles.join(format!("{work}.callgrind"));
    let count = work.count();
    let once = collected(work, count, &profile)?;
    let twice = collected(work, 2 * count, &profile)?;
    Ok((twice as f64 - once as f64) / count as f64)
}

/// Instructions of a whole process that does `work` so often.
fn collected(work: Work, count: usize, profile: &Path) -> Done<u64> {
    let done = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env::current_exe()?)
        .args(["alone", "work", &work.to_string(), &count.to_string()])
        .output()
        .map_err(|error| format!("valgrind, on Debian `apt-get install valgrind`: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    match said.lines().find_map(|line| line.split_once("Collected : ")) {
        Some((_, number)) if done.status.success() => Ok(number.trim().parse()?),
        _ => Err(format!("{work} under valgrind: {}\n{said}", done.status).into()),
    }
}

/// The first line that `program` says of its version.
fn version(program: &str) -> Done<String> {
    let said = Command::new(program).arg("--version").output()?.stdout;
    Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned())
}
