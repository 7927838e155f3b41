//! What one run measured.

use serde::{Deserialize, Serialize};

use crate::contender::Contender;

/// One line of the results.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) scenario: String,
    pub(crate) contender: Contender,
    pub(crate) round: usize,
    pub(crate) pairs: usize,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Figures(Box<Figures>),
    /// Why there are none: not everybody can do everything.
    Failed(String),
}

/// The figures of a run; those that its scenario does not have are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figures {
    /// How many messages, calls or connections were counted.
    pub(crate) count: u64,
    /// That many a second.
    pub(crate) rate: f64,
    /// The server's CPU time for each, user and system, in µs; of all nodes, without Redis.
    pub(crate) cpu_us: f64,
    /// The share of its core's time that the server was busy, and the load generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_busy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_busy: Option<f64>,
    /// Latency in µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_us: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_us: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p999_us: Option<u32>,
    /// Messages that came out of order.
    pub(crate) out_of_order: u64,
    /// The server's resident memory at the end, in KiB.
    pub(crate) resident_kib: u64,
    /// The same for each connection or session, above what it had before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kib_each: Option<f64>,
    /// By how much the resident memory grew from the first crowd to the next one of the same size,
    /// in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) growth_kib: Option<i64>,
    /// CPU time for each in the first tenth, and in the last, in µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_us: Option<f64>,
    /// The CPU time of Redis for each, in µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redis_us: Option<f64>,
    /// Until the last one was served, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) served_ms: Option<f64>,
    /// Who never learned that the partner is gone, or was refused, or not served in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) never: Option<u64>,
}

impl Figures {
    /// The figures that every scenario has, of `count` in `seconds` for `cpu` seconds of CPU time.
    ///
    /// # Errors
    ///
    /// When nothing was counted: there is nothing to divide by.
    pub(crate) fn of(count: u64, seconds: f64, cpu: f64) -> Result<Self, &'static str> {
        if count == 0 {
            return Err("nothing was counted");
        }
        let (rate, cpu_us) = (count as f64 / seconds, cpu * 1e6 / count as f64);
        Ok(Self { count, rate, cpu_us, ..Self::default() })
    }

    pub(crate) fn latencies(self, tally: &mut Tally) -> Self {
        let [p50_us, p99_us, p999_us] = tally.percentiles([500, 990, 999]);
        Self { p50_us, p99_us, p999_us, out_of_order: tally.out_of_order, ..self }
    }
}

/// One of the figures, for whoever compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    Cpu,
    ServerBusy,
    ClientBusy,
    Rate,
    P50,
    P99,
    P999,
    KibEach,
    Growth,
    First,
    Last,
    Redis,
    Served,
    Never,
    OutOfOrder,
}

impl Figure {
    /// Whether it is CPU time of the server.
    pub(crate) const fn is_cpu(self) -> bool {
        matches!(self, Self::Cpu | Self::First | Self::Last)
    }

    pub(crate) fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::Cpu => Some(figures.cpu_us),
            Self::ServerBusy => figures.server_busy.map(|share| share * 100.0),
            Self::ClientBusy => figures.client_busy.map(|share| share * 100.0),
            Self::Rate => Some(figures.rate),
            Self::P50 => figures.p50_us.map(f64::from),
            Self::P99 => figures.p99_us.map(f64::from),
            Self::P999 => figures.p999_us.map(f64::from),
            Self::KibEach => figures.kib_each,
            Self::Growth => figures.growth_kib.map(|kib| kib as f64),
            Self::First => figures.first_us,
            Self::Last => figures.last_us,
            Self::Redis => figures.redis_us,
            Self::Served => figures.served_ms,
            Self::Never => figures.never.map(|count| count as f64),
            Self::OutOfOrder => Some(figures.out_of_order as f64),
        }
    }
}

/// Latencies, and what else was counted with them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) out_of_order: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.out_of_order += other.out_of_order;
    }

    /// Percentiles, in thousandths: the least latency that so many were not above.
    pub(crate) fn percentiles<const N: usize>(&mut self, at: [usize; N]) -> [Option<u32>; N] {
        self.latencies_us.sort_unstable();
        let count = self.latencies_us.len();
        at.map(|thousandths| {
            let rank = (count * thousandths).div_ceil(1000).max(1);
            self.latencies_us.get(rank - 1).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percentiles(latencies: impl IntoIterator<Item = u32>) -> [Option<u32>; 3] {
        let latencies_us = latencies.into_iter().collect();
        Tally { latencies_us, out_of_order: 0 }.percentiles([500, 990, 999])
    }

    #[test]
    fn a_percentile_is_the_least_that_so_many_are_not_above() {
        assert_eq!(percentiles((1..=1000).rev()), [Some(500), Some(990), Some(999)]);
        assert_eq!(percentiles(1..=100), [Some(50), Some(99), Some(100)]);
        assert_eq!(percentiles([3, 1, 2]), [Some(2), Some(3), Some(3)]);
        assert_eq!(percentiles([7]), [Some(7); 3]);
        assert_eq!(percentiles([]), [None; 3]);
    }

    #[test]
    fn nothing_counted_is_no_figure() {
        assert!(Figures::of(0, 1.0, 1.0).is_err());
        let figures = Figures::of(4, 2.0, 1e-5).unwrap();
        assert_eq!((figures.rate, figures.cpu_us), (2.0, 2.5));
    }
}
