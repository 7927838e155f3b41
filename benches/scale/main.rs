//! What the numbers for many users are made of. Both print tables in Markdown.
//!
//! `scale users`: a million users and one relay, without sockets, on a virtual clock: whether
//! heartbeats, deadlines and the store's batches stay in proportion to the number of users. It runs
//! for 10,000, 100,000 and 1,000,000, each in a process of its own, and fails where something grows
//! faster than the users do.
//!
//! `scale redis`: what calls cost a real Redis, and the nodes that use it.

mod crowd;
mod figures;
#[path = "../micro/line.rs"]
mod line;
#[path = "../load/memory.rs"]
mod memory;
mod process;
mod redis;
mod run;
mod store;
#[expect(dead_code, reason = "users have heartbeats of their own")]
#[path = "../micro/texts.rs"]
mod texts;

use std::{
    env,
    error::Error,
    process::{self as programs, ExitCode, Stdio},
};

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

use crate::figures::Figures;

#[derive(Parser)]
#[command(about = "What the numbers for many users are made of")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A million users and one relay, on a virtual clock.
    Users {
        /// How many, the fewest first: even numbers.
        #[arg(long, num_args = 1.., default_values_t = [10_000, 100_000, 1_000_000])]
        users: Vec<usize>,
        /// Virtual seconds that are measured: tens.
        #[arg(long, default_value_t = 60)]
        seconds: usize,
    },
    /// The same in this process, once; prints a line of JSON.
    Alone { users: usize, seconds: usize },
    /// What calls cost a real Redis.
    Redis {
        /// How many of each kind.
        #[arg(long, default_value_t = 5000)]
        calls: usize,
    },
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    match Cli::parse().command {
        Command::Users { users, seconds } => {
            let all = users.iter().map(|users| in_own_process(*users, seconds));
            let all = all.collect::<Result<Vec<_>, _>>()?;
            print!("{}", figures::table(&all));
            let grown = figures::out_of_proportion(&all);
            for what in &grown {
                eprintln!("grows faster than the users: {what}");
            }
            return Ok(if grown.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Alone { users, seconds } => {
            let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
            let figures = runtime.block_on(run::run(users, seconds))?;
            println!("{}", serde_json::to_string(&figures)?);
        }
        Command::Redis { calls } => {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            print!("{}", runtime.block_on(redis::run(calls))?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures in a process whose memory is that of these users alone.
fn in_own_process(users: usize, seconds: usize) -> Result<Figures, Box<dyn Error>> {
    let done = programs::Command::new(env::current_exe()?)
        .args(["alone", &users.to_string(), &seconds.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    if !done.status.success() {
        return Err(format!("{users} users: {}", done.status).into());
    }
    Ok(serde_json::from_slice(&done.stdout)?)
}
