//! Signals between pairs that are connected already.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    error::Error,
    rc::Rc,
    time::Duration,
};

use tokio::task::{self, LocalSet};
use tokio::time::Instant;

use super::{Payload, WARM_UP, micros, now, number, signal};
use crate::{
    client::{Client, Unexpected},
    contender::{Contender, Place, Side},
    figures::{Figures, Tally},
    server::Server,
};

type Done<T> = Result<T, Box<dyn Error>>;

/// All candidates a second of [`paced`].
const PACED_RATE: u32 = 5000;
/// The last candidates of [`paced`] may take this long.
const LATEST: Duration = Duration::from_secs(5);

async fn connect(contender: Contender, server: &Server, pairs: usize) -> Done<Vec<[Client; 2]>> {
    let mut all = Vec::with_capacity(pairs);
    for room in 0..pairs {
        let place = |side| Place { room, side };
        let at = server.address;
        let a = Client::connect(contender, at, place(Side::A)).await?;
        let b = Client::connect(contender, at, place(Side::B)).await?;
        let mut pair = [a, b];
        for client in &mut pair {
            client.expect_match().await?;
        }
        // The first offer is the initiator's; and the way is open on both sides.
        for _ in 0..pair.len() {
            let [from, to] = &mut pair;
            from.send(signal(room, Payload::Description, 0)).await?;
            to.receive().await?;
            pair.reverse();
        }
        all.push(pair);
    }
    Ok(all)
}

/// When counting begins and ends.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

impl Window {
    fn of(length: Duration) -> Self {
        let from = now() + WARM_UP;
        Self { from, until: from + length }
    }

    fn has(self, at: Instant) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// Runs one task for each pair, and puts together what they and the server's clock say.
async fn measure<F>(
    server: &Server,
    pairs: Vec<[Client; 2]>,
    length: Duration,
    drive: impl Fn(usize, [Client; 2], Window) -> F,
) -> Done<Figures>
where
    F: Future<Output = Done<Tally>> + 'static,
{
    let window = Window::of(length);
    LocalSet::new()
        .run_until(async {
            let tasks: Vec<_> = pairs
                .into_iter()
                .enumerate()
                .map(|(room, pair)| task::spawn_local(drive(room, pair, window)))
                .collect();
            tokio::time::sleep_until(window.from).await;
            let (began, before) = (now(), server.cpu()?);
            tokio::time::sleep_until(window.until).await;
            let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu()? - before);
            let mut tally = Tally::default();
            for task in tasks {
                tally.add(task.await??);
            }
            figures(server, tally, seconds, cpu)
        })
        .await
}

fn figures(server: &Server, mut tally: Tally, seconds: f64, cpu: f64) -> Done<Figures> {
    let [p50_us, p99_us, p999_us] = tally.percentiles([500, 990, 999]);
    let count = tally.latencies_us.len() as u64;
    Ok(Figures {
        count,
        rate: count as f64 / seconds,
        cpu_us: cpu * 1e6 / count as f64,
        p50_us,
        p99_us,
        p999_us,
        out_of_order: tally.out_of_order,
        resident_kib: server.resident()?,
        kib_each: None,
    })
}

fn number_of(text: &str) -> Done<u32> {
    Ok(number(text).ok_or_else(|| Unexpected(format!("no signal of ours: {text}")))?)
}

pub(super) async fn pingpong(
    contender: Contender,
    server: &Server,
    pairs: usize,
    length: Duration,
) -> Done<Figures> {
    let pairs = connect(contender, server, pairs).await?;
    measure(server, pairs, length, |room, mut pair, window| async move {
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

pub(super) async fn flood(
    contender: Contender,
    server: &Server,
    pairs: usize,
    length: Duration,
    (in_flight, payload): (usize, Payload),
) -> Done<Figures> {
    let pairs = connect(contender, server, pairs).await?;
    measure(server, pairs, length, move |room, [mut a, mut b], window| async move {
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

pub(super) async fn paced(
    contender: Contender,
    server: &Server,
    pairs: usize,
    length: Duration,
) -> Done<Figures> {
    let pairs = connect(contender, server, pairs).await?;
    let (mut senders, receivers): (Vec<_>, Vec<_>) = pairs.into_iter().map(|[a, b]| (a, b)).unzip();
    let window = Window::of(length);
    let started = now();
    let gap = Duration::from_secs(1) / PACED_RATE;
    // In turn over all pairs, so a signal's number says when it was meant to go.
    let meant = move |n: u32| started + gap * n;
    let tally = Rc::new(RefCell::new(Tally::default()));
    let received = Rc::new(Cell::new(0_u32));
    LocalSet::new()
        .run_until(async {
            for mut receiver in receivers {
                let (tally, received) = (tally.clone(), received.clone());
                task::spawn_local(async move {
                    while let Ok(text) = receiver.receive().await {
                        let Some(n) = number(&text) else { break };
                        received.set(received.get() + 1);
                        if window.has(meant(n)) {
                            tally.borrow_mut().latencies_us.push(micros(meant(n), now()));
                        }
                    }
                });
            }
            let (mut n, mut before) = (0, None);
            while meant(n) < window.until {
                // No timer is fine enough: this core is ours, and reading goes on in between.
                while now() < meant(n) {
                    task::yield_now().await;
                }
                if before.is_none() && now() >= window.from {
                    before = Some((now(), server.cpu()?));
                }
                let room = n as usize % senders.len();
                senders[room].send(signal(room, Payload::Candidate, n)).await?;
                n += 1;
            }
            let (began, cpu) = before.ok_or("a run as short as nothing")?;
            let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu()? - cpu);
            let late = now() + LATEST;
            while received.get() < n {
                if now() >= late {
                    return Err(Unexpected(format!("{} of {n} came", received.get())).into());
                }
                task::yield_now().await;
            }
            figures(server, tally.take(), seconds, cpu)
        })
        .await
}
