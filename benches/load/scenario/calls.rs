//! Whole calls: what a contender is there for.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use futures::future::{try_join, try_join_all};
use tokio::time::{Instant, timeout};

use super::{
    Done, Run, micros, now,
    pace::Pace,
    pairs,
    window::{Meter, Window},
};
use crate::{
    client::Payload,
    figures::{Figure, Figures, Tally},
};

/// Calls at the same time in [`long`].
const AT_ONCE: usize = 64;
/// Calls a second in [`paced`].
const PACED_RATE: u32 = 100;
/// Candidates each way.
const CANDIDATES: u32 = 10;
/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// One call; says when the last candidate had arrived.
async fn call(run: Run<'_>, room: usize) -> Done<Instant> {
    let call = async {
        let [mut a, mut b] = pairs::connect(run.contender, run.servers.entry(), room).await?;
        a.send(&a.prepare(Payload::Offer)?, 0).await?;
        b.receive().await?;
        b.send(&b.prepare(Payload::Offer)?, 0).await?;
        a.receive().await?;
        let candidates = [a.prepare(Payload::Candidate)?, b.prepare(Payload::Candidate)?];
        for n in 0..CANDIDATES {
            a.feed(&candidates[0], n);
            b.feed(&candidates[1], n);
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
    };
    timeout(LIMIT, call).await?
}

/// Calls one after another, some at the same time, for as long as there is a next room; each is told
/// when it began and when it was set up.
async fn one_after_another(
    run: Run<'_>,
    at_once: usize,
    next: impl Fn() -> Option<usize>,
    done: impl Fn(Instant, Instant) -> Done<()>,
) -> Done<()> {
    let calls = async || {
        while let Some(room) = next() {
            let began = now();
            done(began, call(run, room).await?)?;
        }
        Done::Ok(())
    };
    try_join_all((0..at_once).map(|_| calls())).await?;
    Ok(())
}

pub(super) async fn at_once(run: Run<'_>) -> Done<Figures> {
    let (window, rooms) = (Window::of(run.length), Cell::new(0));
    let tally = RefCell::new(Tally::default());
    let next = || {
        let room = rooms.replace(rooms.get() + 1);
        (now() < window.until).then_some(room)
    };
    let calls = one_after_another(run, run.pairs, next, |began, set_up| {
        if window.has(began) {
            tally.borrow_mut().latencies_us.push(micros(began, set_up));
        }
        Ok(())
    });
    let (used, ()) = try_join(window.watch(run.servers), calls).await?;
    used.each_of(tally.take())
}

pub(super) async fn paced(run: Run<'_>) -> Done<Figures> {
    let (window, tally) = (Window::of(run.length), RefCell::new(Tally::default()));
    let calls = Pace::per_second(PACED_RATE).run(window.until, async |n, began| {
        let set_up = call(run, n as usize).await?;
        if window.has(began) {
            tally.borrow_mut().latencies_us.push(micros(began, set_up));
        }
        Ok(())
    });
    let (used, ()) = try_join(window.watch(run.servers), calls).await?;
    used.each_of(tally.take())
}

/// As many calls as there are pairs, in tenths, after a hundredth that is not counted.
pub(super) async fn long(run: Run<'_>) -> Done<Figures> {
    let (tenth, before) = (run.pairs / 10, run.pairs / 100);
    if tenth == 0 {
        return Err("it takes ten calls to tell the last tenth from the first".into());
    }
    let rooms = Cell::new(0);
    let room_below = |most: usize| {
        let room = rooms.get();
        (room < most).then(|| rooms.replace(room + 1))
    };
    one_after_another(run, AT_ONCE, || room_below(before), |_, _| Ok(())).await?;
    let meter = Meter::start(run.servers)?;
    let (tally, tenths) = (RefCell::new(Tally::default()), RefCell::new(Vec::new()));
    let next = || room_below(before + 10 * tenth);
    one_after_another(run, AT_ONCE, next, |began, set_up| {
        let latencies = &mut tally.borrow_mut().latencies_us;
        latencies.push(micros(began, set_up));
        if latencies.len() % tenth == 0 {
            tenths.borrow_mut().push(meter.used()?.cpu);
        }
        Ok(())
    })
    .await?;
    let tenths = tenths.take();
    let [first, .., ninth, last] = tenths.as_slice() else { return Err("not ten tenths".into()) };
    let each = |cpu: f64| cpu * 1e6 / tenth as f64;
    let mut figures = meter.used()?.each_of(tally.take())?;
    figures.extend([(Figure::FirstUs, each(*first)), (Figure::LastUs, each(last - ninth))]);
    Ok(figures)
}
