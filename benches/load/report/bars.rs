//! What must hold, and whether it does.

use std::fmt;

use self::Rule::{Above, AtMost, Flat, FlatInTime, Never, Peers, Times};
use crate::{
    contender::{
        Contender,
        Contender::{Axum, Signaling, SignalingNodes, SignalingRedis},
        Kind,
    },
    figures::{
        Figure,
        Figure::{
            CpuUs, FirstUs, GrowthKib, KibEach, LastUs, Never as Lost, OutOfOrder, P50Us, P99Us,
            RedisUs, ServedMs,
        },
    },
    results::{Case, Results},
    scenario::Scenario::{
        Callsetup, CallsetupLong, CallsetupPaced, Churn, Flood, FloodDescriptions, Heartbeats,
        Idle, Paced, PacedFast, PacedSlow, Pingpong, Sessions, Storm,
    },
};

/// Who others are compared with.
pub(crate) const OURS: Contender = Signaling;
pub(crate) const FLOOR: Contender = Axum;

pub(super) struct Bar {
    pub(super) what: &'static str,
    case: Case,
    /// Who is to hold it.
    who: Contender,
    figure: Figure,
    pub(super) rule: Rule,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// At most so many times the figure of this contender.
    Times(Contender, f64),
    /// At most so many times the figure of each peer.
    Peers(f64),
    /// At most so much above the figure of this contender.
    Above(Contender, f64),
    /// At most this, in the median.
    AtMost(f64),
    /// Not once, in any round.
    Never,
    /// With each of these numbers of pairs: the most is at most so many times the least.
    Flat(&'static [usize], f64),
    /// The last tenth costs at most so many times the first.
    FlatInTime(f64),
}

/// Pairs, from 1,000 connections to 18,000.
const CROWDS: &[usize] = &[500, 5000, 9000];
const SESSIONS: &[usize] = &[100, 1000, 10_000, 100_000];

const fn bar(what: &'static str, case: Case, figure: Figure, rule: Rule) -> Bar {
    Bar { what, case, who: OURS, figure, rule }
}

impl Bar {
    /// The same for another contender of ours.
    const fn of(self, who: Contender) -> Self {
        Self { who, ..self }
    }
}

/// In the order in which they are told.
#[rustfmt::skip]
pub(super) const BARS: &[Bar] = &[
    bar("CPU of a candidate, 64 pairs, one at a time", (Pingpong, 64), CpuUs, Times(FLOOR, 1.15)),
    bar("CPU of a candidate, 64 pairs, one at a time", (Pingpong, 64), CpuUs, Peers(0.7)),
    bar("CPU of a candidate, 512 pairs", (Pingpong, 512), CpuUs, Times(FLOOR, 1.15)),
    bar("CPU of a candidate, 512 pairs", (Pingpong, 512), CpuUs, Peers(0.7)),
    bar("p99 of a candidate, 512 pairs", (Pingpong, 512), P99Us, AtMost(20_000.0)),
    bar("CPU of a candidate, 16 under way", (Flood, 64), CpuUs, Times(FLOOR, 1.5)),
    bar("CPU of a candidate, 16 under way", (Flood, 64), CpuUs, Peers(0.7)),
    bar("candidates out of order, 16 under way", (Flood, 64), OutOfOrder, Never),
    bar("CPU of a description, 4 under way", (FloodDescriptions, 64), CpuUs, Times(FLOOR, 1.3)),
    bar("CPU of a description, 4 under way", (FloodDescriptions, 64), CpuUs, Peers(0.7)),
    bar("CPU of a call, 128 at once", (Callsetup, 128), CpuUs, Times(FLOOR, 1.2)),
    bar("CPU of a call, 128 at once", (Callsetup, 128), CpuUs, Peers(0.7)),
    bar("CPU of a call, over 50,000 calls", (CallsetupLong, 50_000), LastUs, FlatInTime(1.1)),
    bar("set-up at 100 calls a second, p50", (CallsetupPaced, 16), P50Us, Times(FLOOR, 1.25)),
    bar("set-up at 100 calls a second, p99", (CallsetupPaced, 16), P99Us, AtMost(3_000.0)),
    bar("5,000 candidates a second, p50", (Paced, 64), P50Us, Times(FLOOR, 1.1)),
    bar("5,000 candidates a second, p99", (Paced, 64), P99Us, Times(FLOOR, 1.1)),
    bar("memory of an idle connection", (Idle, 5000), KibEach, AtMost(6.5)),
    bar("memory of an idle connection", (Idle, 5000), KibEach, Peers(1.0)),
    // A hundredth of what they have: pages are whole.
    bar("growth when all leave and as many come", (Idle, 5000), GrowthKib, AtMost(650.0)),
    bar("CPU of a connection", (Idle, 5000), CpuUs, Times(FLOOR, 1.4)),
    bar("CPU of a connection, 1,000 to 18,000", (Idle, 9000), CpuUs, Flat(CROWDS, 1.15)),
    bar("CPU of a heartbeat, 18,000 idle", (Heartbeats, 9000), CpuUs, Times(FLOOR, 1.2)),
    bar("partner learns of an abrupt end, p50", (Churn, 64), P50Us, Times(FLOOR, 1.2)),
    bar("partner learns of an abrupt end, p99", (Churn, 64), P99Us, AtMost(2_000.0)),
    bar("abrupt ends that a partner never learns of", (Churn, 64), Lost, Never),
    bar("across two nodes at 1,000 a second, p50", (PacedSlow, 64), P50Us, Above(OURS, 300.0)).of(SignalingNodes),
    bar("CPU of Redis for each of 20,000 a second", (PacedFast, 64), RedisUs, AtMost(5.0)).of(SignalingNodes),
    bar("CPU of a candidate, one at a time, sessions in Redis", (Pingpong, 64), CpuUs, Times(OURS, 1.03)).of(SignalingRedis),
    bar("CPU of a candidate, 16 under way, sessions in Redis", (Flood, 64), CpuUs, Times(OURS, 1.03)).of(SignalingRedis),
    bar("time to open a session, 100 to 100,000 open", (Sessions, 100), CpuUs, Flat(SESSIONS, 1.15)),
    // Tables double as they fill.
    bar("memory of a session, 100 to 100,000 open", (Sessions, 100), KibEach, Flat(SESSIONS, 1.5)),
    bar("10,000 come back at once", (Storm, 5000), ServedMs, AtMost(2_000.0)),
    bar("of these refused or timed out", (Storm, 5000), Lost, Never),
    bar("p99 of a candidate during a storm of connections", (Storm, 5000), P99Us, AtMost(20_000.0)),
];

/// What was measured for a bar.
#[derive(Debug, PartialEq)]
pub(super) struct Measured {
    /// What the limit holds for: a ratio or the figure itself.
    pub(super) value: f64,
    pub(super) limit: f64,
    /// What the value was compared with.
    pub(super) beside: String,
}

impl Measured {
    pub(super) fn is_held(&self) -> bool {
        self.value <= self.limit
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, limit, beside } = self;
        let verdict = if self.is_held() { "held" } else { "**missed**" };
        let digits = usize::from(*limit < 100.0) * 2;
        write!(f, "{value:.digits$} | {beside} | at most {limit} | {verdict}")
    }
}

