//! The numbers in the repository, and what new ones are against them.

use std::{collections::BTreeMap, error::Error, fmt::Write, fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::work::Work;

/// By how many percent a number may be above the one in the repository.
const ALLOWED: f64 = 5.0;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Book {
    /// The compiler decides about these numbers as the code does.
    pub(crate) rustc: String,
    /// It hides some of what a processor can do, and not the same in each version.
    pub(crate) valgrind: String,
    /// Instructions for each.
    pub(crate) instructions: BTreeMap<Work, f64>,
}

impl Book {
    pub(crate) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
        Ok(serde_json::from_str(&text?)?)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }

    /// By how many percent the number of `work` is above `kept`'s; none where that has none.
    fn above(&self, kept: &Self, work: Work) -> Option<f64> {
        let (new, old) = (self.instructions.get(&work)?, kept.instructions.get(&work)?);
        Some((new / old - 1.0) * 100.0)
    }

    /// What is more than is allowed above `kept`, or is not in it.
    pub(crate) fn worse(&self, kept: &Self) -> Vec<Work> {
        let worse = |work: &Work| self.above(kept, *work).is_none_or(|percent| percent > ALLOWED);
        self.instructions.keys().copied().filter(worse).collect()
    }

    /// Both books beside each other.
    pub(crate) fn table(&self, kept: &Self) -> String {
        let mut table = format!("{:12}{:>12}{:>12}{:>9}\n", "", "kept", "now", "");
        for (work, now) in &self.instructions {
            let kept_one = kept.instructions.get(work).map(|kept| format!("{kept:.1}"));
            let percent = self.above(kept, *work).map(|percent| format!("{percent:+.2} %"));
            let _ = writeln!(
                table,
                "{:12}{:>12}{now:>12.1}{:>9}",
                work.to_string(),
                kept_one.unwrap_or_default(),
                percent.unwrap_or_default()
            );
        }
        for (kept, now) in [(&kept.rustc, &self.rustc), (&kept.valgrind, &self.valgrind)] {
            if kept != now {
                let _ = writeln!(table, "kept with {kept}, counted with {now}");
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(instructions: &[(Work, f64)]) -> Book {
        let instructions = instructions.iter().copied().collect();
        Book { rustc: "r".to_owned(), valgrind: "v".to_owned(), instructions }
    }

    #[test]
    fn what_is_a_twentieth_above_or_new_is_worse() {
        let kept = book(&[(Work::Parse, 1000.0), (Work::Relay, 1000.0), (Work::Call, 1000.0)]);
        let now = [(Work::Parse, 1049.0), (Work::Relay, 1051.0), (Work::Call, 500.0)];
        assert_eq!(book(&now).worse(&kept), [Work::Relay]);
        assert_eq!(book(&[(Work::Token, 1.0)]).worse(&kept), [Work::Token]);
        assert!(book(&now).table(&kept).contains("+5.10 %"));
    }
}
