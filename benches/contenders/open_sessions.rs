//! Opens sessions by `Relay::open_session`, without a network: how long one takes, and what memory they
//! have.
//!
//! `open-sessions <how many are open>` prints one line of JSON.

use std::{env, error::Error, ops::Range, process, time::Duration};

use serde_json::json;
use signaling_core::{
    Relay,
    frame::CloseReason,
    id::{SessionId, UserId},
    jwt::{Algorithm, JwtAuthenticator, JwtKey},
};
use tokio::time::Instant;

#[path = "../load/memory.rs"]
mod memory;
#[path = "../load/secret.rs"]
mod secret;

/// Sessions before the count.
const FIRST: usize = 10;
/// Opened, timed, and closed again together.
const BATCH: usize = 100;
/// How often.
const BATCHES: usize = 2000;

type Done<T> = Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done<()> {
    let count = env::args().nth(1).ok_or("how many")?.parse::<usize>()?;
    let key = JwtKey::secret(Algorithm::HS256, secret::SECRET);
    let authenticator = JwtAuthenticator::builder().key(key).build()?;
    let relay = Relay::builder(authenticator).start().await?;
    // What the first ones need is needed once.
    open(&relay, 0..FIRST).await?;

    let before = memory::resident(process::id())?;
    let mut next = FIRST;
    while next < FIRST + count {
        // What is given back is not kept: that would be memory as well.
        let batch = BATCH.min(FIRST + count - next);
        open(&relay, next..next + batch).await?;
        next += batch;
    }
    let resident_kib = memory::resident(process::id())?;

    let mut timed = Duration::ZERO;
    for _ in 0..BATCHES {
        let began = Instant::now();
        let batch = open(&relay, next..next + BATCH).await?;
        timed += began.elapsed();
        close(&relay, &batch).await?;
        next += BATCH;
    }
    let said = json!({
        "opened": BATCH * BATCHES,
        "seconds": timed.as_secs_f64(),
        "resident_kib": resident_kib,
        "kib_each": resident_kib.saturating_sub(before) as f64 / count as f64,
    });
    println!("{said}");
    Ok(())
}

async fn open(relay: &Relay, numbers: Range<usize>) -> Done<Vec<SessionId>> {
    let mut sessions = Vec::with_capacity(numbers.len());
    for number in numbers {
        let user = |side| UserId::new(&format!("user-{number:06}-{side}"));
        let (first, second) = (user('a')?, user('b')?);
        sessions.push(relay.open_session(&first, &second).await?);
    }
    Ok(sessions)
}

async fn close(relay: &Relay, sessions: &[SessionId]) -> Done<()> {
    for session in sessions {
        relay.close_session(session, CloseReason::default()).await?;
    }
    Ok(())
}
