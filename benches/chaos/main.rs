//! The chaos run: pairs of users talk over several nodes of the ready server with one Redis, while nodes
//! are killed, ended, frozen and cut off, Redis too, and users move, go away and hang up. Then what the
//! clients saw is held against the promises of the README and of `docs/protocol.md`.
//!
//! `chaos --seed 7` repeats the faults of another run; when exactly they meet what, it cannot repeat.

mod check;
mod client;
mod deployment;
mod history;
mod host;
mod plan;
#[path = "../../signaling-redis/tests/redis/proxy.rs"]
#[allow(dead_code, reason = "shared with tests of other things")]
#[allow(clippy::unwrap_used, reason = "shared with tests")]
mod proxy;
mod report;
mod restart;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use fastrand::Rng;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    check::{Pair, RECOVERED, World},
    client::User,
    deployment::Deployment,
    history::Journal,
    host::Host,
};

#[derive(Parser)]
#[command(about = "Breaks a deployment on purpose, and checks what its clients saw")]
struct Cli {
    /// Minutes in which there are faults; one more follows without.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    #[arg(long, default_value_t = 20)]
    pairs: usize,
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// What all that is random follows from; one is drawn by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Restarts two nodes in turn under this number of clients in calls, instead of the chaos run.
    #[arg(long, value_name = "CLIENTS")]
    restart: Option<usize>,
    /// Where the nodes' logs go, and the histories of pairs with a broken promise.
    #[arg(long, default_value = "target/chaos")]
    logs: PathBuf,
}

/// Between two looks at how late this process is scheduled.
const TICK: Duration = Duration::from_millis(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(clients) = cli.restart {
        return finished(restart(&cli, clients).await);
    }
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("chaos: seed {seed}, {} pairs, {} nodes, {} min", cli.pairs, cli.nodes, cli.minutes);
    finished(run(&cli, seed).await)
}

fn finished(outcome: Result<bool, String>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn restart(cli: &Cli, clients: usize) -> Result<bool, String> {
    const NODES: usize = 2;
    let logs = cli.logs.join(format!("restart-{}", std::process::id()));
    println!("restart: logs in {}", logs.display());
    let deployment = Deployment::start(NODES, logs).await?;
    restart::run(deployment, NODES, clients).await
}

/// How late this process was scheduled at worst, in ms.
async fn watch_delay(worst: Arc<AtomicU64>) {
    loop {
        let due = Instant::now() + TICK;
        time::sleep_until(due).await;
        let late = u64::try_from(due.elapsed().as_millis()).unwrap_or(u64::MAX);
        worst.fetch_max(late, Ordering::Relaxed);
    }
}

/// Whether every promise was kept.
async fn run(cli: &Cli, seed: u64) -> Result<bool, String> {
    let length = Duration::from_secs_f64(cli.minutes * 60.0);
    let plan = plan::plan(seed, cli.nodes, length);
    let mut rng = Rng::with_seed(seed);
    let logs = cli.logs.join(format!("{seed}-{}", std::process::id()));
    println!("chaos: logs in {}", logs.display());
    let deployment = Deployment::start(cli.nodes, logs.clone()).await?;
    let worst_delay = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_delay(worst_delay.clone()));
    let (quiet, is_quiet) = watch::channel(false);
    let mut pairs = Vec::new();
    for pair in 0..cli.pairs {
        let journal = Journal::new(deployment.start);
        let (over, learned) = mpsc::channel(64);
        let v1 = [pair % 2 == 0, pair % 4 < 2];
        for (side, v1) in v1.into_iter().enumerate() {
            let user = User {
                pair,
                side,
                v1,
                calm: pair % 3 == 0,
                deployment: deployment.clone(),
                journal: journal.clone(),
                over: over.clone(),
                quiet: is_quiet.clone(),
                rng: rng.fork(),
            };
            tasks.spawn(user.live());
        }
        let (deployment, rng) = (deployment.clone(), rng.fork());
        let host = Host { pair, deployment, journal: journal.clone(), rng, over: learned };
        tasks.spawn(host.live());
        pairs.push((Pair { v1 }, journal));
    }

    let mut faults = JoinSet::new();
    for (at, fault) in plan {
        time::sleep_until(deployment.start + at).await;
        println!(
            "chaos: {:8.1} s {fault} for {:.1} s",
            at.as_secs_f64(),
            fault.lasts.as_secs_f64()
        );
        let deployment = deployment.clone();
        faults.spawn(async move { deployment.suffer(fault).await });
    }
    time::sleep_until(deployment.start + length).await;
    faults.join_all().await;
    let healed = deployment.start.elapsed();
    println!("chaos: {:8.1} s no more faults", healed.as_secs_f64());
    // The sender lives until the end: whoever waits for it would stop to.
    quiet.send_replace(true);
    let slack =
        || Duration::from_secs(1) + 2 * Duration::from_millis(worst_delay.load(Ordering::Relaxed));
    time::sleep(RECOVERED + slack() + Duration::from_secs(5)).await;

    let (end, slack) = (deployment.start.elapsed(), slack());
    let mut odd = deployment.odd();
    odd.extend(deployment.leftovers(&mut rng, cli.pairs).await);
    tasks.shutdown().await;
    let troubles = deployment.troubles();
    let world = World { troubles: &troubles, slack, healed, end };
    let histories = pairs.into_iter().map(|(pair, journal)| (pair, journal.entries()));
    let histories = histories.collect::<Vec<_>>();
    Ok(report::report(&histories, &deployment.probes(), &world, &odd, &logs))
}
