//! Signals between pairs that are connected already, as fast as they go.

use std::collections::VecDeque;

use tokio::task::{self, LocalSet};

use super::{
    Done, Run, micros, now,
    pairs::{self, Pair},
    window::Window,
};
use crate::{
    client::Payload,
    figures::{Figures, Tally},
};

/// Runs one task for each pair, and puts together what they and the server's clock say.
async fn measure<F>(run: Run<'_>, drive: impl Fn(Pair, Window) -> F) -> Done<Figures>
where
    F: Future<Output = Done<Tally>> + 'static,
{
    let pairs = pairs::talking(run.contender, run.servers.entry(), 0..run.pairs).await?;
    let window = Window::of(run.length);
    LocalSet::new()
        .run_until(async {
            let tasks: Vec<_> =
                pairs.into_iter().map(|pair| task::spawn_local(drive(pair, window))).collect();
            let used = window.watch(run.servers).await?;
            let mut tally = Tally::default();
            for task in tasks {
                tally.add(task.await??);
            }
            used.each_of(tally)
        })
        .await
}

pub(super) async fn pingpong(run: Run<'_>) -> Done<Figures> {
    measure(run, |mut pair, window| async move {
        let mut tally = Tally::default();
        let [a, b] = &pair;
        let mut signals = [a.prepare(Payload::Candidate)?, b.prepare(Payload::Candidate)?];
        let mut sent = now();
        for n in 1.. {
            let [from, to] = &mut pair;
            from.send(&signals[0], n).await?;
            let received = to.receive().await?;
            let at = now();
            if window.has(at) {
                tally.latencies_us.push(micros(sent, at));
                tally.out_of_order += u32::from(received != n);
            }
            if at >= window.until {
                break;
            }
            sent = at;
            pair.reverse();
            signals.reverse();
        }
        Ok(tally)
    })
    .await
}

pub(super) async fn flood(run: Run<'_>, in_flight: usize, payload: Payload) -> Done<Figures> {
    measure(run, move |[mut a, mut b], window| async move {
        let (mut tally, mut sent, mut last) = (Tally::default(), VecDeque::new(), 0);
        let signal = a.prepare(payload)?;
        let mut at = now();
        for n in 1.. {
            a.feed(&signal, n);
            sent.push_back(at);
            if sent.len() < in_flight {
                continue;
            }
            a.flush().await?;
            let mut next = Some(b.receive().await?);
            at = now();
            while let Some(received) = next {
                let sent = sent.pop_front().ok_or("more came than went")?;
                if window.has(at) {
                    tally.latencies_us.push(micros(sent, at));
                    tally.out_of_order += u32::from(received != last + 1);
                }
                last = received;
                next = b.receive_ready()?;
            }
            if at >= window.until {
                break;
            }
        }
        Ok(tally)
    })
    .await
}
