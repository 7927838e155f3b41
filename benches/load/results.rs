//! What many runs measured, put together.

use std::collections::BTreeMap;

use clap::ValueEnum;

use crate::{
    contender::Contender,
    figures::{Figure, Figures, Measured, Outcome},
    scenario::{Demand, Scenario},
};

/// The least share of its core's time that a server was busy in a run that counts in ratios of CPU time: below it
/// the clients were the bottleneck, and each wake-up of the server found fewer messages than it could have.
const SATURATED: f64 = 0.97;

/// A scenario and the number of pairs that it was run with, in the order in which they are told.
pub(crate) type Case = (Scenario, usize);

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<Case, BTreeMap<Contender, Runs>>);

/// The runs of one contender in one case.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    pub(crate) figures: Vec<Figures>,
    pub(crate) failures: Vec<String>,
}

impl Runs {
    /// How busy the server was in runs that do not count in ratios of CPU time, in per cent.
    pub(crate) fn idle_servers(&self, scenario: Scenario) -> Vec<f64> {
        if scenario.demand() != Demand::Saturating {
            return Vec::new();
        }
        let idle = self.figures.iter().filter(|figures| !is_saturated(figures));
        idle.map(|figures| busy(figures) * 100.0).collect()
    }
}

fn busy(figures: &Figures) -> f64 {
    figures.get(&Figure::ServerBusy).copied().unwrap_or_default()
}

fn is_saturated(figures: &Figures) -> bool {
    busy(figures) >= SATURATED
}

impl Results {
    /// The lines of one or several runs of `load compare`.
    ///
    /// # Errors
    ///
    /// A line that is malformed: figures are not guessed.
    pub(crate) fn parse(lines: &str) -> Result<Self, String> {
        let mut results = Self::default();
        for (number, line) in lines.lines().enumerate() {
            let malformed = |error: String| format!("line {}: {error}", number + 1);
            let measured: Measured =
                serde_json::from_str(line).map_err(|error| malformed(error.to_string()))?;
            let scenario = Scenario::from_str(&measured.scenario, false).map_err(malformed)?;
            results.add(scenario, measured);
        }
        Ok(results)
    }