impl Bar {
    /// None where a part of it was not measured. Against the peers it is the one that is nearest.
    pub(super) fn measured(&self, results: &Results) -> Option<Measured> {
        let Self { case, who, figure, rule, .. } = *self;
        let ratio = |other| results.ratio(case, figure, who, other);
        let median = |who| results.median(case, who, figure);
        let compared = |case, figure| Some(results.compared(case, who, figure)?.median);
        let (value, limit, beside) = match rule {
            Times(other, limit) => {
                let beside = if other == FLOOR { "axum floor" } else { "sessions in memory" };
                (ratio(other)?, limit, format!("× {beside}"))
            }
            Peers(limit) => {
                let peers = results.contenders(case).filter(|peer| peer.kind() == Kind::Peer);
                let ratios =
                    peers.filter_map(|peer| Some((ratio(peer)?, peer))).collect::<Vec<_>>();
                let nearest = ratios.iter().max_by(|(one, _), (two, _)| one.total_cmp(two));
                let (value, peer) = *nearest?;
                (value, limit, format!("× {peer}, the nearest of {} peers", ratios.len()))
            }
            Above(other, limit) => {
                (median(who)? - median(other)?, limit, format!("{} above one node", unit(figure)))
            }
            AtMost(limit) => (median(who)?, limit, unit(figure).to_owned()),
            Never => (results.spread(case, who, figure)?.most, 0.0, unit(figure).to_owned()),
            Flat(sizes, limit) => {
                let values = sizes.iter().map(|pairs| compared((case.0, *pairs), figure));
                let mut values = values.collect::<Option<Vec<_>>>()?;
                values.sort_unstable_by(f64::total_cmp);
                let [least, .., most] = values.as_slice() else { return None };
                (most / least, limit, "most over least of all sizes".to_owned())
            }
            FlatInTime(limit) => {
                let ratio = compared(case, LastUs)? / compared(case, FirstUs)?;
                (ratio, limit, "last tenth over the first".to_owned())
            }
        };
        Some(Measured { value, limit, beside })
    }
}

