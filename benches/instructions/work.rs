//! What is counted. Each does its thing `count` times, after what it needs once.

use std::{fmt, hint::black_box, iter::zip};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use signaling_core::{Config, auth::Authenticator, frame::Text, protocol::ClientMessage};
use tokio::{runtime, time};

use crate::{
    stage::{Caller, Stage, User, authenticator},
    texts,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Reading a candidate of 300 bytes.
    Parse,
    /// Reading an offer of 6 KB.
    ParseOffer,
    /// Verifying a token, HS256.
    Token,
    /// A candidate from one client to the other, one at a time.
    Relay,
    /// The same, 16 at once.
    RelayBurst,
    /// A heartbeat of one of 800 connections, its answer, and its part in the batch for the store.
    Heartbeat,
    /// A session opened; both users verified, connected and told of their match; one leaves, the
    /// other is told, both close.
    Call,
}

/// Candidates at once.
const BURST: usize = 16;
/// Pairs that send heartbeats, or call in turn.
const PAIRS: usize = 400;

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Work {
    /// How often it is done at least: often enough for chance, and whole rounds of all its users.
    pub(crate) const fn count(self) -> usize {
        match self {
            Self::Parse | Self::Relay | Self::RelayBurst | Self::Heartbeat => 9600,
            Self::ParseOffer | Self::Token | Self::Call => 1000,
        }
    }

    /// Does it, on one thread and a clock that moves when there is nothing left to do.
    pub(crate) fn run(self, count: usize) -> std::io::Result<()> {
        let runtime =
            runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async {
            match self {
                Self::Parse => parse(&texts::candidate(&texts::session(0)), count),
                Self::ParseOffer => parse(&texts::description("offer", &texts::session(0)), count),
                Self::Token => verify(count).await,
                Self::Relay => relay(count, 1).await,
                Self::RelayBurst => relay(count, BURST).await,
                Self::Heartbeat => heartbeats(count).await,
                Self::Call => calls(count).await,
            }
        });
        Ok(())
    }
}

fn parse(text: &str, count: usize) {
    for _ in 0..count {
        let message = ClientMessage::parse(black_box(text));
        black_box(message.expect("a message"));
    }
}

async fn verify(count: usize) {
    let (authenticator, user) = (authenticator(), User::new(0));
    for _ in 0..count {
        let identity = authenticator.authenticate(black_box(&user.credentials)).await;
        black_box(identity.expect("a good token"));
    }
}

/// `count` candidates go back and forth, so many at once.
async fn relay(count: usize, at_once: usize) {
    let stage = Stage::start().await;
    let [ann, bob] = connect(&stage, 0).await;
    let text = Text::from(texts::candidate(&texts::session(0)));
    for _ in 0..count / (2 * at_once) {
        ann.send(&bob, &text, at_once).await;
        bob.send(&ann, &text, at_once).await;
    }
}

async fn heartbeats(count: usize) {
    let batch = Config::default().heartbeat_batch;
    let stage = Stage::start().await;
    let mut callers = Vec::with_capacity(2 * PAIRS);
    for number in 0..PAIRS {
        let beat = Text::from(texts::heartbeat(&texts::session(number)));
        for caller in connect(&stage, number).await {
            callers.push((caller, beat.clone()));
        }
    }
    for _ in 0..count / callers.len() {
        for (caller, beat) in &callers {
            caller.say(beat);
        }
        for (caller, _) in &callers {
            caller.client.expect("heartbeat-ack").await;
        }
        time::sleep(batch).await;
    }
}

async fn calls(count: usize) {
    let stage = Stage::start().await;
    let users = User::pairs(PAIRS);
    for (number, [ann, bob]) in zip(0..count, users.iter().cycle()) {
        stage.call(&texts::session(number), [ann, bob]).await;
    }
}

async fn connect(stage: &Stage, pair: usize) -> [Caller; 2] {
    let [ann, bob] = [User::new(2 * pair), User::new(2 * pair + 1)];
    stage.connect(&texts::session(pair), [&ann, &bob]).await
}
