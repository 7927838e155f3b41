//! Whole calls: what a contender is there for.

use std::{cell::RefCell, error::Error, time::Duration};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    task,
    time::{self, Instant},
};

use super::{Payload, WARM_UP, micros, now, signal};
use crate::{
    client::Client,
    contender::{Contender, Place, Side},
    figures::{Figures, Tally},
    server::Server,
};

type Done<T> = Result<T, Box<dyn Error>>;

/// Calls at the same time in [`at_once`].
const AT_ONCE: usize = 16;
/// Calls a second in [`paced`].
const PACED_RATE: u32 = 100;
/// Candidates each way.
const CANDIDATES: u32 = 10;
/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// One call; says when the last candidate had arrived.
async fn call(contender: Contender, server: &Server, room: usize) -> Done<Instant> {
    let place = |side| Place { room, side };
    let mut a = Client::connect(contender, server.address, place(Side::A)).await?;
    let mut b = Client::connect(contender, server.address, place(Side::B)).await?;
    a.expect_match().await?;
    b.expect_match().await?;
    a.send(signal(room, Payload::Offer, 0)).await?;
    b.receive().await?;
    b.send(signal(room, Payload::Offer, 0)).await?;
    a.receive().await?;
    for n in 0..CANDIDATES {
        a.feed(signal(room, Payload::Candidate, n)).await?;
        b.feed(signal(room, Payload::Candidate, n)).await?;
    }
    a.flush().await?;
    b.flush().await?;
    for _ in 0..CANDIDATES {
        a.receive().await?;
        b.receive().await?;
    }
    let set_up = now();
    a.leave().await?;
    b.partner_gone().await?;
    a.close().await?;
    b.close().await?;
    Ok(set_up)
}

/// Puts together what `calls` began, from when to when it is to be counted.
struct Count {
    tally: Tally,
    from: Instant,
    until: Instant,
}

impl Count {
    fn new(length: Duration) -> RefCell<Self> {
        let from = now() + WARM_UP;
        RefCell::new(Self { tally: Tally::default(), from, until: from + length })
    }

    fn add(&mut self, began: Instant, set_up: Instant) {
        if (self.from..self.until).contains(&began) {
            self.tally.latencies_us.push(micros(began, set_up));
        }
    }
}

async fn figures(server: &Server, count: &RefCell<Count>) -> Done<Figures> {
    let (from, until) = (count.borrow().from, count.borrow().until);
    time::sleep_until(from).await;
    let (began, cpu) = (now(), server.cpu()?);
    time::sleep_until(until).await;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu()? - cpu);
    let mut tally = std::mem::take(&mut count.borrow_mut().tally);
    let [p50_us, p99_us, p999_us] = tally.percentiles([500, 990, 999]);
    let calls = tally.latencies_us.len() as u64;
    Ok(Figures {
        count: calls,
        rate: calls as f64 / seconds,
        cpu_us: cpu * 1e6 / calls as f64,
        p50_us,
        p99_us,
        p999_us,
        resident_kib: server.resident()?,
        ..Figures::default()
    })
}

pub(super) async fn at_once(
    contender: Contender,
    server: &Server,
    length: Duration,
) -> Done<Figures> {
    let (count, next) = (Count::new(length), RefCell::new(0));
    let until = count.borrow().until;
    let one_after_another = async || -> Done<()> {
        while now() < until {
            let room = next.replace_with(|room| *room + 1);
            let began = now();
            let set_up = time::timeout(LIMIT, call(contender, server, room)).await??;
            count.borrow_mut().add(began, set_up);
        }
        Ok(())
    };
    let calls = futures::future::try_join_all((0..AT_ONCE).map(|_| one_after_another()));
    let (figures, _) = futures::future::try_join(figures(server, &count), calls).await?;
    Ok(figures)
}

pub(super) async fn paced(
    contender: Contender,
    server: &Server,
    length: Duration,
) -> Done<Figures> {
    let count = Count::new(length);
    let (until, started) = (count.borrow().until, now());
    let calls = async {
        let mut calls = FuturesUnordered::new();
        for room in 0.. {
            let began = started + Duration::from_secs(1) / PACED_RATE * room;
            if began >= until {
                break;
            }
            // No timer is fine enough: this core is ours.
            while now() < began {
                if let Some(Some(done)) = calls.next().now_or_never() {
                    done?;
                }
                task::yield_now().await;
            }
            let (count, room) = (&count, room as usize);
            calls.push(async move {
                let set_up = time::timeout(LIMIT, call(contender, server, room)).await??;
                count.borrow_mut().add(began, set_up);
                Done::Ok(())
            });
        }
        while let Some(done) = calls.next().await {
            done?;
        }
        Ok(())
    };
    let (figures, ()) = futures::future::try_join(figures(server, &count), calls).await?;
    Ok(figures)
}
