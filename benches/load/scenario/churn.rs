//! Connections that break off, and partners that are to know.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    time::Duration,
};

use futures::future::try_join;
use tokio::time::timeout;

use super::{Done, Run, micros, now, pace::Pace, pairs, window::Window};
use crate::figures::{Figure, Figures, Tally};

/// Ends a second.
const RATE: u32 = 100;
/// Who has not learned of it by then never will.
const LIMIT: Duration = Duration::from_secs(2);

/// One after the other one side of a pair breaks off, its partner learns of it and goes, and two others
/// come. Where nobody learns, all pairs soon wait, and there are fewer ends than meant.
pub(super) async fn churn(run: Run<'_>) -> Done<Figures> {
    let at = run.servers.entry();
    let ready =
        RefCell::new(VecDeque::from(pairs::talking(run.contender, at, 0..run.pairs).await?));
    let (next_room, never) = (Cell::new(run.pairs), Cell::new(0));
    let (window, tally) = (Window::of(run.length), RefCell::new(Tally::default()));
    let ends = Pace::per_second(RATE).run(window.until, async |n, meant| {
        let Some([a, b]) = ready.borrow_mut().pop_front() else { return Ok(()) };
        let (lost, mut left) = if n % 2 == 0 { (a, b) } else { (b, a) };
        lost.abort();
        let learned = timeout(LIMIT, left.partner_gone()).await;
        if window.has(meant) {
            match &learned {
                Ok(_) => tally.borrow_mut().latencies_us.push(micros(meant, now())),
                Err(_) => never.set(never.get() + 1),
            }
        }
        learned.unwrap_or(Ok(()))?;
        drop(left);
        let room = next_room.replace(next_room.get() + 1);
        let pair = pairs::connect(run.contender, at, room).await?;
        ready.borrow_mut().push_back(pair);
        Ok(())
    });
    let (used, ()) = try_join(window.watch(run.servers), ends).await?;
    let (tally, never) = (tally.take(), never.get());
    let mut figures = used.each(tally.latencies_us.len() + never)?;
    figures.extend(tally.figures());
    figures.insert(Figure::Never, never as f64);
    Ok(figures)
}
