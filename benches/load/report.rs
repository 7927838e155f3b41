//! Tables for the README: medians, spreads, and ratios to the bare forwarder on axum.

use std::{collections::BTreeMap, error::Error, fmt::Write, fs, path::Path};

use crate::{
    contender::Contender,
    figures::{Figures, Measured},
};

/// What the others are compared with.
const FLOOR: Contender = Contender::Axum;

type Runs = BTreeMap<Contender, Vec<Figures>>;

pub(crate) fn tables(lines: &Path) -> Result<String, Box<dyn Error>> {
    let mut scenarios: BTreeMap<(String, usize), Runs> = BTreeMap::new();
    for line in fs::read_to_string(lines)?.lines() {
        let measured: Measured = serde_json::from_str(line)?;
        let runs = scenarios.entry((measured.scenario, measured.pairs)).or_default();
        runs.entry(measured.contender).or_default().push(measured.figures);
    }
    let mut text = String::new();
    for ((scenario, pairs), runs) in scenarios {
        writeln!(text, "### {scenario}, {pairs} pairs\n")?;
        writeln!(
            text,
            "| contender | CPU each, µs | × axum floor | rate, /s | p50, µs | p99, µs | p99.9, µs | KiB each | out of order |"
        )?;
        writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for (contender, figures) in &runs {
            row(&mut text, *contender, figures, runs.get(&FLOOR))?;
        }
        writeln!(text)?;
    }
    Ok(text)
}

fn row(
    text: &mut String,
    contender: Contender,
    figures: &[Figures],
    floor: Option<&Vec<Figures>>,
) -> Result<(), Box<dyn Error>> {
    let shown = |value: Option<f64>, digits: usize| {
        value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
    };
    let cpu = Spread::of(figures, |figures| Some(figures.cpu_us));
    let ratio = floor.and_then(|floor| {
        let floor = Spread::of(floor, |figures| Some(figures.cpu_us))?;
        Some(cpu.as_ref()?.median / floor.median)
    });
    let cpu = cpu.map_or("–".to_owned(), |cpu| {
        format!("{:.2} ({:.2} to {:.2})", cpu.median, cpu.least, cpu.most)
    });
    let median =
        |of: fn(&Figures) -> Option<f64>| Spread::of(figures, of).map(|spread| spread.median);
    writeln!(
        text,
        "| {} | {cpu} | {} | {} | {} | {} | {} | {} | {} |",
        serde_json::to_value(contender)?.as_str().unwrap_or_default(),
        shown(ratio, 2),
        shown(median(|figures| Some(figures.rate)), 0),
        shown(median(|figures| figures.p50_us.map(f64::from)), 0),
        shown(median(|figures| figures.p99_us.map(f64::from)), 0),
        shown(median(|figures| figures.p999_us.map(f64::from)), 0),
        shown(median(|figures| figures.kib_each), 2),
        figures.iter().map(|figures| figures.out_of_order).sum::<u64>(),
    )?;
    Ok(())
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// None where no run has the figure.
    fn of(figures: &[Figures], of: impl Fn(&Figures) -> Option<f64>) -> Option<Self> {
        let mut values = figures.iter().filter_map(of).collect::<Vec<_>>();
        values.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        Some(Self { least, median: values[values.len() / 2], most })
    }
}
