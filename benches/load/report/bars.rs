//! What must hold, and whether it does.

use std::fmt;

use crate::{
    contender::{Contender, Kind},
    figures::Figure,
    results::{Case, Results},
};

/// Who is to hold the bars.
pub(crate) const OURS: Contender = Contender::Signaling;
/// What others are compared with.
pub(crate) const FLOOR: Contender = Contender::Axum;

pub(super) struct Bar {
    pub(super) what: &'static str,
    pub(super) case: Case,
    pub(super) figure: Figure,
    pub(super) rule: Rule,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// At most so many times the figure of the floor.
    Floor(f64),
    /// At most so many times the figure of each peer.
    Peers(f64),
    /// At most so many times the figure of ours with sessions in memory, from another contender of ours.
    Memory(Contender, f64),
    /// The same, at most so much above it.
    Above(Contender, f64),
    /// At most this, in the median.
    AtMost(f64),
    /// Not once, in any round.
    Never,
    /// At most this, of two nodes on Redis.
    Nodes(f64),
    /// With each of these numbers of pairs: the most is at most so many times the least.
    Flat(&'static [usize], f64),
    /// The last tenth costs at most so many times the first.
    FlatInTime(f64),
}

#[cfg(test)]
impl Rule {
    /// Who is to be measured for it.
    pub(super) fn needs(self) -> Vec<Contender> {
        match self {
            Self::Floor(_) => vec![OURS, FLOOR],
            Self::Peers(_) => vec![OURS, Contender::Socketioxide, Contender::NpmSocketIo],
            Self::Memory(other, _) | Self::Above(other, _) => vec![OURS, other],
            Self::Nodes(_) => vec![Contender::SignalingNodes],
            Self::AtMost(_) | Self::Never | Self::Flat(..) | Self::FlatInTime(_) => vec![OURS],
        }
    }
}

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
        let Self { case, figure, rule, .. } = *self;
        let median = |contender| results.median(case, contender, figure);
        let (value, limit, beside) = match rule {
            Rule::Floor(limit) => {
                (results.ratio(case, figure, OURS, FLOOR)?, limit, "× axum floor".to_owned())
            }
            Rule::Peers(limit) => {
                let peers = results.contenders(case).filter(|peer| peer.kind() == Kind::Peer);
                let ratio = |peer| Some((results.ratio(case, figure, OURS, peer)?, peer));
                let ratios = peers.filter_map(ratio).collect::<Vec<_>>();
                let (nearest, peer) =
                    ratios.iter().max_by(|(one, _), (two, _)| one.total_cmp(two))?;
                (*nearest, limit, format!("× {peer}, the nearest of {} peers", ratios.len()))
            }
            Rule::Memory(contender, limit) => {
                let ratio = results.ratio(case, figure, contender, OURS)?;
                (ratio, limit, "× sessions in memory".to_owned())
            }
            Rule::Above(contender, limit) => {
                let above = median(contender)? - median(OURS)?;
                (above, limit, format!("{} above one node", unit(figure)))
            }
            Rule::AtMost(limit) => (median(OURS)?, limit, unit(figure).to_owned()),
            Rule::Nodes(limit) => {
                (median(Contender::SignalingNodes)?, limit, unit(figure).to_owned())
            }
            Rule::Never => (results.spread(case, OURS, figure)?.most, 0.0, unit(figure).to_owned()),
            Rule::Flat(sizes, limit) => {
                let values =
                    sizes.iter().map(|pairs| results.compared((case.0, *pairs), OURS, figure));
                let values = values.map(|spread| Some(spread?.median));
                let mut values = values.collect::<Option<Vec<_>>>()?;
                values.sort_unstable_by(f64::total_cmp);
                let [least, .., most] = values.as_slice() else { return None };
                (most / least, limit, "most over least of all sizes".to_owned())
            }
            Rule::FlatInTime(limit) => {
                let at = |figure| Some(results.compared(case, OURS, figure)?.median);
                let ratio = at(Figure::Last)? / at(Figure::First)?;
                (ratio, limit, "last tenth over the first".to_owned())
            }
        };
        Some(Measured { value, limit, beside })
    }
}

