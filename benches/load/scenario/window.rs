//! From when to when is counted, and what the servers used meanwhile.

use std::{process, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{Done, now};
use crate::{
    busy::Threads,
    deployment::Deployment,
    figures::{Figure, Figures, Tally, figures},
};

/// What is not measured at the start of a run.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) from: Instant,
    pub(super) until: Instant,
}

impl Window {
    pub(super) fn of(length: Duration) -> Self {
        let from = now() + WARM_UP;
        Self { from, until: from + length }
    }

    pub(super) fn has(self, at: Instant) -> bool {
        (self.from..self.until).contains(&at)
    }

    /// Waits for the end, and says what was used.
    pub(super) async fn watch(self, servers: &Deployment) -> Done<Used> {
        sleep_until(self.from).await;
        let meter = Meter::start(servers)?;
        sleep_until(self.until).await;
        meter.used()
    }
}

pub(super) struct Meter<'a> {
    servers: &'a Deployment,
    began: Instant,
    cpu: f64,
    redis: Option<f64>,
    server: Threads,
    client: Threads,
}

impl<'a> Meter<'a> {
    pub(super) fn start(servers: &'a Deployment) -> Done<Self> {
        Ok(Self {
            servers,
            server: servers.threads()?,
            client: Threads::of([process::id()])?,
            began: now(),
            cpu: servers.cpu()?,
            redis: servers.redis_cpu()?,
        })
    }

    /// Since the start.
    pub(super) fn used(&self) -> Done<Used> {
        let seconds = self.began.elapsed().as_secs_f64();
        Ok(Used {
            seconds,
            cpu: self.servers.cpu()? - self.cpu,
            server_busy: self.servers.threads()?.busy_since(&self.server, seconds),
            client_busy: Threads::of([process::id()])?.busy_since(&self.client, seconds),
            redis: self.servers.redis_cpu()?.zip(self.redis).map(|(now, before)| now - before),
            resident_kib: self.servers.resident()?,
        })
    }
}

/// What the servers used, for something that is not counted yet.
pub(super) struct Used {
    seconds: f64,
    /// Seconds of CPU time, here and in Redis.
    pub(super) cpu: f64,
    redis: Option<f64>,
    server_busy: f64,
    client_busy: f64,
    resident_kib: u64,
}

impl Used {
    /// For each of `count`.
    pub(super) fn each(&self, count: usize) -> Done<Figures> {
        let mut figures = figures(count, self.seconds, self.cpu)?;
        figures.extend([
            (Figure::ServerBusy, self.server_busy),
            (Figure::ClientBusy, self.client_busy),
            (Figure::ResidentKib, self.resident_kib as f64),
        ]);
        let redis = self.redis.map(|seconds| seconds * 1e6 / count as f64);
        figures.extend(redis.map(|us| (Figure::RedisUs, us)));
        Ok(figures)
    }

    /// For each that has a latency.
    pub(super) fn each_of(&self, tally: Tally) -> Done<Figures> {
        let mut figures = self.each(tally.latencies_us.len())?;
        figures.extend(tally.figures());
        Ok(figures)
    }
}
