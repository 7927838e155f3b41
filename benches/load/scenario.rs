//! What clients do while a contender is watched.

mod calls;
mod idle;
mod relay;

use std::{error::Error, fmt, time::Duration};

use clap::ValueEnum;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    contender::{Contender, session},
    figures::Figures,
    server::Server,
};

/// What is not measured at the start of a run.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Each pair has one candidate under way, back and forth.
    Pingpong,
    /// Each pair has 16 candidates under way.
    Flood,
    /// Each pair has 4 descriptions of 3.7 KB under way.
    FloodDescriptions,
    /// 5,000 candidates a second over all pairs; latency from the moment that each was meant to go.
    Paced,
    /// Whole calls, 16 at the same time: connect both, match, offer, answer, ten candidates each way,
    /// leave, close.
    Callsetup,
    /// 100 whole calls a second; latency from the moment that each was meant to begin.
    CallsetupPaced,
    /// Everybody connected and nobody talking: memory, and what connecting costs.
    Idle,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Scenario {
    pub(crate) async fn run(
        self,
        contender: Contender,
        server: &Server,
        pairs: usize,
        length: Duration,
    ) -> Result<Figures, Box<dyn Error>> {
        match self {
            Self::Pingpong => relay::pingpong(contender, server, pairs, length).await,
            Self::Flood => {
                relay::flood(contender, server, pairs, length, (16, Payload::Candidate)).await
            }
            Self::FloodDescriptions => {
                relay::flood(contender, server, pairs, length, (4, Payload::Description)).await
            }
            Self::Paced => relay::paced(contender, server, pairs, length).await,
            Self::Callsetup => calls::at_once(contender, server, length).await,
            Self::CallsetupPaced => calls::paced(contender, server, length).await,
            Self::Idle => idle::idle(contender, server, pairs).await,
        }
    }
}

/// How large a signal is, in bytes of payload: what browsers send.
#[derive(Debug, Clone, Copy)]
enum Payload {
    /// 300 bytes with all around it.
    Candidate,
    /// 3.7 KB.
    Description,
    /// 6 KB: audio and video.
    Offer,
}

impl Payload {
    const fn kind(self) -> (&'static str, &'static str, usize) {
        match self {
            Self::Candidate => ("ice-candidate", "candidate", 300),
            Self::Description => ("offer", "sdp", 3700),
            Self::Offer => ("offer", "sdp", 6000),
        }
    }
}

/// The number of a signal stands at the end of its text, where it costs nothing to find.
const DIGITS: usize = 9;

/// The signal number `number` of `room`.
fn signal(room: usize, payload: Payload, number: u32) -> Utf8Bytes {
    let (kind, field, size) = payload.kind();
    let session = session(room);
    let head = format!(r#"{{"type":"{kind}","sessionId":"{session}","{field}":"#);
    // An object, as browsers make it of a candidate; all in it is opaque to a server.
    let frame = head.len() + r#"{"usernameFragment":"","n":}}"#.len() + DIGITS;
    let filling = "candidate 1 udp 2122260223 192.0.2.7 54400 typ host ".chars().cycle();
    let filling = filling.take(size.saturating_sub(frame)).collect::<String>();
    let number = 100_000_000 + number;
    format!(r#"{head}{{"usernameFragment":"{filling}","n":{number}}}}}"#).into()
}

/// The number of a signal that arrived.
fn number(text: &str) -> Option<u32> {
    let digits = text.len().checked_sub(DIGITS + 2).and_then(|from| text.get(from..))?;
    digits.get(..DIGITS)?.parse::<u32>().ok()?.checked_sub(100_000_000)
}

fn now() -> Instant {
    Instant::now()
}

fn micros(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_as_long_as_it_says_and_has_its_number() {
        for payload in [Payload::Candidate, Payload::Description, Payload::Offer] {
            let text = signal(7, payload, 123);
            assert_eq!((text.len(), number(&text)), (payload.kind().2, Some(123)), "{text}");
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }
}
