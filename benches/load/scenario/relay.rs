//! Signals between pairs that are connected already, as fast as they go.

use std::collections::VecDeque;

use tokio::task::{self, LocalSet};

use super::{
    Done, Run, micros, now,
    pairs::{self, Pair},
    signal::{Payload, number, signal},
    window::Window,
};
use crate::{
    client::Unexpected,
    figures::{Figures, Tally},
};

/// Runs one task for each pair, and puts together what they and the server's clock say.
async fn measure<F>(run: Run<'_>, drive: impl Fn(usize, Pair, Window) -> F) -> Done<Figures>
where
    F: Future<Output = Done<Tally>> + 'static,
{
    let pairs = pairs::talking(run.contender, run.servers.entry(), 0..run.pairs).await?;
    let window = Window::of(run.length);
    LocalSet::new()
        .run_until(async {
            let tasks: Vec<_> = pairs
                .into_iter()
                .enumerate()
                .map(|(room, pair)| task::spawn_local(drive(room, pair, window)))
                .collect();
            let used = window.watch(run.servers).await?;
            let mut tally = Tally::default();
            for task in tasks {
                tally.add(task.await??);
            }
            used.each_of(tally)
        })
        .await
}

fn number_of(text: &str) -> Done<u32> {
    Ok(number(text).ok_or_else(|| Unexpected(format!("no signal of ours: {text}")))?)
}

pub(super) async fn pingpong(run: Run<'_>) -> Done<Figures> {
    measure(run, |room, mut pair, window| async move {
        let mut tally = Tally::default();
        for n in 1.. {
            let (sent, [from, to]) = (now(), &mut pair);
            from.send(signal(room, Payload::Candidate, n)).await?;
            let received = number_of(&to.receive().await?)?;
            let at = now();
            if window.has(at) {
                tally.latencies_us.push(micros(sent, at));
                tally.out_of_order += u64::from(received != n);
            }
            if at >= window.until {
                break;
            }
            pair.reverse();
        }
        Ok(tally)
    })
    .await
}

pub(super) async fn flood(run: Run<'_>, in_flight: usize, payload: Payload) -> Done<Figures> {
    measure(run, move |room, [mut a, mut b], window| async move {
        let (mut tally, mut sent, mut last) = (Tally::default(), VecDeque::new(), 0);
        for n in 1.. {
            a.feed(signal(room, payload, n)).await?;
            sent.push_back(now());
            if sent.len() < in_flight {
                continue;
            }
            a.flush().await?;
            let mut text = b.receive().await?;
            loop {
                let (at, received) = (now(), number_of(&text)?);
                let sent = sent.pop_front().ok_or("more came than went")?;
                if window.has(at) {
                    tally.latencies_us.push(micros(sent, at));
                    tally.out_of_order += u64::from(received != last + 1);
                }
                last = received;
                match b.receive_ready() {
                    Some(ready) => text = ready?,
                    None => break,
                }
            }
            if now() >= window.until {
                break;
            }
        }
        Ok(tally)
    })
    .await
}