    fn add(&mut self, scenario: Scenario, measured: Measured) {
        let runs = self.0.entry((scenario, measured.pairs)).or_default();
        let runs = runs.entry(measured.contender).or_default();
        match measured.outcome {
            Outcome::Figures(figures) => runs.figures.push(figures),
            Outcome::Failed(why) => runs.failures.push(why),
        }
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = (&Case, &BTreeMap<Contender, Runs>)> {
        self.0.iter()
    }

    pub(crate) fn contenders(&self, case: Case) -> impl Iterator<Item = Contender> {
        self.0.get(&case).into_iter().flat_map(|runs| runs.keys().copied())
    }

    /// None where no run has the figure.
    pub(crate) fn spread(
        &self,
        case: Case,
        contender: Contender,
        figure: Figure,
    ) -> Option<Spread> {
        Spread::of(&self.0.get(&case)?.get(&contender)?.figures, figure)
    }

    /// The same in the runs that count when contenders or times are compared: for CPU time under all the load that
    /// there can be, those in which the server was busy.
    pub(crate) fn compared(
        &self,
        case: Case,
        contender: Contender,
        figure: Figure,
    ) -> Option<Spread> {
        let runs = &self.0.get(&case)?.get(&contender)?;
        if !figure.is_cpu() {
            return Spread::of(&runs.figures, figure);
        }
        let counts = |figures: &&Figures| match case.0.demand() {
            Demand::Saturating => is_saturated(figures),
            Demand::Connecting | Demand::SamePace | Demand::Alone => true,
            Demand::Paced => false,
        };
        Spread::of(runs.figures.iter().filter(counts), figure)
    }

    pub(crate) fn median(&self, case: Case, contender: Contender, figure: Figure) -> Option<f64> {
        self.spread(case, contender, figure).map(|spread| spread.median)
    }

    /// How many times more `contender` needs than `other`.
    pub(crate) fn ratio(
        &self,
        case: Case,
        figure: Figure,
        contender: Contender,
        other: Contender,
    ) -> Option<f64> {
        let median = |contender| Some(self.compared(case, contender, figure)?.median);
        Some(median(contender)? / median(other)?)
    }
}

/// What several rounds say of one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of<'a>(
        figures: impl IntoIterator<Item = &'a Figures>,
        figure: Figure,
    ) -> Option<Self> {
        let mut values =
            figures.into_iter().filter_map(|of| of.get(&figure).copied()).collect::<Vec<_>>();
        values.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = |rank: usize| values[rank];
        let median = (middle((values.len() - 1) / 2) + middle(values.len() / 2)) / 2.0;
        Some(Self { least, median, most })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A line as `load compare` writes it.
    pub(crate) fn line(
        scenario: &str,
        contender: &str,
        pairs: usize,
        figures: &[(&str, f64)],
    ) -> String {
        let mut all = serde_json::json!({
            "count": 1, "rate": 1.0, "cpu_us": 1.0, "out_of_order": 0, "resident_kib": 1,
            "server_busy": 0.99, "client_busy": 0.8
        });
        for (name, value) in figures {
            all[*name] = (*value).into();
        }
        let line = serde_json::json!({
            "scenario": scenario, "contender": contender, "round": 1, "pairs": pairs, "figures": all
        });
        format!("{line}\n")
    }

    fn cpu(values: &[f64]) -> Option<Spread> {
        let figures = values.iter().map(|cpu| Figures::from([(Figure::CpuUs, *cpu)]));
        Spread::of(&figures.collect::<Vec<_>>(), Figure::CpuUs)
    }

    #[test]
    fn a_spread_has_the_least_the_median_and_the_most() {
        let spread = |least, median, most| Some(Spread { least, median, most });
        assert_eq!(cpu(&[3.0, 1.0, 2.0]), spread(1.0, 2.0, 3.0));
        assert_eq!(cpu(&[4.0, 1.0, 2.0, 9.0]), spread(1.0, 3.0, 9.0));
        assert_eq!(cpu(&[5.0]), spread(5.0, 5.0, 5.0));
        assert_eq!(cpu(&[]), None);
    }

    #[test]
    fn ratios_are_of_medians_of_the_same_case() {
        let lines = [
            line("pingpong", "signaling", 64, &[("cpu_us", 9.0)]),
            line("pingpong", "signaling", 64, &[("cpu_us", 8.0)]),
            line("pingpong", "signaling", 64, &[("cpu_us", 70.0)]),
            line("pingpong", "axum", 64, &[("cpu_us", 6.0)]),
            line("pingpong", "axum", 512, &[("cpu_us", 1.0)]),
        ];
        let results = Results::parse(&lines.concat()).unwrap();
        let ratio = |pairs| {
            let case = (Scenario::Pingpong, pairs);
            results.ratio(case, Figure::CpuUs, Contender::Signaling, Contender::Axum)
        };
        assert_eq!((ratio(64), ratio(512)), (Some(1.5), None));
        let p50 = (Scenario::Pingpong, 64);
        assert_eq!(results.median(p50, Contender::Signaling, Figure::P50Us), None);
    }

    #[test]
    fn a_server_that_was_not_busy_is_in_no_ratio_of_cpu_time() {
        let run = |contender, us, busy| {
            line(
                "pingpong",
                contender,
                64,
                &[("cpu_us", us), ("server_busy", busy), ("p50_us", us)],
            )
        };
        let lines = [
            run("signaling", 6.0, 0.97),
            run("axum", 4.0, 0.99),
            run("axum", 5.0, 0.9375),
            run("tcp", 1.0, 0.9),
        ];
        let results = Results::parse(&lines.concat()).unwrap();
        let case = (Scenario::Pingpong, 64);
        let ratio = |other, figure| results.ratio(case, figure, Contender::Signaling, other);
        assert_eq!(ratio(Contender::Axum, Figure::CpuUs), Some(1.5));
        assert_eq!(ratio(Contender::Tcp, Figure::CpuUs), None);
        assert_eq!(ratio(Contender::Tcp, Figure::P50Us), Some(6.0));
        assert_eq!(results.median(case, Contender::Axum, Figure::CpuUs), Some(4.5));
        let (_, runs) = results.cases().next().unwrap();
        assert_eq!(runs[&Contender::Axum].idle_servers(case.0), [93.75]);
        assert!(runs[&Contender::Axum].idle_servers(Scenario::Paced).is_empty());
    }

    #[test]
    fn a_malformed_line_is_named() {
        let good = line("pingpong", "axum", 64, &[]);
        for bad in [
            "".to_owned(),
            "{".to_owned(),
            good.replace("cpu_us", "cpu"),
            good.replace("1.0", "null"),
            good.replace("pingpong", "pongping"),
            good.replace("figures", "outcome"),
            good.replace("axum", "nobody"),
        ] {
            let bad = bad.trim();
            let error = Results::parse(&format!("{good}{bad}\n")).unwrap_err();
            assert!(error.starts_with("line 2: "), "{bad}: {error}");
        }
    }
}
