use std::{
    net::{SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::client;

/// A `turnserver` on a free port of this machine, ended when this is dropped.
pub(crate) struct Coturn {
    address: SocketAddr,
    process: Child,
    _dir: TempDir,
}

/// Between attempts to see whether it answers.
const PAUSE: Duration = Duration::from_millis(20);
/// After so many it does not.
const ATTEMPTS: u32 = 500;

impl Coturn {
    /// One with this `static-auth-secret`, that answers.
    pub(crate) fn start(secret: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = |name: &str| dir.path().join(name).display().to_string();
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut process = Command::new("turnserver")
            .arg("-n")
            .args(["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--allow-loopback-peers"])
            .args(["--no-tcp", "--no-tls", "--no-dtls", "--no-cli", "--simple-log"])
            .args(["--realm=turn.test", "--use-auth-secret"])
            .arg(format!("--static-auth-secret={secret}"))
            .arg(format!("--listening-port={}", address.port()))
            .arg(format!("--userdb={}", own("turndb")))
            .arg(format!("--pidfile={}", own("pid")))
            .arg(format!("--log-file={}", own("log")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnserver is installed");
        let answers = (0..ATTEMPTS).any(|_| {
            thread::sleep(PAUSE);
            client::answers(address)
        });
        let ended = process.try_wait().unwrap();
        let server = Self { address, process, _dir: dir };
        assert!(answers && ended.is_none(), "turnserver does not answer: {ended:?}");
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is, for a client.
    pub(crate) fn url(&self) -> String {
        format!("turn:{}?transport=udp", self.address)
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
