//! All figures of a case, and how ours compares with each.

use std::fmt::{Error, Write};

use super::bars::{FLOOR, OURS};
use crate::{
    contender::Contender,
    figures::Figure,
    results::{Case, Results, Runs, Spread},
    scenario::Demand,
};

/// What a table may have a column for: its head, and how many digits. A column that nobody has a figure for
/// is left out.
const COLUMNS: [(Figure, &str, usize); 15] = [
    (Figure::CpuUs, "CPU each, µs", 2),
    (Figure::ServerBusy, "server busy, %", 1),
    (Figure::ClientBusy, "clients busy, %", 1),
    (Figure::RedisUs, "CPU of Redis, µs", 2),
    (Figure::FirstUs, "first tenth, µs", 1),
    (Figure::LastUs, "last tenth, µs", 1),
    (Figure::Rate, "a second", 0),
    (Figure::P50Us, "p50, µs", 0),
    (Figure::P99Us, "p99, µs", 0),
    (Figure::P999Us, "p99.9, µs", 0),
    (Figure::KibEach, "KiB each", 2),
    (Figure::GrowthKib, "growth, KiB", 0),
    (Figure::ServedMs, "all served, ms", 0),
    (Figure::Never, "lost or never told", 0),
    (Figure::OutOfOrder, "out of order", 0),
];
/// What ours is compared in.
const COMPARED: [Figure; 4] = [Figure::CpuUs, Figure::P50Us, Figure::P99Us, Figure::KibEach];

pub(super) fn case<'a>(
    results: &Results,
    case: Case,
    runs: impl Iterator<Item = (&'a Contender, &'a Runs)>,
) -> Result<String, Error> {
    let runs = runs.collect::<Vec<_>>();
    let has = |figure| runs.iter().any(|(who, _)| results.median(case, **who, figure).is_some());
    let columns = COLUMNS.into_iter().filter(|(figure, ..)| has(*figure)).collect::<Vec<_>>();
    let has_ratio = case.0.demand() != Demand::Paced;
    let is_compared = |figure| COMPARED.contains(figure) && (has_ratio || !figure.is_cpu());
    let compared = columns.iter().filter(|(figure, ..)| is_compared(figure));
    let compared = compared.map(|(figure, head, _)| (*figure, *head)).collect::<Vec<_>>();

    let mut heads = columns.iter().map(|(_, head, _)| (*head).to_owned()).collect::<Vec<_>>();
    heads.extend(has_ratio.then(|| "CPU × axum floor".to_owned()));
    heads.extend(compared.iter().map(|(_, head)| {
        let what = head.split([' ', ',']).next().unwrap_or_default();
        format!("ours × it, {what}")
    }));
    let mut text = String::new();
    writeln!(text, "| contender | {} |", heads.join(" | "))?;
    writeln!(text, "|{}", " --- |".repeat(heads.len() + 1))?;
    for (contender, runs) in &runs {
        let figures = columns.iter().map(|(figure, _, digits)| {
            let Some(spread) = results.spread(case, **contender, *figure) else {
                return "–".to_owned();
            };
            let Spread { least, median, most } = spread;
            match figure {
                Figure::CpuUs if runs.figures.len() > 1 => {
                    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
                }
                Figure::ServerBusy | Figure::ClientBusy => {
                    format!("{:.digits$}", median * 100.0)
                }
                _ => format!("{median:.digits$}"),
            }
        });
        let shown =
            |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let over_floor =
            has_ratio.then(|| shown(results.ratio(case, Figure::CpuUs, **contender, FLOOR)));
        let ours = compared.iter().map(|(figure, _)| {
            let itself = **contender == OURS;
            shown(results.ratio(case, *figure, OURS, **contender).filter(|_| !itself))
        });
        let cells = figures.chain(over_floor).chain(ours).collect::<Vec<_>>();
        writeln!(text, "| {contender} | {} |", cells.join(" | "))?;
    }
    let left_out = runs.iter().filter_map(|(contender, runs)| {
        let idle = runs.idle_servers(case.0);
        let busy = idle.iter().map(|busy| format!("{busy:.1}")).collect::<Vec<_>>().join(", ");
        let (left_out, all) = (idle.len(), runs.figures.len());
        (left_out > 0).then(|| format!("{left_out} of {all} of {contender} ({busy} %)"))
    });
    let left_out = left_out.collect::<Vec<_>>().join("; ");
    if !left_out.is_empty() {
        writeln!(
            text,
            "\nRuns that are left out of the CPU ratios, with how busy the server was: {left_out}."
        )?;
    }
    for (contender, runs) in &runs {
        if let Some(why) = runs.failures.first() {
            let (failed, all) = (runs.failures.len(), runs.failures.len() + runs.figures.len());
            writeln!(text, "\n{contender} failed in {failed} of {all} rounds: {why}")?;
        }
    }
    Ok(text)
}
