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
        let (program, adapter) = contender.program()?;
        let process = Command::new("taskset")
            .args(["-c", CORE])
            .arg(program)
            .arg(address.port().to_string())
            .args(adapter)
            .args(redis)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self { process, address };
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        time::timeout(PATIENCE, listens).await?;
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
