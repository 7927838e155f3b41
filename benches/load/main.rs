//! The load generator: drives pairs of clients through a contender, and says what that cost.
//!
//! `load run <contender> <scenario>` starts one contender on core 0, runs one scenario and prints one
//! line of JSON. `load compare` does that for several in turn, and `load report` makes tables of the
//! lines. See the README beside this crate's manifest.

mod client;
mod compare;
mod contender;
mod figures;
mod report;
mod scenario;
mod secret;
mod server;

use std::{error::Error, path::PathBuf};

use clap::{Parser, Subcommand};

use crate::{contender::Contender, scenario::Scenario};

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
    /// Every scenario with every contender, in turn and several times; appends the lines to a file.
    Compare {
        /// Where the lines go.
        #[arg(long, default_value = "target/bench.jsonl")]
        out: PathBuf,
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds for each measurement.
        #[arg(long, default_value_t = 3)]
        seconds: u64,
        /// Only these scenarios; all by default.
        #[arg(long)]
        scenario: Vec<String>,
        /// Only these contenders; all by default.
        #[arg(long)]
        contender: Vec<Contender>,
    },
    /// Tables of medians, spreads and ratios, in Markdown.
    Report {
        #[arg(default_value = "target/bench.jsonl")]
        lines: PathBuf,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match Cli::parse().command {
        Command::Run { contender, scenario, pairs, seconds } => {
            let measured = compare::measure(contender, scenario, pairs, seconds, 0).await?;
            println!("{}", serde_json::to_string(&measured)?);
        }
        Command::Compare { out, rounds, seconds, scenario, contender } => {
            compare::run(&out, rounds, seconds, &scenario, &contender).await?;
        }
        Command::Report { lines } => print!("{}", report::tables(&lines)?),
    }
    Ok(())
}
