//! How many instructions the parts that are done most take: a number that a busy machine does not
//! change, kept in the repository.
//!
//! `instructions check` counts by valgrind and fails when one has grown; `instructions keep` writes
//! the numbers down; `instructions work <what> <count>` is what runs under valgrind.

mod book;
mod callgrind;
#[path = "../micro/line.rs"]
mod line;
#[path = "../micro/stage.rs"]
mod stage;
#[path = "../micro/texts.rs"]
mod texts;
mod work;

use std::{
    collections::BTreeMap,
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{book::Book, work::Work};

#[derive(Parser)]
#[command(about = "Counts instructions")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The numbers in the repository.
    #[arg(long, global = true, default_value = "benches/instructions.json")]
    book: PathBuf,
    /// Where the profiles go.
    #[arg(long, global = true, default_value = "target/instructions")]
    profiles: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Counts, and compares with what is kept.
    Check,
    /// Counts, and keeps the numbers.
    Keep,
    /// Does one thing so often.
    Work { what: Work, count: usize },
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Cli { command, book, profiles } = Cli::parse();
    match command {
        Command::Check => {
            let (kept, now) = (Book::read(&book)?, count(&profiles)?);
            print!("{}", now.table(&kept));
            let worse = now.worse(&kept).iter().map(Work::to_string).collect::<Vec<_>>();
            if !worse.is_empty() {
                eprintln!("more instructions than are kept: {}", worse.join(", "));
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Keep => {
            let now = count(&profiles)?;
            print!("{}", now.table(&Book::read(&book).unwrap_or_else(|_| now.clone())));
            now.write(&book)?;
        }
        Command::Work { what, count } => what.run(count)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn count(profiles: &Path) -> Result<Book, Box<dyn Error>> {
    let mut instructions = BTreeMap::new();
    for work in Work::value_variants() {
        let number = callgrind::measure(*work, profiles)?;
        instructions.insert(*work, (number * 10.0).round() / 10.0);
    }
    let [rustc, valgrind] = [callgrind::version("rustc")?, callgrind::version("valgrind")?];
    Ok(Book { rustc, valgrind, instructions })
}
