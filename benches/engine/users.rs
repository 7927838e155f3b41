//! So many users and one relay, on a clock that moves when there is nothing left to do: whether heartbeats, deadlines
//! and calls of the store stay in proportion to the users.

use std::{
    collections::BTreeMap,
    env,
    process::{Command, Stdio, id},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use serde::{Deserialize, Serialize};
use signaling_core::{
    Config, Relay,
    auth::Identity,
    frame::{Frame, Text},
    memory::MemoryStore,
    testing::{TokioClock, fault::Faults, guest::Nobody},
};
use tokio::time::{self, Instant};

use crate::{
    Done,
    line::{Client, is, line},
    process, texts,
};

/// A client's heartbeats are so far apart.
const HEARTBEATS: Duration = Duration::from_secs(10);
/// Users are spread over so many moments of that.
const MOMENTS: usize = 1000;
/// CPU time is read each so many moments: a tenth of a second.
const SLICE: usize = 10;
/// The first user of each so manyth pair falls silent.
const STOPS: usize = 101;
/// The most by which a partner is told late: a timer's resolution, and the moments at which this looks.
const LATE: Duration = Duration::from_millis(12);
/// By how much more a user may cost among the most users than among the fewest. The work is the same,
/// but 10,000 users partly fit a processor's cache, and of 1,000,000 each is fetched from memory.
const DEARER: f64 = 2.0;
/// The same for memory, and for calls of the store.
const LARGER: f64 = 1.25;

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    users: usize,
    /// Microseconds of CPU for each user: its half of a session opened, connected and told of its
    /// match; the median among the first tenth of the users, and among the last.
    connect_us: [f64; 2],
    /// Memory of a user, with its records in the store and its client's two queues.
    kib: f64,
    /// Microseconds of CPU for each heartbeat, with all that there is beside them: a ping for each,
    /// its answer, and batches for the store.
    heartbeat_us: f64,
    /// Milliseconds of CPU for a virtual second, the median; and for the dearest tenth of one, while users connect
    /// and after that.
    second_ms: f64,
    longest_ms: [f64; 2],
    /// Calls of the store in a virtual second, batches of heartbeats among them.
    calls: f64,
    /// Clients that fell silent: half of them sent no heartbeats any more, half nothing at all.
    stopped: usize,
    /// Seconds by which the last session of these ended late.
    overdue: f64,
}

/// Measures each number of users in a separate process, so that its memory is that of these users only. Returns false if
/// something grows faster than the number of users.
pub(crate) fn compare(users: &[usize], seconds: usize) -> Done<bool> {
    let mut all = Vec::new();
    for users in users {
        let done = Command::new(env::current_exe()?)
            .args(["alone", "users", &users.to_string(), &seconds.to_string()])
            .stderr(Stdio::inherit())
            .output()?;
        if !done.status.success() {
            return Err(format!("{users} users: {}", done.status).into());
        }
        all.push(serde_json::from_slice::<Figures>(&done.stdout)?);
    }
    print_table(&all);
    let [few, .., many] = all.as_slice() else { return Ok(true) };
    let mut is_good = true;
    for (what, few, many, allowed) in [
        ("CPU of a heartbeat", few.heartbeat_us, many.heartbeat_us, DEARER),
        ("CPU to connect", few.connect_us[0], many.connect_us[0], DEARER),
        ("CPU to connect the last", many.connect_us[0], many.connect_us[1], DEARER),
        ("memory of a user", few.kib, many.kib, LARGER),
        ("calls of the store", few.calls, many.calls, LARGER),
    ] {
        let ratio = many / few;
        if ratio > allowed {
            eprintln!(
                "grows faster than the users: {what}, {ratio:.2} times; {allowed} are allowed"
            );
            is_good = false;
        }
    }
    Ok(is_good)
}

fn print_table(all: &[Figures]) {
    let row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        let cells = all.iter().map(cell).collect::<Vec<_>>();
        println!("| {name} | {} |", cells.join(" | "));
    };
    row("users", &|f| f.users.to_string());
    row("---", &|_| "---".to_owned());
    row("CPU to connect a user, first and last tenth", &|f| {
        format!("{:.1} and {:.1} µs", f.connect_us[0], f.connect_us[1])
    });
    row("memory of a user", &|f| format!("{:.2} KiB", f.kib));
    row("CPU of a heartbeat, a ping and its answer", &|f| format!("{:.2} µs", f.heartbeat_us));
    row("CPU of a virtual second", &|f| format!("{:.1} ms", f.second_ms));
    row("CPU of its dearest tenth", &|f| format!("{:.1} ms", f.longest_ms[1]));
    row("the same while users connect", &|f| format!("{:.1} ms", f.longest_ms[0]));
    row("calls of the store, a second", &|f| format!("{:.2}", f.calls));
    row("users who fell silent, their partners told in time", &|f| f.stopped.to_string());
    row("the last of their sessions ended late by", &|f| format!("{:.1} s", f.overdue));
}

