//! All processes of one run: a server, or two with a Redis between them, on a core of their own.

use std::{error::Error, net::SocketAddr, process::Command};

use signaling_redis::testing::Server as Redis;

use crate::{
    contender::{Contender, Sessions, Side},
    cpu::{self, Threads},
    memory,
    server::{CORE, Server},
};

type Done<T> = Result<T, Box<dyn Error>>;

pub(crate) struct Deployment {
    /// At least one.
    nodes: Vec<Server>,
    /// With the number of its process.
    redis: Option<(Redis, u32)>,
}

/// Where the clients of each side connect: at a node of its own, if there are several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    a: SocketAddr,
    b: SocketAddr,
}

impl Entry {
    pub(crate) const fn of(self, side: Side) -> SocketAddr {
        match side {
            Side::A => self.a,
            Side::B => self.b,
        }
    }
}

impl Deployment {
    pub(crate) async fn start(contender: Contender) -> Done<Self> {
        let (redis, count) = match contender.sessions() {
            Sessions::Inside => (None, 1),
            Sessions::Redis { nodes } => (Some(start_redis()?), nodes),
        };
        let url = redis.as_ref().map(|(redis, _)| redis.url());
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Server::start(contender, url.as_deref()).await?);
        }
        Ok(Self { nodes, redis })
    }

    pub(crate) fn entry(&self) -> Entry {
        let (first, last) = (&self.nodes[0], &self.nodes[self.nodes.len() - 1]);
        Entry { a: first.address, b: last.address }
    }

    /// Seconds of CPU time that all servers have used.
    pub(crate) fn cpu(&self) -> Done<f64> {
        self.nodes.iter().map(|node| cpu::of(node.id())).sum()
    }

    pub(crate) fn threads(&self) -> Done<Threads> {
        Threads::of(self.nodes.iter().map(Server::id))
    }

    /// KiB of memory that all servers have resident.
    pub(crate) fn resident(&self) -> Done<u64> {
        self.nodes.iter().map(|node| memory::resident(node.id())).sum()
    }

    /// Seconds of CPU time that Redis has used, where there is one.
    pub(crate) fn redis_cpu(&self) -> Done<Option<f64>> {
        self.redis.as_ref().map(|(_, id)| cpu::of(*id)).transpose()
    }
}

/// Redis belongs to what is measured, so it is moved to the servers' core.
fn start_redis() -> Done<(Redis, u32)> {
    let installed = Command::new("redis-server").arg("--version").output();
    installed.map_err(|error| format!("redis-server is needed: {error}"))?;
    let redis = Redis::start();
    let info = redis.cli(&["info", "server"]);
    let id = info.lines().find_map(|line| line.strip_prefix("process_id:"));
    let id = id.ok_or("Redis does not say which process it is")?.trim();
    let moved = Command::new("taskset").args(["--all-tasks", "-cp", CORE, id]).output()?;
    if !moved.status.success() {
        return Err(format!("Redis stays where it is: {moved:?}").into());
    }
    let id = id.parse()?;
    Ok((redis, id))
}
