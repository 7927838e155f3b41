//! The load generator: drives pairs of clients through a contender, and says what that cost.
//!
//! `load run <contender> <scenario>` starts one contender on core 0, runs one scenario and prints one
//! line of JSON. `load compare` does that for several in turn, and `load report` makes tables and plots of
//! the lines. See the README beside this crate's manifest.

mod busy;
mod client;
mod compare;
mod contender;
mod deployment;
mod figures;
mod plan;
mod process;
mod report;
mod results;
mod scenario;
mod secret;

use std::{error::Error, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

use crate::{contender::Contender, plan::Length, scenario::Scenario};

type Done<T> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(about = "What signaling costs, beside its peers and the floor")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One scenario with one contender; prints one line of JSON.
    Run {
        contender: Contender,
        scenario: Scenario,
        /// Pairs of clients.
        #[arg(long, default_value_t = 64)]
        pairs: usize,
        /// How long is measured, after half a second that is not.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Contenders in turn, several times; appends the lines to a file.
    Compare {
        length: Length,
        /// Where the lines go.
        #[arg(long, default_value = "target/bench.jsonl")]
        out: PathBuf,
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds for each measurement; 2 by default in a short one, else 3.
        #[arg(long)]
        seconds: Option<u64>,
        /// Only these scenarios; all by default.
        #[arg(long)]
        scenario: Vec<Scenario>,
        /// Only these contenders; all by default.
        #[arg(long)]
        contender: Vec<Contender>,
    },
    /// The separate process of the scenario `sessions`.
    #[command(hide = true)]
    OpenSessions { count: usize },
    /// Which bars are held, tables of medians, spreads and ratios, and plots, in Markdown.
    Report {
        #[arg(default_value = "target/bench.jsonl")]
        lines: PathBuf,
        /// Puts it into this file, and the plots beside it, instead of printing it.
        #[arg(long)]
        readme: Option<PathBuf>,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done<()> {
    match Cli::parse().command {
        Command::Run { contender, scenario, pairs, seconds } => {
            let time = Duration::from_secs(seconds);
            let measured = compare::measure(contender, scenario, pairs, time, 0).await;
            println!("{}", serde_json::to_string(&measured)?);
        }
        Command::Compare { length, out, rounds, seconds, scenario, contender } => {
            let mut plan = plan::plan(length);
            plan.retain(|(of, ..)| scenario.is_empty() || scenario.contains(of));
            for (.., contenders) in &mut plan {
                contenders.retain(|one| contender.is_empty() || contender.contains(one));
            }
            let time = Duration::from_secs(seconds.unwrap_or(length.seconds()));
            compare::run(&out, &plan, rounds, time).await?;
        }
        Command::OpenSessions { count } => {
            let figures = scenario::open_sessions(count).await?;
            println!("{}", serde_json::to_string(&figures)?);
        }
        Command::Report { lines, readme } => {
            let text = report::report(&lines, readme.as_deref())?;
            if readme.is_none() {
                print!("{text}");
            }
        }
    }
    Ok(())
}
