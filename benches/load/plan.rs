//! What is compared with what: the short way, and the long one.

use clap::ValueEnum;

use crate::{
    contender::{Contender, Kind, Sessions},
    scenario::Scenario,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Length {
    /// Under ten minutes: ours, the axum floor and the peers.
    Short,
    /// About thirty: everything.
    Full,
}

/// A scenario, a number of pairs, and who is run with it in turn.
pub(crate) type Step = (Scenario, usize, Vec<Contender>);

impl Length {
    /// How long one measurement takes.
    pub(crate) const fn seconds(self) -> u64 {
        match self {
            Self::Short => 2,
            Self::Full => 3,
        }
    }
}

pub(crate) fn plan(length: Length) -> Vec<Step> {
    let steps: &[_] = match length {
        Length::Short => &SHORT,
        Length::Full => &FULL,
    };
    let step = |(scenario, pairs, who): &(Scenario, usize, Who)| {
        let everybody = Contender::value_variants().iter().copied();
        (*scenario, *pairs, everybody.filter(|contender| who.has(*contender)).collect())
    };
    steps.iter().map(step).collect()
}

enum Who {
    /// Ours, the axum floor, and of each peer one.
    Few,
    /// Ours, the axum floor, and all peers.
    Compared,
    /// And the wall, plain TCP.
    AndTcp,
    /// But for matchbox: 5,000 rooms take it minutes.
    Crowd,
    /// All that is compared, ours on warp, and the other floors.
    Everybody,
    /// And ours with its sessions in Redis.
    AndRedis,
    Only(&'static [Contender]),
}
use Who::{AndRedis, AndTcp, Compared, Crowd, Everybody, Few, Only};

impl Who {
    fn has(&self, contender: Contender) -> bool {
        match self {
            Self::Few => Self::Compared.has(contender) && contender != Contender::MatchboxServer,
            Self::AndTcp => Self::Compared.has(contender) || contender == Contender::Tcp,
            Self::Crowd => Self::Compared.has(contender) && contender != Contender::Matchbox,
            Self::Compared => {
                contender.kind() == Kind::Peer
                    || matches!(contender, Contender::Signaling | Contender::Axum)
            }
            Self::Everybody => contender.sessions() == Sessions::Inside,
            Self::AndRedis => {
                Self::Everybody.has(contender) || contender == Contender::SignalingRedis
            }
            Self::Only(contenders) => contenders.contains(&contender),
        }
    }
}

const SHORT: [(Scenario, usize, Who); 7] = [
    (Scenario::Pingpong, 64, Few),
    (Scenario::Flood, 64, Few),
    (Scenario::Paced, 64, Few),
    (Scenario::Callsetup, 128, Few),
    (Scenario::CallsetupPaced, 16, Few),
    (Scenario::Churn, 64, Few),
    (Scenario::Idle, 500, Few),
];

/// For what has to be flat, and has nothing to do with the peers.
const WITH_FLOOR: Who = Only(&[Contender::Signaling, Contender::Axum]);
const OURS: Who = Only(&[Contender::Signaling]);
const NODES: Who = Only(&[Contender::Signaling, Contender::SignalingNodes]);

const FULL: [(Scenario, usize, Who); 20] = [
    (Scenario::Pingpong, 64, AndRedis),
    (Scenario::Pingpong, 512, AndTcp),
    (Scenario::Flood, 64, AndRedis),
    (Scenario::FloodDescriptions, 64, Everybody),
    (Scenario::Paced, 64, Compared),
    (Scenario::Callsetup, 128, Everybody),
    (Scenario::CallsetupPaced, 16, Compared),
    (Scenario::CallsetupLong, 50_000, WITH_FLOOR),
    (Scenario::Idle, 500, Compared),
    (Scenario::Idle, 5000, Crowd),
    (Scenario::Idle, 9000, WITH_FLOOR),
    (Scenario::Heartbeats, 9000, WITH_FLOOR),
    (Scenario::Churn, 64, Compared),
    (Scenario::Storm, 5000, Crowd),
    (Scenario::PacedSlow, 64, NODES),
    (Scenario::PacedFast, 64, NODES),
    (Scenario::Sessions, 100, OURS),
    (Scenario::Sessions, 1000, OURS),
    (Scenario::Sessions, 10_000, OURS),
    (Scenario::Sessions, 100_000, OURS),
];
