//! What the engine costs without sockets.
//!
//! `engine instructions` counts the instructions of the parts that are done most, and compares them with the numbers
//! in the repository; `engine times` measures the same parts on this machine. `engine users` is a million users and one
//! relay on a virtual clock, and `engine redis` is calls on a real Redis: benches/SCALE.md is calculated from these.

mod instructions;
mod line;
#[path = "../load/process.rs"]
mod process;
mod redis;
mod stage;
mod texts;
mod users;
mod work;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime::{Builder, Runtime};

use crate::work::Work;

type Done<T> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(about = "What the engine costs without sockets")]
enum Cli {
    /// Counts by valgrind, and fails if a number is more than 5 % above the one in the repository.
    Instructions {
        /// Writes the numbers into the repository instead.
        #[arg(long)]
        keep: bool,
        /// The numbers in the repository.
        #[arg(long, default_value = "benches/instructions.json")]
        book: PathBuf,
        /// Where the profiles go.
        #[arg(long, default_value = "target/instructions")]
        profiles: PathBuf,
    },
    /// How long each of the same parts takes.
    Times,
    /// A million users and one relay, on a virtual clock; fails if something grows faster than the users do.
    Users {
        /// How many, the fewest first: even numbers.
        #[arg(long, num_args = 1.., default_values_t = [10_000, 100_000, 1_000_000])]
        users: Vec<usize>,
        /// Virtual seconds that are measured: tens.
        #[arg(long, default_value_t = 60)]
        seconds: usize,
    },
    /// What calls cost a real Redis, and the nodes that use it.
    Redis {
        /// How many of each kind.
        #[arg(long, default_value_t = 5000)]
        calls: usize,
    },
    #[command(subcommand, hide = true)]
    Alone(Alone),
}

/// One measurement. The other commands start each in a separate process.
#[derive(Subcommand)]
enum Alone {
    Work { what: Work, count: usize },
    Users { users: usize, seconds: usize },
}

fn main() -> Done<ExitCode> {
    let is_good = match Cli::parse() {
        Cli::Instructions { keep, book, profiles } => instructions::run(keep, &book, &profiles)?,
        Cli::Times => {
            for work in Work::value_variants() {
                println!("{:12}{:>12.0} ns", work.to_string(), work.time()?.as_secs_f64() * 1e9);
            }
            true
        }
        Cli::Users { users, seconds } => users::compare(&users, seconds)?,
        Cli::Redis { calls } => {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            print!("{}", runtime.block_on(redis::run(calls))?);
            true
        }
        Cli::Alone(Alone::Work { what, count }) => {
            what.run(count)?;
            true
        }
        Cli::Alone(Alone::Users { users, seconds }) => {
            let figures = virtual_time()?.block_on(users::run(users, seconds))?;
            println!("{}", serde_json::to_string(&figures)?);
            true
        }
    };
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One thread, and a clock that moves when there is nothing left to do.
fn virtual_time() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_time().start_paused(true).build()
}
