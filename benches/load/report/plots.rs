//! Which plots there are.

use std::fmt::Error;

use super::svg::{self, Row};
use crate::{
    contender::Contender,
    figures::Figure,
    results::{Case, Results},
    scenario::Scenario,
};

pub(super) struct Plot {
    pub(super) title: String,
    pub(super) file: String,
    pub(super) svg: String,
}

/// CPU and memory where several are compared, and latency where it is measured from the moment that
/// something was meant to happen.
pub(super) fn all(results: &Results) -> Result<Vec<Plot>, Error> {
    let mut plots = Vec::new();
    for (case, _) in results.cases() {
        let (scenario, pairs) = *case;
        let mut add = |kind: &str, title: &str, rows: Vec<Row>, draw: Draw| {
            if rows.len() < 2 {
                return Ok::<_, Error>(());
            }
            let title = format!("{title}: {scenario}, {pairs} pairs");
            let svg = draw(&title, &rows)?;
            plots.push(Plot { title, file: format!("{kind}-{scenario}-{pairs}.svg"), svg });
            Ok(())
        };
        let (name, cpu) = ("CPU for each", medians(results, *case, Figure::Cpu));
        add("cpu", name, cpu, |title, rows| svg::bars(title, "µs", rows))?;
        if is_from_the_meant_moment(scenario) {
            let name = "p50, p99 and p99.9";
            add("latency", name, percentiles(results, *case), svg::dots)?;
        }
        let memory = medians(results, *case, Figure::KibEach);
        add("memory", "Memory of a connection", memory, |title, rows| {
            svg::bars(title, "KiB", rows)
        })?;
    }
    Ok(plots)
}

type Draw = fn(&str, &[Row]) -> Result<String, Error>;

const fn is_from_the_meant_moment(scenario: Scenario) -> bool {
    match scenario {
        Scenario::Paced
        | Scenario::PacedSlow
        | Scenario::PacedFast
        | Scenario::CallsetupPaced
        | Scenario::Churn
        | Scenario::Storm => true,
        Scenario::Pingpong
        | Scenario::Flood
        | Scenario::FloodDescriptions
        | Scenario::Callsetup
        | Scenario::CallsetupLong
        | Scenario::Idle
        | Scenario::Heartbeats
        | Scenario::Sessions => false,
    }
}

/// The least first.
fn medians(results: &Results, case: Case, figure: Figure) -> Vec<Row> {
    rows(results, case, |contender| {
        let spread = results.spread(case, contender, figure)?;
        Some([spread.least, spread.median, spread.most])
    })
}

fn percentiles(results: &Results, case: Case) -> Vec<Row> {
    rows(results, case, |contender| {
        let at = |figure| results.median(case, contender, figure);
        Some([at(Figure::P50)?, at(Figure::P99)?, at(Figure::P999)?])
    })
}

fn rows(results: &Results, case: Case, values: impl Fn(Contender) -> Option<[f64; 3]>) -> Vec<Row> {
    let row = |contender: Contender| {
        let values = values(contender)?;
        Some(Row { label: contender.to_string(), kind: contender.kind(), values })
    };
    let mut rows = results.contenders(case).filter_map(row).collect::<Vec<_>>();
    rows.sort_by(|one, other| one.values[1].total_cmp(&other.values[1]));
    rows
}
