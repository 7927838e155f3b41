//! Many connections, nobody talking.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::time;

use super::{
    Done, Run,
    pairs::{Pair, connect_all},
    window::Meter,
};
use crate::figures::{Figure, Figures};

/// Pairs before the count: what the first ones need is needed once.
const FIRST: usize = 100;
/// Rounds of heartbeats before memory is looked at: what they need is part of it.
const HEARTBEATS: usize = 3;
/// What a server may take to let go of what it needed for connecting, or for those who left.
const SETTLE: Duration = Duration::from_secs(2);
/// Pairs that hang up at the same time.
const LEAVING: usize = 64;

/// Connects all pairs: what that cost, and what memory each connection then has. Then all hang up, and
/// as many come for other calls.
pub(super) async fn idle(run: Run<'_>) -> Done<Figures> {
    let (servers, at) = (run.servers, run.servers.entry());
    let mut first = connect_all(run.contender, at, 0..FIRST).await?;
    keep_alive(&mut first).await?;
    let before = servers.resident()?;

    let meter = Meter::start(servers)?;
    let mut pairs = connect_all(run.contender, at, FIRST..FIRST + run.pairs).await?;
    let used = meter.used()?;
    keep_alive(&mut pairs).await?;
    time::sleep(SETTLE).await;
    let with_all = servers.resident()?;

    // Before the first ones have been silent for too long.
    keep_alive(&mut first).await?;
    leave(pairs).await?;
    time::sleep(SETTLE).await;
    keep_alive(&mut first).await?;
    let next = FIRST + run.pairs;
    let mut pairs = connect_all(run.contender, at, next..next + run.pairs).await?;
    keep_alive(&mut pairs).await?;
    time::sleep(SETTLE).await;
    let after = servers.resident()?;

    let count = 2 * pairs.len();
    let mut figures = used.each(count)?;
    figures.extend([
        (Figure::ResidentKib, with_all as f64),
        (Figure::KibEach, with_all.saturating_sub(before) as f64 / count as f64),
        (Figure::GrowthKib, after as f64 - with_all as f64),
    ]);
    Ok(figures)
}

/// Some rounds of heartbeats, where the contender has any.
async fn keep_alive(pairs: &mut [Pair]) -> Done<()> {
    for _ in 0..HEARTBEATS {
        for client in pairs.iter_mut().flatten() {
            client.heartbeat().await?;
        }
    }
    Ok(())
}

async fn leave(pairs: Vec<Pair>) -> Done<()> {
    let leave = async |[mut a, mut b]: Pair| {
        a.leave().await?;
        b.partner_gone().await?;
        a.close().await?;
        b.close().await
    };
    let mut pairs = pairs.into_iter();
    while pairs.len() > 0 {
        try_join_all(pairs.by_ref().take(LEAVING).map(leave)).await?;
    }
    Ok(())
}
