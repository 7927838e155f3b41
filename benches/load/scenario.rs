//! What clients do while a contender is watched.

mod calls;
mod churn;
mod heartbeats;
mod idle;
mod pace;
mod paced;
mod pairs;
mod relay;
mod sessions;
mod storm;
mod window;

use std::{fmt, time::Duration};

use clap::ValueEnum;
use tokio::time::Instant;

pub(crate) use self::sessions::open_sessions;
use crate::{
    Done, client::Payload, contender::Contender, deployment::Deployment, figures::Figures,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// Each pair has one candidate under way, back and forth.
    Pingpong,
    /// Each pair has 16 candidates under way.
    Flood,
    /// Each pair has 4 descriptions of 3.7 KB under way.
    FloodDescriptions,
    /// 5,000 candidates a second over all pairs; latency from the moment that each was meant to go.
    Paced,
    /// The same, 1,000 a second.
    #[value(name = "paced-1000")]
    PacedSlow,
    /// The same, 20,000 a second.
    #[value(name = "paced-20000")]
    PacedFast,
    /// Whole calls, as many at the same time as there are pairs: connect both, match, offer, answer, ten candidates each way,
    /// leave, close.
    Callsetup,
    /// 100 whole calls a second; latency from the moment that each was meant to begin.
    CallsetupPaced,
    /// As many whole calls as there are pairs, 64 at the same time: do the last ones cost what the
    /// first ones did?
    CallsetupLong,
    /// Everybody connected and nobody talking, twice: memory, and what connecting costs.
    Idle,
    /// Everybody connected and only keeping alive: what a heartbeat costs.
    Heartbeats,
    /// 100 connections a second break off: how long until their partners know.
    Churn,
    /// Everybody loses the connection at once and comes back at once.
    Storm,
    /// So many sessions are open: what opening one more costs, and what memory they have.
    Sessions,
}

/// How much a scenario asks of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// All that it can do: its CPU time for each counts if the clients kept it busy.
    Saturating,
    /// Connections as fast as they come. Most of the kernel's part of a handshake runs on the core of the clients,
    /// which cannot keep a cheap server busy: the rule for saturating ones would leave out every floor.
    Connecting,
    /// So much a second, for its latency. Its CPU time depends on how many messages each wake-up finds.
    Paced,
    /// So much a second, for its CPU time: one wake-up each, with all contenders alike.
    SamePace,
    /// Nothing: the time of one function is measured.
    Alone,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Scenario {
    pub(crate) const fn demand(self) -> Demand {
        match self {
            Self::Pingpong
            | Self::Flood
            | Self::FloodDescriptions
            | Self::Callsetup
            | Self::CallsetupLong => Demand::Saturating,
            Self::Idle | Self::Storm => Demand::Connecting,
            Self::Paced
            | Self::PacedSlow
            | Self::PacedFast
            | Self::CallsetupPaced
            | Self::Churn => Demand::Paced,
            Self::Heartbeats => Demand::SamePace,
            Self::Sessions => Demand::Alone,
        }
    }

    /// Starts the contender and ends it.
    pub(crate) async fn run(
        self,
        contender: Contender,
        pairs: usize,
        length: Duration,
    ) -> Done<Figures> {
        let servers = Deployment::start(contender).await?;
        let on = Run { contender, servers: &servers, pairs, length };
        match self {
            Self::Pingpong => relay::pingpong(on).await,
            Self::Flood => relay::flood(on, 16, Payload::Candidate).await,
            Self::FloodDescriptions => relay::flood(on, 4, Payload::Description).await,
            Self::Paced => paced::paced(on, 5_000).await,
            Self::PacedSlow => paced::paced(on, 1_000).await,
            Self::PacedFast => paced::paced(on, 20_000).await,
            Self::Callsetup => calls::at_once(on).await,
            Self::CallsetupPaced => calls::paced(on).await,
            Self::CallsetupLong => calls::long(on).await,
            Self::Idle => idle::idle(on).await,
            Self::Heartbeats => heartbeats::heartbeats(on).await,
            Self::Churn => churn::churn(on).await,
            Self::Storm => storm::storm(on).await,
            Self::Sessions => sessions::sessions(on),
        }
    }
}

/// What a scenario is run on.
#[derive(Clone, Copy)]
struct Run<'a> {
    contender: Contender,
    servers: &'a Deployment,
    pairs: usize,
    /// How long is measured, where the scenario does not end by itself.
    length: Duration,
}

fn now() -> Instant {
    Instant::now()
}

fn micros(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u32::MAX)
}
