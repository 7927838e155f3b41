//! One Redis, several nodes of the ready server, each with a proxy on its way to Redis, and all that is
//! done to them.

use std::{
    env, fs, io,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use signaling_core::testing::token;
use signaling_redis::testing::Server as Redis;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_blocking,
    time::{self, Instant},
};

use crate::{
    history::{At, Probe, Trouble, lock},
    plan::{Fault, Kind},
    proxy::{Mode, Proxy},
};

/// What tokens are signed with, and the key of the HTTP API.
const SECRET: &str = "of-no-use-to-anybody-but-the-chaos-run";
/// Between two looks at `/readyz`.
const PROBE: Duration = Duration::from_millis(100);
/// Within which a node that is told to end has ended: its drain and a slow machine.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Deployment {
    pub(crate) start: Instant,
    redis: Arc<Mutex<Redis>>,
    nodes: Vec<Node>,
    logs: PathBuf,
    troubles: Mutex<Vec<Trouble>>,
    probes: Mutex<Vec<Probe>>,
    /// What is wrong and belongs to no pair.
    odd: Mutex<Vec<String>>,
}

struct Node {
    proxy: Proxy,
    /// What keeps it from Redis at the moment: its own fault and one of all nodes may overlap.
    interruptions: Mutex<Vec<Mode>>,
    /// One fault at a time: on a slow machine it may not run again when the next is due.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    process: Option<Child>,
    /// None while it does not run.
    address: Option<SocketAddr>,
    ready: bool,
    life: u32,
}

impl Node {
    fn interrupt(&self, mode: Mode) {
        let mut interruptions = lock(&self.interruptions);
        interruptions.push(mode);
        self.proxy.set(mode);
    }

