//! Real `redis-server` processes for tests, on free ports of this machine, ended when dropped
//! (feature `test-util`).
//!
//! Needs `redis-server` and `redis-cli` on the path. Everything in here panics where it fails, and
//! blocks its thread for as long as a process takes.

mod cluster;
#[doc(hidden)]
pub mod fuzz;
mod sentinel;
mod tls;

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::net::TcpSocket;

pub use cluster::Cluster;
pub use sentinel::Sentinel;
pub use tls::TlsServer;

/// Between attempts to see what is waited for.
const PAUSE: Duration = Duration::from_millis(20);
/// After so many it is waited for in vain.
const ATTEMPTS: u32 = 1_500;

/// One server.
#[derive(Debug)]
pub struct Server {
    port: Port,
    args: Vec<String>,
    dir: TempDir,
    process: Option<Child>,
    password: Option<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of 127.0.0.1 that is given to one server only, also while that server does not run.
#[derive(Debug)]
struct Port {
    number: u16,
    _reservation: TcpSocket,
}

impl Port {
    /// A port that is free, as is the one that a server in a Cluster uses beside it (10,000 higher).
    /// Both are below those that the system gives to connections.
    fn reserve() -> Self {
        let free = (0..1_000).find_map(|_| {
            let port = Self::reserve_number(fastrand::u16(15_000..22_500))?;
            Self::reserve_number(port.number + 10_000).is_some().then_some(port)
        });
        free.expect("a free port")
    }

    /// None when anybody has the port.
    fn reserve_number(number: u16) -> Option<Self> {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], number).into()).ok()?;
        // Only now: `bind` failed if the port was reserved, but a server can still listen at it.
        socket.set_reuseaddr(true).expect("an option of sockets");
        Some(Self { number, _reservation: socket })
    }
}

/// Tries until `attempt` says something.
fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..ATTEMPTS {
        if let Some(done) = attempt() {
            return done;
        }
        thread::sleep(PAUSE);
    }
    panic!("{what}: not within {:?}", PAUSE * ATTEMPTS);
}

impl Server {
    /// A server that keeps nothing across a restart.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with more arguments, such as `["--requirepass", "secret"]`.
    #[must_use]
    pub fn start_with(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let password = args.iter().position(|arg| *arg == "--requirepass").map(|at| args[at + 1]);
        let mut server = Self {
            port: Port::reserve(),
            args: args.iter().map(ToString::to_string).collect(),
            dir,
            process: None,
            password: password.map(str::to_owned),
        };
        server.restart();
        server
    }

    /// Ends the process at once, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts a process on the same port, after [`Self::kill`]. It has what its predecessor saved.
    pub fn restart(&mut self) {
        self.kill();
        let process = Command::new("redis-server")
            .args(["--port", &self.port().to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--daemonize", "no", "--loglevel", "warning"])
            .args(&self.args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.expect("redis-server is installed"));
        wait_for("a server that answers", || {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok()?);
            assert_eq!(ended, None, "redis-server ends by itself");
            (self.try_cli(&["ping"])? == "PONG").then_some(())
        });
    }

    /// Stops the process without ending it, as an overloaded machine does (SIGSTOP).
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("a process");
        let sent = Command::new("kill").args([signal, &process.id().to_string()]).status();
        assert!(sent.expect("kill is installed").success(), "not signalled");
    }

    /// Cuts all connections of clients.
    pub fn cut_clients(&self) {
        self.cli(&["client", "kill", "type", "normal", "skipme", "yes"]);
    }

    /// Waits until the replicas have all that the server has written so far.
    ///
    /// # Panics
    ///
    /// When it has none, or they do not catch up.
    pub fn wait_until_replicated(&self) {
        let field = |line: &str, name: &str| {
            let value = line.split([',', ':']).find_map(|part| part.strip_prefix(name));
            value.and_then(|value| value.trim().parse::<u64>().ok())
        };
        let written = self.cli(&["info", "replication"]);
        let written = written.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
        let written: u64 = written.and_then(|at| at.trim().parse().ok()).expect("an offset");
        wait_for("replicas that have caught up", || {
            let info = self.cli(&["info", "replication"]);
            let replicas =
                info.lines().filter(|line| line.starts_with("slave") && line.contains("offset="));
            let offsets: Vec<_> = replicas.filter_map(|line| field(line, "offset=")).collect();
            (!offsets.is_empty() && offsets.iter().all(|at| *at >= written)).then_some(())
        });
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_deref().map(|password| format!(":{password}@"));
        format!("redis://{}127.0.0.1:{}", password.unwrap_or_default(), self.port())
    }

    /// What a command says.
    pub fn cli(&self, command: &[&str]) -> String {
        self.try_cli(command).expect("an answer")
    }

    fn try_cli(&self, command: &[&str]) -> Option<String> {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.port().to_string()]);
        if let Some(password) = &self.password {
            cli.args(["--no-auth-warning", "-a", password]);
        }
        let done = cli.args(command).output().expect("redis-cli is installed");
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{Port, Server};

    #[test]
    fn a_server_keeps_its_port_while_it_does_not_run() {
        let mut server = Server::start();
        server.kill();
        assert!(Port::reserve_number(server.port()).is_none());
        server.restart();
    }
}
