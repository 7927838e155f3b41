//! Contenders in turn, several times: what disturbs the machine disturbs them all.

use std::{fs::OpenOptions, io::Write, path::Path, time::Duration};

use crate::{
    Done,
    contender::Contender,
    figures::{Figure, Measured, Outcome},
    plan::Step,
    scenario::Scenario,
};

/// Appends a line for each measurement. What a contender cannot do is said in its line, and the rest goes
/// on.
pub(crate) async fn run(out: &Path, plan: &[Step], rounds: usize, time: Duration) -> Done<()> {
    let mut lines = OpenOptions::new().create(true).append(true).open(out)?;
    for (scenario, pairs, contenders) in plan {
        for round in 1..=rounds {
            for contender in contenders {
                let measured = measure(*contender, *scenario, *pairs, time, round).await;
                writeln!(lines, "{}", serde_json::to_string(&measured)?)?;
                match measured.outcome {
                    Outcome::Figures(figures) => {
                        let of = |figure| figures.get(&figure).copied().unwrap_or_default();
                        eprintln!(
                            "{scenario} {pairs}, round {round}, {contender}: {:.2} µs of CPU, \
                             server {:.1} % busy, clients {:.1} %",
                            of(Figure::CpuUs),
                            of(Figure::ServerBusy) * 100.0,
                            of(Figure::ClientBusy) * 100.0,
                        );
                    }
                    Outcome::Failed(why) => {
                        eprintln!("{scenario} {pairs}, round {round}, {contender}: failed: {why}");
                    }
                }
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
    time: Duration,
    round: usize,
) -> Measured {
    let outcome = match scenario.run(contender, pairs, time).await {
        Ok(figures) => Outcome::Figures(figures),
        Err(error) => Outcome::Failed(error.to_string()),
    };
    Measured { scenario: scenario.to_string(), contender, round, pairs, outcome }
}