    /// Ends one interruption; one that overlaps it goes on.
    fn resume(&self, mode: Mode) {
        let mut interruptions = lock(&self.interruptions);
        if let Some(ended) = interruptions.iter().position(|other| *other == mode) {
            interruptions.remove(ended);
        }
        self.proxy.set(interruptions.last().copied().unwrap_or(Mode::Pass));
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Deployment {
    pub(crate) async fn start(nodes: usize, logs: PathBuf) -> Result<Arc<Self>, String> {
        fs::create_dir_all(&logs).map_err(|error| format!("no folder for logs: {error}"))?;
        // What it was told is on its disk before it answers.
        let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let mut slots = Vec::new();
        for _ in 0..nodes {
            let proxy = Proxy::before(redis.port()).await;
            slots.push(Node {
                proxy,
                interruptions: Mutex::default(),
                turn: Default::default(),
                state: Mutex::default(),
            });
        }
        let deployment = Arc::new(Self {
            start: Instant::now(),
            redis: Arc::new(Mutex::new(redis)),
            nodes: slots,
            logs,
            troubles: Mutex::default(),
            probes: Mutex::default(),
            odd: Mutex::default(),
        });
        for node in 0..nodes {
            deployment.start_node(node).await?;
            tokio::spawn(deployment.clone().probe(node));
        }
        Ok(deployment)
    }

    /// Starts a process for `node`, and waits until it listens. While Redis is away it cannot start.
    async fn start_node(&self, node: usize) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let life = {
                let mut state = lock(&self.nodes[node].state);
                state.life += 1;
                state.life
            };
            let log = self.logs.join(format!("n{node}.{life}.log"));
            let url = self.nodes[node].proxy.url();
            let mut process = command(node, &url, &log).map_err(|error| {
                format!("signaling-server cannot be started ({error}); `make chaos` builds it")
            })?;
            let said = process.stdout.take().map(BufReader::new);
            let first = spawn_blocking(move || {
                let mut line = String::new();
                let read = said.map(|mut said| said.read_line(&mut line));
                read.and_then(Result::ok).map(|_| line)
            });
            let first = first.await.ok().flatten().unwrap_or_default();
            let address = first.trim().rsplit_once("http://").and_then(|(_, at)| at.parse().ok());
            if let Some(address) = address {
                let mut state = lock(&self.nodes[node].state);
                (state.process, state.address) = (Some(process), Some(address));
                return Ok(());
            }
            let _ = process.kill();
            let _ = process.wait();
            if Instant::now() > deadline {
                return Err(format!("n{node} did not start within 60 s: {}", log.display()));
            }
            time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn probe(self: Arc<Self>, node: usize) {
        loop {
            time::sleep(PROBE).await;
            let Some(address) = self.address(node) else {
                lock(&self.nodes[node].state).ready = false;
                continue;
            };
            let asked = self.start.elapsed();
            let answer = http(address, "GET", "/readyz", "", Duration::from_secs(1)).await;
            let ready = matches!(answer, Ok((200, _)));
            lock(&self.nodes[node].state).ready = ready;
            if answer.is_ok() {
                let answered = self.start.elapsed();
                lock(&self.probes).push(Probe { node, asked, answered, ready });
            }
        }
    }

    pub(crate) fn address(&self, node: usize) -> Option<SocketAddr> {
        lock(&self.nodes[node].state).address
    }

    /// A node as a balancer chooses it: one that is ready; now and then, as a balancer that is behind
    /// does, or where none is ready, any that runs.
    pub(crate) fn pick(&self, rng: &mut Rng) -> Option<(usize, SocketAddr)> {
        let all = self.nodes.iter().enumerate().filter_map(|(number, node)| {
            let state = lock(&node.state);
            state.address.map(|address| (state.ready, number, address))
        });
        let all: Vec<_> = all.collect();
        let any = rng.u8(0..5) == 0 || all.iter().all(|(ready, ..)| !ready);
        let fit = all.into_iter().filter(|(ready, ..)| *ready || any);
        let (_, number, address) = rng.choice(fit.collect::<Vec<_>>())?;
        Some((number, address))
    }

    /// Any node that is ready.
    pub(crate) fn pick_ready(&self, rng: &mut Rng) -> Option<SocketAddr> {
        let states = self.nodes.iter().map(|node| lock(&node.state));
        let ready = states.filter(|state| state.ready).filter_map(|state| state.address);
        rng.choice(ready.collect::<Vec<_>>())
    }

    /// Carries out one fault, to its end.
    pub(crate) async fn suffer(&self, fault: Fault) {
        let _turn = match fault.node {
            Some(node) => Some(self.nodes[node].turn.lock().await),
            None => None,
        };
        let number = {
            let mut troubles = lock(&self.troubles);
            troubles.push(Trouble { fault, from: self.start.elapsed(), to: At::MAX });
            troubles.len() - 1
        };
        let hit = match fault.node {
            Some(node) => &self.nodes[node..=node],
            None => &self.nodes[..],
        };
        match (fault.kind, fault.node) {
            (Kind::Kill | Kind::Terminate, Some(node)) => {
                self.end_node(node, fault.kind).await;
                time::sleep(fault.lasts).await;
                if let Err(odd) = self.start_node(node).await {
                    lock(&self.odd).push(odd);
                }
            }
            (Kind::Freeze, Some(node)) => {
                self.signal(node, Signal::SIGSTOP);
                time::sleep(fault.lasts).await;
                self.signal(node, Signal::SIGCONT);
            }
            (Kind::Cut | Kind::Stall, _) => {
                let mode = if fault.kind == Kind::Cut { Mode::Cut } else { Mode::Swallow };
                hit.iter().for_each(|node| node.interrupt(mode));
                time::sleep(fault.lasts).await;
                hit.iter().for_each(|node| node.resume(mode));
            }
            (Kind::RestartRedis, _) => {
                self.redis(Redis::kill).await;
                time::sleep(fault.lasts).await;
                self.redis(Redis::restart).await;
            }
            (Kind::FreezeRedis | Kind::Kill | Kind::Terminate | Kind::Freeze, _) => {
                self.redis(|redis| redis.freeze()).await;
                time::sleep(fault.lasts).await;
                self.redis(|redis| redis.thaw()).await;
            }
        }
        lock(&self.troubles)[number].to = self.start.elapsed();
    }

    async fn end_node(&self, node: usize, kind: Kind) {
        let signal = if kind == Kind::Kill { Signal::SIGKILL } else { Signal::SIGTERM };
        self.signal(node, signal);
        if kind == Kind::Kill {
            lock(&self.nodes[node].state).address = None;
        }
        let deadline = Instant::now() + ENDS_WITHIN;
        let ended = loop {
            let ended = match &mut lock(&self.nodes[node].state).process {
                Some(process) => process.try_wait().ok().flatten(),
                None => return,
            };
            if ended.is_some() || Instant::now() > deadline {
                break ended;
            }
            time::sleep(Duration::from_millis(20)).await;
        };
        if kind == Kind::Terminate && ended.and_then(|status| status.code()) != Some(0) {
            let odd = format!("n{node} was told to end, and within 30 s: {ended:?}");
            lock(&self.odd).push(odd);
        }
        let mut state = lock(&self.nodes[node].state);
        (state.address, state.ready) = (None, false);
        if let Some(mut process) = state.process.take() {
            // It may still run.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn signal(&self, node: usize, signal: Signal) {
        let state = lock(&self.nodes[node].state);
        let id = state.process.as_ref().and_then(|process| i32::try_from(process.id()).ok());
        let sent = id.map(|id| kill(Pid::from_raw(id), signal));
        if !matches!(sent, Some(Ok(()))) {
            lock(&self.odd).push(format!("n{node} could not be sent {signal}: {sent:?}"));
        }
    }

    /// Blocks another thread for as long as it takes.
    async fn redis(&self, act: impl FnOnce(&mut Redis) + Send + 'static) {
        let redis = self.redis.clone();
        if spawn_blocking(move || act(&mut lock(&redis))).await.is_err() {
            lock(&self.odd).push("Redis could not be handled".to_owned());
        }
    }

    /// A request to the API of any node that is ready.
    pub(crate) async fn api(
        &self,
        rng: &mut Rng,
        method: &str,
        path: &str,
        body: &str,
    ) -> io::Result<(u16, String)> {
        let (_, address) = self.pick(rng).ok_or(io::ErrorKind::NotConnected)?;
        http(address, method, path, body, Duration::from_secs(5)).await
    }

    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        lock(&self.troubles).clone()
    }

    pub(crate) fn probes(&self) -> Vec<Probe> {
        lock(&self.probes).clone()
    }

    /// What was odd, nodes that ended by themselves and panics in their logs among it.
    pub(crate) fn odd(&self) -> Vec<String> {
        let mut odd = lock(&self.odd).clone();
        for (number, node) in self.nodes.iter().enumerate() {
            let mut state = lock(&node.state);
            if let Some(Ok(Some(status))) = state.process.as_mut().map(Child::try_wait) {
                odd.push(format!("n{number} ended by itself: {status}"));
            }
        }
        for entry in fs::read_dir(&self.logs).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let panics = log.lines().filter(|line| line.contains("panicked"));
            odd.extend(panics.map(|line| format!("{}: {line}", entry.path().display())));
        }
        odd
    }

    /// What is there at the end beside one session and two connections for each pair.
    pub(crate) async fn leftovers(&self, rng: &mut Rng, pairs: usize) -> Vec<String> {
        let counts = self.api(rng, "GET", "/api/counts", "").await;
        let all = counts.ok().and_then(|(_, body)| serde_json::from_str::<Value>(&body).ok());
        let all = all.map(|counts| counts["all"].clone()).unwrap_or_default();
        let good = json!({"connections": 2 * pairs, "sessions": pairs});
        if all == good { Vec::new() } else { vec![format!("the nodes count {all}, not {good}")] }
    }
}

fn command(node: usize, redis: &str, log: &Path) -> io::Result<Child> {
    let mut command = Command::new(env::current_exe()?.with_file_name("signaling-server"));
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("SIGNALING_") {
            command.env_remove(name);
        }
    }
    command
        .args(["--listen", "127.0.0.1:0", "--node-id", &format!("n{node}")])
        .env("SIGNALING_JWT_SECRET", SECRET)
        .env("SIGNALING_API_KEY", SECRET)
        .env("SIGNALING_REDIS_URL", redis)
        .env("RUST_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(log)?)
        .spawn()
}

/// A token of `user` that never expires.
pub(crate) fn token(user: &str) -> String {
    token::sign(SECRET.as_bytes(), &json!({"sub": user, "exp": 4_000_000_000_u64}))
}

async fn http(
    at: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    limit: Duration,
) -> io::Result<(u16, String)> {
    let asked = async {
        let mut socket = TcpStream::connect(at).await?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/json\r\nAuthorization: Bearer {SECRET}\r\n\r\n{body}",
            body.len(),
        );
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        let parts = answer.split_once("\r\n\r\n");
        let status = answer.get(9..12).and_then(|status| status.parse().ok());
        parts
            .zip(status)
            .map(|((_, body), status)| (status, body.to_owned()))
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    };
    time::timeout(limit, asked).await?
}
