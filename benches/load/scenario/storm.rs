//! Everybody loses the connection at once and comes back at once.

mod bystanders;

use std::time::Duration;

use futures::{
    future::{Either, select, try_join},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::{pin, sync::Semaphore, time};

use super::{
    Done, Run, now,
    pairs::{Pair, connect_all},
    window::Meter,
};
use crate::{
    client::{Client, Heard, Payload},
    contender::{Contender, Place, Side},
    deployment::Entry,
    figures::{Figure, Figures},
};
use bystanders::Bystanders;

/// Clients between the first packet and the end of their handshake; what more there are stands in
/// line. So many fit into the smallest backlog among the contenders, which is tokio's, and whom a kernel
/// leaves out comes again after a second: servers are compared, not their backlogs.
const AT_THE_DOOR: usize = 128;
/// A client that is not served by then is counted as lost.
const LIMIT: Duration = Duration::from_secs(10);
/// What the server may take to rest before the storm.
const REST: Duration = Duration::from_secs(1);

/// Until the last is served: until a signal went through between the two of every pair. A pair of which
/// one was refused or timed out counts as two clients.
pub(super) async fn storm(run: Run<'_>) -> Done<Figures> {
    let (contender, at) = (run.contender, run.servers.entry());
    let bystanders = Bystanders::start(contender, at, run.pairs)?;
    let pairs = connect_all(contender, at, 0..run.pairs).await?;
    time::sleep(REST).await;

    let (meter, began) = (Meter::start(run.servers)?, now());
    pairs.into_iter().flatten().for_each(Client::abort);
    let door = Semaphore::new(AT_THE_DOOR);
    let mut returning: FuturesUnordered<_> = (0..run.pairs)
        .map(|room| time::timeout(LIMIT, come_back(contender, at, room, &door)))
        .collect();
    let (mut served, mut lost) = (Vec::with_capacity(run.pairs), Vec::new());
    while let Some(returned) = returning.next().await {
        match returned.unwrap_or_else(|late| Err(late.into())) {
            Ok(pair) => served.push(pair),
            Err(error) => lost.push(error),
        }
    }
    let (used, ended) = (meter.used()?, now());
    let tally = bystanders.stop(began, ended)?;
    if let (true, Some(error)) = (served.is_empty(), lost.first()) {
        return Err(format!("nobody came back: {error}").into());
    }
    let mut figures = used.each(2 * served.len())?;
    figures.extend(tally.figures());
    figures.extend([
        (Figure::ServedMs, (ended - began).as_secs_f64() * 1e3),
        (Figure::Never, 2.0 * lost.len() as f64),
    ]);
    Ok(figures)
}

async fn come_back(contender: Contender, at: Entry, room: usize, door: &Semaphore) -> Done<Pair> {
    let one = async |side| -> Done<Client> {
        let _in = door.acquire().await?;
        Client::connect(contender, at.of(side), Place { room, side }).await
    };
    let (mut a, mut b) = if contender.is_ordered() {
        (one(Side::A).await?, one(Side::B).await?)
    } else {
        try_join(one(Side::A), one(Side::B)).await?
    };
    try_join(a.expect_match(), b.expect_match()).await?;
    a.send(&a.prepare(Payload::Offer)?, 0).await?;
    loop {
        let heard = {
            let (a, b) = (a.hear(), b.hear());
            pin!(a, b);
            match select(a, b).await {
                Either::Left((heard, _)) => Either::Left(heard?),
                Either::Right((heard, _)) => Either::Right(heard?),
            }
        };
        match heard {
            Either::Right(Heard::Signal(_)) => return Ok([a, b]),
            // The first match was with the connection that is gone: negotiation starts over.
            Either::Left(Heard::Text(text)) if a.is_match(&text) => {
                a.send(&a.prepare(Payload::Offer)?, 0).await?;
            }
            Either::Left(Heard::End) | Either::Right(Heard::End) => {
                return Err("the connection ended".into());
            }
            Either::Left(_) | Either::Right(_) => {}
        }
    }
}
