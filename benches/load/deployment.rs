//! The server processes of one run, pinned to one core: a single server, or two with Redis. They end with the run.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use signaling_redis::testing::Server as Redis;
use tokio::{net::TcpStream, time};

use crate::{
    Done,
    busy::Threads,
    contender::{Contender, Sessions, Side},
    process,
};

/// Where the contenders run; the load generator belongs on another core.
pub(crate) const CORE: &str = "0";
/// How long one may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

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

    fn ids(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().map(|node| node.process.id())
    }

    /// Seconds of CPU time that all servers have used.
    pub(crate) fn cpu(&self) -> Done<f64> {
        self.ids().map(process::cpu).sum()
    }

    pub(crate) fn threads(&self) -> Done<Threads> {
        Threads::of(self.ids())
    }

    /// KiB of memory that all servers have resident.
    pub(crate) fn resident(&self) -> Done<u64> {
        self.ids().map(process::resident).sum()
    }

    /// Seconds of CPU time that Redis has used, where there is one.
    pub(crate) fn redis_cpu(&self) -> Done<Option<f64>> {
        self.redis.as_ref().map(|(_, id)| process::cpu(*id)).transpose()
    }
}

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// With its sessions in a Redis, if it is given one.
    async fn start(contender: Contender, redis: Option<&str>) -> Done<Self> {
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let process = Command::new("taskset")
            .args(["-c", CORE])
            .args(contender.command(address.port())?)
            .args(redis)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("taskset cannot be started: {error}"))?;
        let mut server = Self { process, address };
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                // What it said about it went to our standard error.
                if let Some(status) = server.process.try_wait()? {
                    return Err(format!("{contender} ended as it started: {status}").into());
                }
                time::sleep(Duration::from_millis(20)).await;
            }
            Done::Ok(())
        };
        time::timeout(START_TIMEOUT, listens)
            .await
            .map_err(|_| format!("{contender} did not listen within {START_TIMEOUT:?}"))??;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
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
