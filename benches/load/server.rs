//! A contender's process: started on a core of its own, watched, and ended with its run.

use std::{
    error::Error,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{net::TcpStream, time};

use crate::contender::Contender;

/// Where the contenders run; the load generator belongs on another core.
pub(crate) const CORE: &str = "0";
/// How long one may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// With its sessions in a Redis, if it is given one.
    pub(crate) async fn start(
        contender: Contender,
        redis: Option<&str>,
    ) -> Result<Self, Box<dyn Error>> {
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

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
