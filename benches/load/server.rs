//! A contender's process: started on a core of its own, watched, and ended with its run.

use std::{
    error::Error,
    fs,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{net::TcpStream, time};

use crate::contender::Contender;

/// Where the contenders run; the load generator belongs on another core.
const CORE: &str = "0";
/// How long one may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Kernel ticks in a second, as `/proc` counts CPU time on every Linux there is.
const TICKS: f64 = 100.0;

pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) async fn start(contender: Contender) -> Result<Self, Box<dyn Error>> {
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let process = Command::new("taskset")
            .args(["-c", CORE])
            .args(contender.command(address.port())?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("taskset cannot be started: {error}"))?;
        let mut server = Self { process, address };
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                // What it said about it went to our standard error.
                if let Some(status) = server.process.try_wait()? {
                    return Err(format!("{contender:?} ended as it started: {status}").into());
                }
                time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, Box<dyn Error>>(())
        };
        time::timeout(PATIENCE, listens).await.map_err(|_| {
            format!("{contender:?} did not listen within {} s", PATIENCE.as_secs())
        })??;
        Ok(server)
    }

    /// Seconds of CPU time that it has used.
    pub(crate) fn cpu(&self) -> Result<f64, Box<dyn Error>> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name, in parentheses, may hold anything; user and system time are the 14th and 15th.
        let after = stat.rsplit(')').next().ok_or("a name")?;
        let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
    }

    /// KiB of memory that it has resident.
    pub(crate) fn resident(&self) -> Result<u64, Box<dyn Error>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