fn unit(figure: Figure) -> &'static str {
    match figure {
        Figure::Cpu | Figure::First | Figure::Last | Figure::Redis => "µs of CPU",
        Figure::P50 | Figure::P99 | Figure::P999 => "µs",
        Figure::KibEach | Figure::Growth => "KiB",
        Figure::Served => "ms",
        Figure::ServerBusy | Figure::ClientBusy => "%",
        Figure::Rate => "a second",
        Figure::Never => "clients",
        Figure::OutOfOrder => "messages",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{results::tests::line, scenario::Scenario};

    const CASE: Case = (Scenario::Pingpong, 64);

    /// The CPU time of contenders in one case, and what a rule says of it.
    fn judged(rule: Rule, cpu: &[(&str, f64)]) -> Option<(f64, bool)> {
        let lines =
            cpu.iter().map(|(contender, us)| line("pingpong", contender, 64, &[("cpu_us", *us)]));
        judge(rule, Figure::Cpu, &lines.collect::<String>())
    }

    fn judge(rule: Rule, figure: Figure, lines: &str) -> Option<(f64, bool)> {
        let results = Results::parse(lines).unwrap();
        let bar = Bar { what: "it", case: CASE, figure, rule };
        bar.measured(&results).map(|of| (of.value, of.is_held()))
    }

    #[test]
    fn ours_is_held_against_the_floor() {
        let with =
            |ours| judged(Rule::Floor(1.5), &[("signaling", ours), ("axum", 4.0), ("tcp", 1.0)]);
        assert_eq!(with(6.0), Some((1.5, true)));
        assert_eq!(with(8.0), Some((2.0, false)));
        assert_eq!(judged(Rule::Floor(1.5), &[("signaling", 6.0), ("tcp", 4.0)]), None);
    }

    #[test]
    fn ours_is_held_against_every_peer() {
        let cpu = [("npm-ws", 16.0), ("matchbox", 10.0), ("tcp", 1.0), ("signaling", 8.0)];
        assert_eq!(judged(Rule::Peers(0.75), &cpu), Some((0.8, false)));
        assert_eq!(judged(Rule::Peers(0.8), &cpu), Some((0.8, true)));
        assert_eq!(judged(Rule::Peers(0.75), &cpu[2..]), None);
    }

    #[test]
    fn ours_is_held_against_sessions_in_memory() {
        let with = |redis| {
            let cpu = [("signaling", 4.0), ("signaling-redis", redis), ("axum", 1.0)];
            judged(Rule::Memory(Contender::SignalingRedis, 1.25), &cpu)
        };
        assert_eq!(with(5.0), Some((1.25, true)));
        assert_eq!(with(6.0), Some((1.5, false)));
    }

    #[test]
    fn what_is_added_is_a_difference() {
        let with = |nodes| {
            let cpu = [("signaling", 100.0), ("signaling-nodes", nodes)];
            judged(Rule::Above(Contender::SignalingNodes, 300.0), &cpu)
        };
        assert_eq!(with(400.0), Some((300.0, true)));
        assert_eq!(with(401.0), Some((301.0, false)));
    }

    #[test]
    fn once_is_more_than_never() {
        let lost = |never| line("pingpong", "signaling", 64, &[("never", never)]);
        let never = |lines: [String; 3]| judge(Rule::Never, Figure::Never, &lines.concat());
        assert_eq!(never([lost(0.0), lost(0.0), lost(0.0)]), Some((0.0, true)));
        assert_eq!(never([lost(0.0), lost(1.0), lost(0.0)]), Some((1.0, false)));
        let median = |lines: [String; 3]| judge(Rule::AtMost(0.0), Figure::Never, &lines.concat());
        assert_eq!(median([lost(0.0), lost(1.0), lost(0.0)]), Some((0.0, true)));
    }

    #[test]
    fn flat_is_over_all_sizes_or_not_measured() {
        const SIZES: &[usize] = &[64, 128, 512];
        let lines = [(64, 3.0), (512, 2.0), (128, 4.0)]
            .map(|(pairs, us)| line("pingpong", "signaling", pairs, &[("cpu_us", us)]));
        let flat =
            |limit, lines: &[String]| judge(Rule::Flat(SIZES, limit), Figure::Cpu, &lines.concat());
        assert_eq!(flat(1.5, &lines), Some((2.0, false)));
        assert_eq!(flat(2.0, &lines), Some((2.0, true)));
        assert_eq!(flat(2.0, &lines[..2]), None);
    }

    #[test]
    fn the_last_tenth_is_held_against_the_first() {
        let lines = line("pingpong", "signaling", 64, &[("first_us", 200.0), ("last_us", 300.0)]);
        assert_eq!(judge(Rule::FlatInTime(1.1), Figure::Last, &lines), Some((1.5, false)));
        assert_eq!(judge(Rule::FlatInTime(1.5), Figure::Last, &lines), Some((1.5, true)));
    }

    #[test]
    fn only_two_nodes_count_where_they_are_asked_for() {
        let redis = |contender, us| line("pingpong", contender, 64, &[("redis_us", us)]);
        let lines = [redis("signaling-redis", 1.0), redis("signaling-nodes", 6.0)].concat();
        assert_eq!(judge(Rule::Nodes(5.0), Figure::Redis, &lines), Some((6.0, false)));
    }
}
