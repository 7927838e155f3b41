//! What one run measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contender::Contender;

/// One line of the results.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) scenario: String,
    pub(crate) contender: Contender,
    pub(crate) round: usize,
    pub(crate) pairs: usize,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Figures(Figures),
    /// Why there are none: not everybody can do everything.
    Failed(String),
}

/// The figures of a run: those that its scenario has.
pub(crate) type Figures = BTreeMap<Figure, f64>;

/// A figure, with its unit. Each is of one message, call or connection, if nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// The server's CPU time, user and system; of all nodes, without Redis.
    CpuUs,
    /// The share of its core's time that the server was busy, and the load generator.
    ServerBusy,
    ClientBusy,
    /// The CPU time of Redis.
    RedisUs,
    /// CPU time in the first tenth, and in the last.
    FirstUs,
    LastUs,
    /// How many messages, calls or connections were counted, and how many a second.
    Count,
    Rate,
    /// Percentiles of latency.
    P50Us,
    P99Us,
    P999Us,
    /// The server's resident memory at the end, and above what it had before the first.
    ResidentKib,
    KibEach,
    /// By how much the resident memory grew from the first crowd to the next one of the same size.
    GrowthKib,
    /// Until the last one was served.
    ServedMs,
    /// Who never learned that the partner is gone, or was refused, or not served in time.
    Never,
    /// Messages that came out of order.
    OutOfOrder,
}

impl Figure {
    /// Whether it is CPU time of the server.
    pub(crate) const fn is_cpu(self) -> bool {
        matches!(self, Self::CpuUs | Self::FirstUs | Self::LastUs)
    }
}

/// The figures that every scenario has, of `count` in `seconds` for `cpu` seconds of CPU time.
///
/// # Errors
///
/// When nothing was counted: there is nothing to divide by.
pub(crate) fn figures(count: usize, seconds: f64, cpu: f64) -> Result<Figures, &'static str> {
    if count == 0 {
        return Err("nothing was counted");
    }
    let count = count as f64;
    Ok(Figures::from([
        (Figure::Count, count),
        (Figure::Rate, count / seconds),
        (Figure::CpuUs, cpu * 1e6 / count),
        (Figure::OutOfOrder, 0.0),
    ]))
}

/// Latencies, and what else was counted with them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) out_of_order: u32,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.out_of_order += other.out_of_order;
    }

    /// Percentiles: the least latency that so many thousandths were not above. None if there is no latency.
    pub(crate) fn figures(mut self) -> Figures {
        self.latencies_us.sort_unstable();
        let count = self.latencies_us.len();
        let mut figures = Figures::from([(Figure::OutOfOrder, self.out_of_order.into())]);
        for (figure, thousandths) in
            [(Figure::P50Us, 500), (Figure::P99Us, 990), (Figure::P999Us, 999)]
        {
            let rank = (count * thousandths).div_ceil(1000).max(1);
            figures.extend(self.latencies_us.get(rank - 1).map(|us| (figure, f64::from(*us))));
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_least_that_so_many_are_not_above() {
        let percentiles = |latencies: &[u32]| {
            let tally = Tally { latencies_us: latencies.to_vec(), out_of_order: 0 };
            let figures = tally.figures();
            [Figure::P50Us, Figure::P99Us, Figure::P999Us].map(|of| figures.get(&of).copied())
        };
        let descending = (1..=1000).rev().collect::<Vec<_>>();
        assert_eq!(percentiles(&descending), [Some(500.0), Some(990.0), Some(999.0)]);
        assert_eq!(percentiles(&[3, 1, 2]), [Some(2.0), Some(3.0), Some(3.0)]);
        assert_eq!(percentiles(&[7]), [Some(7.0); 3]);
        assert_eq!(percentiles(&[]), [None; 3]);
    }

    #[test]
    fn nothing_counted_is_no_figure() {
        assert!(figures(0, 1.0, 1.0).is_err());
        let of_four = figures(4, 2.0, 1e-5).unwrap();
        assert_eq!((of_four[&Figure::Rate], of_four[&Figure::CpuUs]), (2.0, 2.5));
    }
}
