//! Contenders in turn, several times: what disturbs the machine disturbs them all.

use std::{error::Error, fs::OpenOptions, io::Write, path::Path, time::Duration};

use clap::ValueEnum;

use crate::{contender::Contender, figures::Measured, scenario::Scenario, server::Server};

/// Each scenario with the numbers of pairs that it is run with.
const SCENARIOS: [(Scenario, usize); 8] = [
    (Scenario::Pingpong, 64),
    (Scenario::Pingpong, 512),
    (Scenario::Flood, 64),
    (Scenario::FloodDescriptions, 64),
    (Scenario::Paced, 64),
    (Scenario::Callsetup, 16),
    (Scenario::CallsetupPaced, 16),
    (Scenario::Idle, 2500),
];

pub(crate) async fn run(
    out: &Path,
    rounds: usize,
    seconds: u64,
    scenarios: &[String],
    contenders: &[Contender],
) -> Result<(), Box<dyn Error>> {
    let mut lines = OpenOptions::new().create(true).append(true).open(out)?;
    let contenders = if contenders.is_empty() { Contender::value_variants() } else { contenders };
    let asked =
        |scenario: &Scenario| scenarios.is_empty() || scenarios.contains(&scenario.to_string());
    for (scenario, pairs) in SCENARIOS.into_iter().filter(|(scenario, _)| asked(scenario)) {
        for round in 1..=rounds {
            for contender in contenders {
                let measured = measure(*contender, scenario, pairs, seconds, round).await;
                let measured = measured.map_err(|error| {
                    format!("{scenario} with {contender:?}, round {round}: {error}")
                })?;
                writeln!(lines, "{}", serde_json::to_string(&measured)?)?;
                eprintln!(
                    "{scenario} {pairs}, round {round}, {contender:?}: {:.2} µs of CPU",
                    measured.figures.cpu_us
                );
            }
        }
    }
    Ok(())
}

/// One contender and one scenario, from its start to its end.
pub(crate) async fn measure(
    contender: Contender,
    scenario: Scenario,
    pairs: usize,
    seconds: u64,
    round: usize,
) -> Result<Measured, Box<dyn Error>> {
    let server = Server::start(contender).await?;
    let length = Duration::from_secs(seconds);
    let figures = scenario.run(contender, &server, pairs, length).await?;
    Ok(Measured { scenario: scenario.to_string(), contender, round, pairs, figures })
}