pub(crate) async fn run(users: usize, seconds: usize) -> Done<Figures> {
    let mut world = World::start().await?;
    let mut figures = Figures { users, ..Figures::default() };
    world.connect(users / 2, &mut figures).await?;
    // Everybody's first heartbeat and ping are not counted.
    world.pass(MOMENTS).await?;
    world.watch(seconds, &mut figures).await?;
    world.fall_silent(&mut figures).await?;
    Ok(figures)
}

/// What a client does no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// It sends no heartbeats, and answers pings.
    Heartbeats,
    /// It sends nothing.
    All,
}

struct World {
    relay: Relay,
    faults: Faults,
    heartbeat: Text,
    /// Pairs are of an even number and the next.
    clients: Vec<Client>,
    matches: usize,
    acks: usize,
    /// Who has fallen silent, and when it was heard last.
    stopped: BTreeMap<usize, (Silence, Instant)>,
    /// Whose partner has been told that it is gone, after what time.
    told: BTreeMap<usize, Duration>,
    start: Instant,
    /// Moments that have passed.
    passed: usize,
}

impl World {
    async fn start() -> Done<Self> {
        // It injects no faults here. It counts the calls.
        let faults = Faults::new(0);
        let relay = Relay::builder(Nobody)
            .clock(Arc::new(TokioClock::start()))
            .store(faults.store(Arc::new(MemoryStore::new())));
        Ok(Self {
            relay: relay.start().await?,
            faults,
            heartbeat: r#"{"type":"heartbeat","id":1}"#.into(),
            clients: Vec::new(),
            matches: 0,
            acks: 0,
            stopped: BTreeMap::new(),
            told: BTreeMap::new(),
            start: Instant::now(),
            passed: 0,
        })
    }

    /// Waits for the next moment: it comes when all that belongs to this one is done.
    async fn next(&mut self) {
        self.passed += 1;
        let apart = HEARTBEATS / MOMENTS as u32;
        time::sleep_until(self.start + apart * self.passed as u32).await;
    }

    /// Time passes for so many moments, in each of which its pairs answer what they were asked, and send heartbeats.
    async fn pass(&mut self, moments: usize) -> Done<()> {
        for _ in 0..moments {
            for first in (2 * (self.passed % MOMENTS)..self.clients.len()).step_by(2 * MOMENTS) {
                for user in [first, first + 1] {
                    self.listen(user)?;
                    if !self.stopped.contains_key(&user) {
                        self.clients[user].say(Frame::Text(self.heartbeat.clone()));
                    }
                }
            }
            self.next().await;
        }
        Ok(())
    }

    /// Takes in what the relay has said to a user.
    fn listen(&mut self, user: usize) -> Done<()> {
        while let Some(frame) = self.clients[user].hear().now_or_never() {
            let stopped = self.stopped.get(&user);
            match frame {
                Frame::Text(text) if is(&text, "heartbeat-ack") => self.acks += 1,
                Frame::Text(text) if is(&text, "match-found") => self.matches += 1,
                Frame::Text(text) if is(&text, "partner-disconnected") => {
                    let partner = self.stopped.get(&(user ^ 1)).ok_or("a live partner is gone")?;
                    let (_, heard) = *partner;
                    if self.told.insert(user ^ 1, heard.elapsed()).is_some() {
                        return Err("a partner was told twice".into());
                    }
                }
                Frame::Ping(_) => {
                    if !matches!(stopped, Some((Silence::All, _))) {
                        self.clients[user].say(Frame::Pong(Default::default()));
                    }
                }
                Frame::Close(_) if stopped.is_some() => {}
                other => return Err(format!("a client was told {other:?}").into()),
            }
        }
        Ok(())
    }