/// Of the figures for which there is a bar.
fn unit(figure: Figure) -> &'static str {
    match figure {
        CpuUs | FirstUs | LastUs | RedisUs => "µs of CPU",
        P50Us | P99Us => "µs",
        KibEach | GrowthKib => "KiB",
        ServedMs => "ms",
        Lost => "clients",
        OutOfOrder => "messages",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{Length, plan},
        results::tests::line,
    };

    /// What a rule says of a figure of contenders that were run with 64 pairs.
    fn judged(bar: Bar, key: &str, figures: &[(&str, f64)]) -> Option<(f64, bool)> {
        let lines = figures
            .iter()
            .map(|(contender, value)| line("pingpong", contender, 64, &[(key, *value)]));
        judge(bar, &lines.collect::<String>())
    }

    fn judge(bar: Bar, lines: &str) -> Option<(f64, bool)> {
        let measured = bar.measured(&Results::parse(lines).unwrap());
        measured.map(|of| (of.value, of.is_held()))
    }

    fn of(figure: Figure, rule: Rule) -> Bar {
        bar("it", (Pingpong, 64), figure, rule)
    }

    #[test]
    fn ours_is_held_against_others() {
        let cpu = [("npm-ws", 16.0), ("matchbox", 10.0), ("axum", 4.0), ("signaling", 8.0)];
        let cpu_is = |rule, cpu: &[_]| judged(of(CpuUs, rule), "cpu_us", cpu);
        assert_eq!(cpu_is(Times(FLOOR, 2.0), &cpu), Some((2.0, true)));
        assert_eq!(cpu_is(Times(FLOOR, 1.5), &cpu), Some((2.0, false)));
        assert_eq!(cpu_is(Times(FLOOR, 1.5), &cpu[3..]), None);
        assert_eq!(cpu_is(Peers(0.8), &cpu), Some((0.8, true)));
        assert_eq!(cpu_is(Peers(0.75), &cpu), Some((0.8, false)));
        assert_eq!(cpu_is(Peers(0.75), &cpu[2..]), None);
    }

    #[test]
    fn other_contenders_of_ours_are_held_against_it() {
        let values = [("signaling", 100.0), ("signaling-redis", 120.0), ("signaling-nodes", 401.0)];
        let redis = |limit| of(CpuUs, Times(OURS, limit)).of(SignalingRedis);
        assert_eq!(judged(redis(1.2), "cpu_us", &values), Some((1.2, true)));
        assert_eq!(judged(redis(1.1), "cpu_us", &values), Some((1.2, false)));
        let nodes = |rule| judged(of(P50Us, rule).of(SignalingNodes), "p50_us", &values);
        assert_eq!(nodes(Above(OURS, 301.0)), Some((301.0, true)));
        assert_eq!(nodes(Above(OURS, 300.0)), Some((301.0, false)));
        assert_eq!(nodes(AtMost(400.0)), Some((401.0, false)));
    }

    #[test]
    fn once_is_more_than_never() {
        let judged = |rule, lost: [f64; 3]| {
            judged(of(Lost, rule), "never", &lost.map(|lost| ("signaling", lost)))
        };
        assert_eq!(judged(Never, [0.0, 0.0, 0.0]), Some((0.0, true)));
        assert_eq!(judged(Never, [0.0, 1.0, 0.0]), Some((1.0, false)));
        assert_eq!(judged(AtMost(0.0), [0.0, 1.0, 0.0]), Some((0.0, true)));
    }

    #[test]
    fn flat_is_over_all_sizes_and_all_of_the_time_or_not_measured() {
        const SIZES: &[usize] = &[64, 128, 512];
        let lines = [(64, 3.0), (512, 2.0), (128, 4.0)]
            .map(|(pairs, us)| line("pingpong", "signaling", pairs, &[("cpu_us", us)]));
        let flat = |limit, lines: &[String]| judge(of(CpuUs, Flat(SIZES, limit)), &lines.concat());
        assert_eq!(flat(1.5, &lines), Some((2.0, false)));
        assert_eq!(flat(2.0, &lines), Some((2.0, true)));
        assert_eq!(flat(2.0, &lines[..2]), None);
        let tenths = line("pingpong", "signaling", 64, &[("first_us", 200.0), ("last_us", 300.0)]);
        assert_eq!(judge(of(LastUs, FlatInTime(1.1)), &tenths), Some((1.5, false)));
    }

    #[test]
    fn the_full_comparison_measures_every_bar() {
        let plan = plan(Length::Full);
        for Bar { what, case, who, rule, .. } in BARS {
            let is_run = |case: Case, who| {
                let mut steps = plan.iter();
                steps
                    .any(|(scenario, pairs, all)| (*scenario, *pairs) == case && all.contains(&who))
            };
            let (sizes, others) = match rule {
                Flat(sizes, _) => (*sizes, vec![]),
                Times(other, _) | Above(other, _) => (&[][..], vec![*other]),
                Peers(_) => (&[][..], vec![Contender::Socketioxide, Contender::NpmSocketIo]),
                AtMost(_) | Never | FlatInTime(_) => (&[][..], vec![]),
            };
            for needed in others.into_iter().chain([*who]) {
                assert!(is_run(*case, needed), "{what}: no {needed}");
            }
            for size in sizes {
                assert!(is_run((case.0, *size), *who), "{what}: not with {size} pairs");
            }
        }
    }
}
