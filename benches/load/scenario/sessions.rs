//! Many open sessions: `Relay::open_session` itself, without connections.

use std::{
    env,
    ops::Range,
    process::{Command, id},
    time::Duration,
};

use signaling_core::{
    Relay,
    frame::CloseReason,
    id::{SessionId, UserId},
    testing::guest::Nobody,
};

use super::{Done, Run, now};
use crate::{
    contender::Contender,
    deployment::CORE,
    figures::{Figure, Figures, figures},
    process,
};

/// Sessions before the count.
const FIRST: usize = 10;
/// Opened, timed, and closed again together.
const BATCH: usize = 100;
/// How often.
const BATCHES: usize = 2000;

/// A session for each pair, in a process of its own on the servers' core. The server that was started has nothing to
/// do meanwhile.
pub(super) fn sessions(run: Run<'_>) -> Done<Figures> {
    if run.contender != Contender::Signaling {
        return Err("only ours is measured without connections".into());
    }
    let output = Command::new("taskset")
        .args(["-c", CORE])
        .arg(env::current_exe()?)
        .args(["open-sessions", &run.pairs.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What that process measures: the memory of so many open sessions, and the time that one more takes.
pub(crate) async fn open_sessions(count: usize) -> Done<Figures> {
    let relay = Relay::builder(Nobody).start().await?;
    // What the first ones need is needed once.
    open(&relay, 0..FIRST).await?;

    let before = process::resident(id())?;
    let mut next = FIRST;
    while next < FIRST + count {
        // What is given back is not kept: that would be memory as well.
        let batch = BATCH.min(FIRST + count - next);
        open(&relay, next..next + batch).await?;
        next += batch;
    }
    let resident = process::resident(id())?;

    let mut timed = Duration::ZERO;
    for _ in 0..BATCHES {
        let began = now();
        let batch = open(&relay, next..next + BATCH).await?;
        timed += began.elapsed();
        for session in &batch {
            relay.close_session(session, CloseReason::default()).await?;
        }
        next += BATCH;
    }
    let seconds = timed.as_secs_f64();
    let mut measured = figures(BATCH * BATCHES, seconds, seconds)?;
    let each = resident.saturating_sub(before) as f64 / count as f64;
    measured.extend([(Figure::ResidentKib, resident as f64), (Figure::KibEach, each)]);
    Ok(measured)
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