    /// Everybody is matched and connects, in the time between two heartbeats.
    async fn connect(&mut self, pairs: usize, figures: &mut Figures) -> Done<()> {
        let (before, mut slices) = (process::resident(id())?, Vec::new());
        for slice in 0..MOMENTS / SLICE {
            let (connected, cpu) = (self.clients.len(), process::cpu(id())?);
            for moment in 0..SLICE {
                let through = pairs * (slice * SLICE + moment + 1) / MOMENTS;
                while self.clients.len() < 2 * through {
                    self.connect_pair(self.clients.len()).await?;
                }
                self.next().await;
            }
            let cpu = process::cpu(id())? - cpu;
            slices.push(cpu * 1e6 / (self.clients.len() - connected) as f64);
            figures.longest_ms[0] = figures.longest_ms[0].max(cpu * 1e3);
        }
        let tenth = slices.len() / 10;
        let (first, last) = (&slices[..tenth], &slices[slices.len() - tenth..]);
        figures.connect_us = [median(first), median(last)];
        for user in 0..self.clients.len() {
            self.listen(user)?;
        }
        if self.matches != 2 * pairs {
            return Err(format!("{} were matched", self.matches).into());
        }
        let grown = process::resident(id())?.saturating_sub(before);
        figures.kib = grown as f64 / (2 * pairs) as f64;
        Ok(())
    }

    async fn connect_pair(&mut self, first: usize) -> Done<()> {
        let users = [texts::user(first), texts::user(first + 1)];
        let _ = self.relay.open_session(&users[0], &users[1]).await?;
        for user in users {
            let ((transport, client), relay) = (line(), self.relay.clone());
            tokio::spawn(async move { relay.serve(transport, Identity::new(user)).await });
            self.clients.push(client);
        }
        Ok(())
    }

    /// What it costs that everybody is there.
    async fn watch(&mut self, seconds: usize, figures: &mut Figures) -> Done<()> {
        let (acks, calls, mut costs) = (self.acks, self.faults.calls(), Vec::new());
        for _ in 0..seconds {
            let mut second = 0.0;
            for _ in 0..MOMENTS / HEARTBEATS.as_secs() as usize / SLICE {
                let before = process::cpu(id())?;
                self.pass(SLICE).await?;
                let cpu = (process::cpu(id())? - before) * 1e3;
                figures.longest_ms[1] = figures.longest_ms[1].max(cpu);
                second += cpu;
            }
            costs.push(second);
        }
        let (acks, calls) = (self.acks - acks, self.faults.calls() - calls);
        let sent = self.clients.len() * seconds / HEARTBEATS.as_secs() as usize;
        if acks != sent {
            return Err(format!("{sent} heartbeats and {acks} answers").into());
        }
        figures.second_ms = median(&costs);
        figures.heartbeat_us = figures.second_ms * 1e3 * seconds as f64 / sent as f64;
        figures.calls = calls as f64 / seconds as f64;
        Ok(())
    }

    /// A few fall silent, and are given up in time; later, their sessions.
    async fn fall_silent(&mut self, figures: &mut Figures) -> Done<()> {
        for _ in 0..MOMENTS {
            let (moment, heard) = (self.passed % MOMENTS, Instant::now());
            self.pass(1).await?;
            for pair in (moment..self.clients.len() / 2).step_by(MOMENTS) {
                if pair % STOPS == 0 {
                    let silence = [Silence::Heartbeats, Silence::All][pair / STOPS % 2];
                    self.stopped.insert(2 * pair, (silence, heard));
                }
            }
        }
        let config = Config::default();
        let stopped = self.stopped.clone();
        let until = Instant::now() + config.heartbeat_timeout + HEARTBEATS;
        while Instant::now() < until {
            self.pass(1).await?;
            for user in stopped.keys() {
                self.listen(user ^ 1)?;
            }
        }
        let mut last_told = self.start;
        for (user, (silence, heard)) in &stopped {
            let limit = match silence {
                Silence::Heartbeats => config.heartbeat_timeout,
                Silence::All => config.silence_timeout,
            };
            let told = self.told.get(user).copied().unwrap_or_default();
            if !(limit..=limit + LATE).contains(&told) {
                return Err(format!("{silence:?}: told after {told:?}, not {limit:?}").into());
            }
            last_told = last_told.max(*heard + told);
        }
        let due = last_told + config.abandon_after;
        let left = (self.clients.len() / 2 - stopped.len()) as u64;
        while self.relay.counts_here().sessions > left {
            if Instant::now() > due + config.abandon_after {
                return Err("sessions did not end".into());
            }
            self.pass(SLICE).await?;
        }
        figures.overdue = Instant::now().saturating_duration_since(due).as_secs_f64();
        figures.stopped = stopped.len();
        Ok(())
    }
}

/// What the machine does beside this disturbs some of `costs`, and seldom half of them.
fn median(costs: &[f64]) -> f64 {
    let mut costs = costs.to_vec();
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied().unwrap_or_default()
}
