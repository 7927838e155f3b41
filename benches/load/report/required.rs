//! The bars, in the order in which they are told.

use super::bars::{
    Bar, Rule,
    Rule::{Above, AtMost, Flat, FlatInTime, Floor, Memory, Never, Nodes, Peers},
};
use crate::{
    contender::Contender::{SignalingNodes, SignalingRedis},
    figures::{
        Figure,
        Figure::{Cpu, Growth, KibEach, Last, Never as Lost, OutOfOrder, P50, P99, Redis, Served},
    },
    results::Case,
    scenario::Scenario::{
        Callsetup, CallsetupLong, CallsetupPaced, Churn, Flood, FloodDescriptions, Heartbeats,
        Idle, Paced, PacedFast, PacedSlow, Pingpong, Sessions, Storm,
    },
};

const fn bar(what: &'static str, case: Case, figure: Figure, rule: Rule) -> Bar {
    Bar { what, case, figure, rule }
}

/// Pairs, from 1,000 connections to 18,000.
const CROWDS: &[usize] = &[500, 5000, 9000];
const SESSIONS: &[usize] = &[100, 1000, 10_000, 100_000];

#[rustfmt::skip]
pub(super) const BARS: &[Bar] = &[
    bar("CPU of a candidate, 64 pairs, one at a time", (Pingpong, 64), Cpu, Floor(1.15)),
    bar("CPU of a candidate, 64 pairs, one at a time", (Pingpong, 64), Cpu, Peers(0.7)),
    bar("CPU of a candidate, 512 pairs", (Pingpong, 512), Cpu, Floor(1.15)),
    bar("CPU of a candidate, 512 pairs", (Pingpong, 512), Cpu, Peers(0.7)),
    bar("p99 of a candidate, 512 pairs", (Pingpong, 512), P99, AtMost(20_000.0)),
    bar("CPU of a candidate, 16 under way", (Flood, 64), Cpu, Floor(1.5)),
    bar("CPU of a candidate, 16 under way", (Flood, 64), Cpu, Peers(0.7)),
    bar("candidates out of order, 16 under way", (Flood, 64), OutOfOrder, Never),
    bar("CPU of a description, 4 under way", (FloodDescriptions, 64), Cpu, Floor(1.3)),
    bar("CPU of a description, 4 under way", (FloodDescriptions, 64), Cpu, Peers(0.7)),
    bar("CPU of a call, 128 at once", (Callsetup, 128), Cpu, Floor(1.2)),
    bar("CPU of a call, 128 at once", (Callsetup, 128), Cpu, Peers(0.7)),
    bar("CPU of a call, over 50,000 calls", (CallsetupLong, 50_000), Last, FlatInTime(1.1)),
    bar("set-up at 100 calls a second, p50", (CallsetupPaced, 16), P50, Floor(1.25)),
    bar("set-up at 100 calls a second, p99", (CallsetupPaced, 16), P99, AtMost(3_000.0)),
    bar("5,000 candidates a second, p50", (Paced, 64), P50, Floor(1.1)),
    bar("5,000 candidates a second, p99", (Paced, 64), P99, Floor(1.1)),
    bar("memory of an idle connection", (Idle, 5000), KibEach, AtMost(6.5)),
    bar("memory of an idle connection", (Idle, 5000), KibEach, Peers(1.0)),
    // A hundredth of what they have: pages are whole.
    bar("growth when all leave and as many come", (Idle, 5000), Growth, AtMost(650.0)),
    bar("CPU of a connection", (Idle, 5000), Cpu, Floor(1.4)),
    bar("CPU of a connection, 1,000 to 18,000", (Idle, 9000), Cpu, Flat(CROWDS, 1.15)),
    bar("CPU of a heartbeat, 18,000 idle", (Heartbeats, 9000), Cpu, Floor(1.2)),
    bar("partner learns of an abrupt end, p50", (Churn, 64), P50, Floor(1.2)),
    bar("partner learns of an abrupt end, p99", (Churn, 64), P99, AtMost(2_000.0)),
    bar("abrupt ends that a partner never learns of", (Churn, 64), Lost, Never),
    bar("across two nodes at 1,000 a second, p50", (PacedSlow, 64), P50, Above(SignalingNodes, 300.0)),
    bar("CPU of Redis for each of 20,000 a second", (PacedFast, 64), Redis, Nodes(5.0)),
    bar("CPU of a candidate, one at a time, sessions in Redis", (Pingpong, 64), Cpu, Memory(SignalingRedis, 1.03)),
    bar("CPU of a candidate, 16 under way, sessions in Redis", (Flood, 64), Cpu, Memory(SignalingRedis, 1.03)),
    bar("time to open a session, 100 to 100,000 open", (Sessions, 100), Cpu, Flat(SESSIONS, 1.15)),
    // Tables double as they fill.
    bar("memory of a session, 100 to 100,000 open", (Sessions, 100), KibEach, Flat(SESSIONS, 1.5)),
    bar("10,000 come back at once", (Storm, 5000), Served, AtMost(2_000.0)),
    bar("of these refused or timed out", (Storm, 5000), Lost, Never),
    bar("p99 of pairs that are there meanwhile", (Storm, 5000), P99, AtMost(20_000.0)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{Length, plan},
        report::bars::OURS,
    };

    #[test]
    fn the_full_comparison_measures_every_bar() {
        let plan = plan(Length::Full);
        for Bar { what, case, rule, .. } in BARS {
            let step = plan.iter().find(|(scenario, pairs, _)| (*scenario, *pairs) == *case);
            let (.., contenders) = step.unwrap_or_else(|| panic!("{what}: no step"));
            if let Flat(sizes, _) = rule {
                let has = |size: &usize| {
                    plan.iter().any(|(scenario, pairs, who)| {
                        (*scenario, pairs) == (case.0, size) && who.contains(&OURS)
                    })
                };
                assert!(sizes.iter().all(has), "{what}: not with all of {sizes:?}");
            }
            for needed in rule.needs() {
                assert!(contenders.contains(&needed), "{what}: no {needed}");
            }
        }
    }
}
