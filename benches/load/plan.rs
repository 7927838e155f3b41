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
    /// Under forty: everything.
    Full,
}

/// A scenario, a number of pairs, and who is run with it in turn.
pub(crate) type Step = (Scenario, usize, Vec<Contender>);

pub(crate) fn plan(length: Length) -> Vec<Step> {
    let (steps, everybody): (&[_], _) = match length {
        Length::Short => (&SHORT, all(short)),
        Length::Full => (&FULL, all(inside)),
    };
    let who = |who: &Who| match who {
        Who::Everybody => everybody.clone(),
        Who::AndRedis => all(|one| everybody.contains(&one) || one == Contender::SignalingRedis),
        Who::Only(contenders) => contenders.to_vec(),
    };
    steps.iter().map(|(scenario, pairs, whom)| (*scenario, *pairs, who(whom))).collect()
}

enum Who {
    Everybody,
    /// And ours with its sessions in Redis.
    AndRedis,
    Only(&'static [Contender]),
}
use Who::{AndRedis, Everybody, Only};

const SHORT: [(Scenario, usize, Who); 7] = [
    (Scenario::Pingpong, 64, Everybody),
    (Scenario::Flood, 64, Everybody),
    (Scenario::Paced, 64, Everybody),
    (Scenario::Callsetup, 16, Everybody),
    (Scenario::CallsetupPaced, 16, Everybody),
    (Scenario::Churn, 64, Everybody),
    (Scenario::Idle, 1000, Everybody),
];

/// For what has to be flat, and has nothing to do with the peers.
const WITH_FLOOR: Who = Only(&[Contender::Signaling, Contender::Axum]);
const OURS: Who = Only(&[Contender::Signaling]);
const NODES: Who = Only(&[Contender::Signaling, Contender::SignalingNodes]);

const FULL: [(Scenario, usize, Who); 20] = [
    (Scenario::Pingpong, 64, AndRedis),
    (Scenario::Pingpong, 512, Everybody),
    (Scenario::Flood, 64, AndRedis),
    (Scenario::FloodDescriptions, 64, Everybody),
    (Scenario::Paced, 64, Everybody),
    (Scenario::Callsetup, 16, Everybody),
    (Scenario::CallsetupPaced, 16, Everybody),
    (Scenario::CallsetupLong, 50_000, WITH_FLOOR),
    (Scenario::Idle, 500, WITH_FLOOR),
    (Scenario::Idle, 5000, Everybody),
    (Scenario::Idle, 9000, WITH_FLOOR),
    (Scenario::Heartbeats, 9000, Everybody),
    (Scenario::Churn, 64, Everybody),
    (Scenario::Storm, 5000, Everybody),
    (Scenario::PacedSlow, 64, NODES),
    (Scenario::PacedFast, 64, NODES),
    (Scenario::Sessions, 100, OURS),
    (Scenario::Sessions, 1000, OURS),
    (Scenario::Sessions, 10_000, OURS),
    (Scenario::Sessions, 100_000, OURS),
];

fn all(chosen: impl Fn(Contender) -> bool) -> Vec<Contender> {
    Contender::value_variants().iter().copied().filter(|contender| chosen(*contender)).collect()
}

/// What two nodes cost is asked in steps of its own.
fn inside(contender: Contender) -> bool {
    contender.sessions() == Sessions::Inside
}

fn short(contender: Contender) -> bool {
    match contender.kind() {
        Kind::Ours => contender == Contender::Signaling,
        Kind::Floor => contender == Contender::Axum,
        Kind::Peer => true,
    }
}
