//! Many connections that only keep alive.

use futures::future::try_join;

use super::{Done, Run, pace::Pace, pairs::connect_all, window::Window};
use crate::figures::Figures;

/// A second, spread evenly over all. A page sends one in ten seconds; at this rate, 23 % of a core at
/// 46 µs each, a second's CPU time is known to 2 %, and nobody is kept so busy that several are read at
/// once.
const RATE: u32 = 5_000;

pub(super) async fn heartbeats(run: Run<'_>) -> Done<Figures> {
    let pairs = connect_all(run.contender, run.servers.entry(), 0..run.pairs).await?;
    let mut clients = pairs.into_iter().flatten().collect::<Vec<_>>();
    let (window, pace) = (Window::of(run.length), Pace::per_second(RATE));
    let mut counted = 0;
    let beats = pace.in_turn(window.until, async |n, meant| {
        let next = n as usize % clients.len();
        if !clients[next].heartbeat().await? {
            return Err("it has no heartbeats".into());
        }
        counted += usize::from(window.has(meant));
        Ok(())
    });
    let (used, _) = try_join(window.watch(run.servers), beats).await?;
    used.each(counted)
}
