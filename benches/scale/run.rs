//! One relay with so many users, on a clock that moves when there is nothing left to do.

use std::{
    error::Error,
    process::id,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use signaling_core::{
    Config, Relay,
    auth::Identity,
    id::UserId,
    reason::DisconnectReason,
    testing::{TokioClock, guest::Nobody},
};
use tokio::time::{self, Instant};

use crate::{
    crowd::{Crowd, Silence},
    figures::Figures,
    memory, process,
    store::Counting,
    texts,
};

type Done<T> = Result<T, Box<dyn Error>>;

/// A client's heartbeats are so far apart.
const HEARTBEATS: Duration = Duration::from_secs(10);
/// Users are spread over so many moments of that.
const MOMENTS: usize = 1000;
/// CPU is looked at each so many moments: a tenth of a second.
const SLICE: usize = 10;
/// The first user of each so manyth pair falls silent.
const STOPS: usize = 101;
/// The longest that a timer may be late: its resolution.
const LATE: Duration = Duration::from_millis(2);

struct World {
    relay: Relay,
    store: Arc<Counting>,
    crowd: Arc<Crowd>,
    pairs: usize,
    start: Instant,
    /// Moments that have passed.
    passed: usize,
}

pub(crate) async fn run(users: usize, seconds: usize) -> Done<Figures> {
    let mut world = World::new(users).await?;
    let mut figures = Figures { users, ..Figures::default() };
    world.connect(&mut figures).await?;
    // Everybody's first heartbeat and ping are not counted.
    world.pass(MOMENTS).await;
    world.watch(seconds, &mut figures).await?;
    world.silence(&mut figures).await?;
    let heard = &world.crowd.heard;
    match heard.other.load(Relaxed) {
        0 => Ok(figures),
        _ => Err(format!("clients were told what they should not: {heard:?}").into()),
    }
}

impl World {
    async fn new(users: usize) -> Done<Self> {
        let store = Arc::new(Counting::new());
        let clock = Arc::new(TokioClock::start());
        let relay = Relay::builder(Nobody).clock(clock).store(store.clone());
        Ok(Self {
            relay: relay.start().await?,
            store,
            crowd: Crowd::new(users),
            pairs: users / 2,
            start: Instant::now(),
            passed: 0,
        })
    }

    /// The pairs whose time is `moment`.
    fn pairs_at(&self, moment: usize) -> impl Iterator<Item = usize> + use<> {
        (moment % MOMENTS..self.pairs).step_by(MOMENTS)
    }

    /// The next moment comes when all that belongs to this one is done.
    async fn next(&mut self) {
        self.passed += 1;
        let apart = HEARTBEATS / MOMENTS as u32;
        time::sleep_until(self.start + apart * self.passed as u32).await;
    }

    /// Time passes for so many moments, and everybody sends heartbeats.
    async fn pass(&mut self, moments: usize) {
        for _ in 0..moments {
            for pair in self.pairs_at(self.passed) {
                self.crowd.beat(2 * pair);
                self.crowd.beat(2 * pair + 1);
            }
            self.next().await;
        }
    }

    /// Everybody is matched and connects, in the time between two heartbeats.
    async fn connect(&mut self, figures: &mut Figures) -> Done<()> {
        let (before, mut slices) = (memory::resident(id())?, Vec::new());
        for _ in 0..MOMENTS / SLICE {
            let (connected, cpu) = (self.connected(), process::cpu());
            for _ in 0..SLICE {
                self.connect_some().await?;
            }
            let connected = (self.connected() - connected) as f64;
            let cpu = process::cpu() - cpu;
            slices.push(cpu * 1e6 / connected);
            figures.longest_ms[0] = figures.longest_ms[0].max(cpu * 1e3);
        }
        if self.connected() != 2 * self.pairs as u64 {
            return Err(format!("{} were matched", self.connected()).into());
        }
        let tenth = slices.len() / 10;
        let (first, last) = (&slices[..tenth], &slices[slices.len() - tenth..]);
        figures.connect_us = [median(first), median(last)];
        let grown = memory::resident(id())?.saturating_sub(before);
        figures.kib = grown as f64 / (2 * self.pairs) as f64;
        Ok(())
    }

    fn connected(&self) -> u64 {
        self.crowd.heard.matches.load(Relaxed)
    }

    fn acks(&self) -> u64 {
        self.crowd.heard.acks.load(Relaxed)
    }

    /// Those whose moment it is.
    async fn connect_some(&mut self) -> Done<()> {
        for pair in self.pairs_at(self.passed) {
            let users = [texts::user(2 * pair), texts::user(2 * pair + 1)];
            let _ = self.relay.open_session(&users[0], &users[1]).await?;
            for (nth, user) in users.into_iter().enumerate() {
                self.admit(2 * pair + nth, user);
            }
        }
        self.next().await;
        Ok(())
    }

    fn admit(&self, number: usize, user: UserId) {
        let (relay, crowd) = (self.relay.clone(), self.crowd.clone());
        tokio::spawn(async move {
            let reason = relay.serve(crowd.transport(number), Identity::new(user)).await;
            crowd.ended(number, reason);
        });
    }

    /// What it costs that everybody is there.
    async fn watch(&mut self, seconds: usize, figures: &mut Figures) -> Done<()> {
        let (acked, called, mut costs) = (self.acks(), self.store.calls(), Vec::new());
        for _ in 0..seconds {
            let mut second = 0.0;
            for _ in 0..MOMENTS / HEARTBEATS.as_secs() as usize / SLICE {
                let cpu = process::cpu();
                self.pass(SLICE).await;
                let cpu = (process::cpu() - cpu) * 1e3;
                figures.longest_ms[1] = figures.longest_ms[1].max(cpu);
                second += cpu;
            }
            costs.push(second);
        }
        let (acked, called) = (self.acks() - acked, self.store.calls() - called);
        let sent = (2 * self.pairs * seconds) as u64 / HEARTBEATS.as_secs();
        if (acked, called.heartbeats, called.doubtful) != (sent, sent, 0) {
            return Err(format!("{sent} heartbeats, {acked} answers and {called:?}").into());
        }
        let seconds = seconds as f64;
        figures.second_ms = median(&costs);
        figures.heartbeat_us = figures.second_ms * 1e3 * seconds / acked as f64;
        figures.batches = called.batches as f64 / seconds;
        figures.batch = called.heartbeats as f64 / called.batches as f64;
        figures.largest = self.store.largest.load(Relaxed);
        figures.dearest_ms = self.store.dearest_us.load(Relaxed) as f64 / 1e3;
        figures.others = called.others as f64 / seconds;
        Ok(())
    }

    /// A few fall silent, and are given up in time; later, their sessions.
    async fn silence(&mut self, figures: &mut Figures) -> Done<()> {
        for _ in 0..MOMENTS {
            for pair in self.pairs_at(self.passed).filter(|pair| pair % STOPS == 0) {
                let silences = [Silence::Heartbeats, Silence::All];
                self.crowd.stop(2 * pair, silences[pair / STOPS % 2]);
            }
            self.pass(1).await;
        }
        let config = Config::default();
        self.pass_time(config.heartbeat_timeout + config.close_wait + LATE).await;
        let stopped = self.crowd.stopped().values().copied().collect::<Vec<_>>();
        figures.stopped = stopped.len();
        for one in &stopped {
            let (limit, reason, span) = match one.silence {
                Silence::Heartbeats => (
                    config.heartbeat_timeout,
                    DisconnectReason::HeartbeatTimeout,
                    &mut figures.no_heartbeat,
                ),
                _ => (config.silence_timeout, DisconnectReason::Silent, &mut figures.no_sound),
            };
            let in_time = |after: &Duration| (limit..=limit + LATE).contains(after);
            match one.told_after.filter(in_time).filter(|_| one.reason == Some(reason)) {
                Some(after) => widen(span, after.as_secs_f64()),
                None => return Err(format!("not given up after {limit:?}: {one:?}").into()),
            }
        }
        self.pass_time(2 * config.abandon_after).await;
        figures.abandoned = self.store.abandoned.load(Relaxed);
        figures.overdue = self.store.overdue_ms.load(Relaxed) as f64 / 1e3;
        match figures.abandoned == figures.stopped as u64 {
            true => Ok(()),
            false => Err(format!("{} of {} ended", figures.abandoned, figures.stopped).into()),
        }
    }

    async fn pass_time(&mut self, time: Duration) {
        let moments = time.div_duration_f64(HEARTBEATS) * MOMENTS as f64;
        self.pass(moments.ceil() as usize).await;
    }
}

/// What the machine does beside this disturbs some of `costs`, and seldom half of them.
fn median(costs: &[f64]) -> f64 {
    let mut costs = costs.to_vec();
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied().unwrap_or_default()
}

fn widen(span: &mut [f64; 2], seconds: f64) {
    let [least, most] = *span;
    *span = [if least == 0.0 { seconds } else { least.min(seconds) }, most.max(seconds)];
}
