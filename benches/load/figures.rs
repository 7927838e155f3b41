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
    pub(crate) figures: Figures,
}

/// The figures of a run; those that its scenario does not have are left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// How many messages, calls or connections were counted.
    pub(crate) count: u64,
    /// That many a second.
    pub(crate) rate: f64,
    /// The server's CPU time for each, user and system, in µs.
    pub(crate) cpu_us: f64,
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
    /// The same for each connection, above what it had before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kib_each: Option<f64>,
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

    /// Percentiles, in thousandths.
    pub(crate) fn percentiles<const N: usize>(&mut self, at: [usize; N]) -> [Option<u32>; N] {
        self.latencies_us.sort_unstable();
        let last = self.latencies_us.len().saturating_sub(1);
        at.map(|thousandths| self.latencies_us.get(last * thousandths / 1000).copied())
    }
}
