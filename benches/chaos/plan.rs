//! Which faults there are and when, from a seed.

use std::{fmt, time::Duration};

use fastrand::Rng;

use crate::history::At;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// Whom it hits; none where it is the store of all.
    pub(crate) node: Option<usize>,
    /// For how long; for [`Kind::Kill`], [`Kind::Terminate`] and [`Kind::RestartRedis`], until it is
    /// started again.
    pub(crate) lasts: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// SIGKILL for a node.
    Kill,
    /// SIGTERM for a node.
    Terminate,
    /// SIGSTOP for a node, later SIGCONT.
    Freeze,
    /// Connections to Redis are closed, and new ones too.
    Cut,
    /// Connections to Redis stay open and carry nothing.
    Stall,
    /// SIGSTOP for Redis, later SIGCONT.
    FreezeRedis,
    /// SIGKILL for Redis; it comes back with what it had.
    RestartRedis,
}

use Kind::{Cut, Freeze, FreezeRedis, Kill, RestartRedis, Stall, Terminate};

impl Fault {
    /// Whether `node` cannot reach Redis meanwhile.
    pub(crate) fn is_outage_for(&self, node: usize) -> bool {
        let hits = self.node.is_none_or(|hit| hit == node);
        hits && matches!(self.kind, Cut | Stall | FreezeRedis | RestartRedis)
    }

    /// Whether the process of `node` is not running meanwhile.
    pub(crate) fn stops(&self, node: usize) -> bool {
        self.node == Some(node) && matches!(self.kind, Kill | Terminate | Freeze)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "n{node} {:?}", self.kind),
            None => write!(f, "all {:?}", self.kind),
        }
    }
}

fn between(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from * 1000..to * 1000))
}

/// One fault after another for each node, and for the store; at any moment one node at least has none
/// of its own. Between faults of the store all nodes have time to notice who died meanwhile.
pub(crate) fn plan(seed: u64, nodes: usize, length: Duration) -> Vec<(At, Fault)> {
    let mut rng = Rng::with_seed(seed);
    let mut plan: Vec<(At, Fault)> = Vec::new();
    for node in 0..nodes {
        let mut at = between(&mut rng, 3, 20);
        while at < length {
            // Longer than a node's lease of 15 s, or shorter.
            let long = if rng.bool() { between(&mut rng, 16, 28) } else { between(&mut rng, 1, 8) };
            let short = between(&mut rng, 1, 8);
            let (kind, lasts) = match rng.u8(0..100) {
                0..25 => (Kill, short),
                25..40 => (Terminate, short),
                40..70 => (Freeze, long),
                70..85 => (Cut, long),
                _ => (Stall, long),
            };
            let end = at + lasts + Duration::from_secs(4);
            let hit = plan.iter().filter(|(from, fault)| {
                *from < end && at < *from + fault.lasts + Duration::from_secs(4)
            });
            let mut others: Vec<_> = hit.filter_map(|(_, fault)| fault.node).collect();
            others.sort_unstable();
            others.dedup();
            if others.len() + 1 < nodes && at + lasts < length {
                plan.push((at, Fault { kind, node: Some(node), lasts }));
                at += lasts;
            }
            at += between(&mut rng, 10, 30);
        }
    }
    let mut at = between(&mut rng, 10, 25);
    while at < length {
        let lasts = match rng.u8(0..4) {
            0 => between(&mut rng, 16, 20),
            _ => between(&mut rng, 1, 12),
        };
        let kind = [Cut, Stall, FreezeRedis, RestartRedis][rng.usize(0..4)];
        if at + lasts < length {
            plan.push((at, Fault { kind, node: None, lasts }));
        }
        at += lasts + between(&mut rng, 30, 50);
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_with_every_kind_in_it_and_always_one_node_without_a_fault() {
        let length = Duration::from_secs(600);
        let of_seed = plan(7, 3, length);
        assert_eq!(of_seed, plan(7, 3, length));
        assert_ne!(of_seed, plan(8, 3, length));
        for kind in [Kill, Terminate, Freeze, Cut, Stall, FreezeRedis, RestartRedis] {
            assert!(of_seed.iter().any(|(_, fault)| fault.kind == kind), "{kind:?}");
        }
        for second in 0..600 {
            let at = Duration::from_secs(second);
            let hit = |node| {
                of_seed.iter().any(|(from, fault)| {
                    fault.node == Some(node) && *from <= at && at < *from + fault.lasts
                })
            };
            assert!((0..3).any(|node| !hit(node)), "at {second} s");
        }
    }
}
