use std::{
    fs,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{Port, Server, wait_for};

/// A primary, its replica, and three sentinels that fail over between them.
#[derive(Debug)]
pub struct Sentinel {
    /// The primary at the start, then the replica.
    pub servers: [Server; 2],
    sentinels: Vec<(Port, Child)>,
    dir: TempDir,
}

/// The name of what the sentinels watch.
const SERVICE: &str = "signaling";

impl Drop for Sentinel {
    fn drop(&mut self) {
        for (_, process) in &mut self.sentinels {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Sentinel {
    /// Starts all of them. A primary counts as down after a second.
    #[must_use]
    pub fn start() -> Self {
        let primary = Server::start();
        let port = primary.port().to_string();
        let replica = Server::start_with(&["--replicaof", "127.0.0.1", &port]);
        wait_for("a replica that is in sync", || {
            replica.cli(&["info", "replication"]).contains("master_link_status:up").then_some(())
        });
        let dir = tempfile::tempdir().expect("a folder");
        let mut sentinel = Self { servers: [primary, replica], sentinels: Vec::new(), dir };
        for _ in 0..3 {
            sentinel.add();
        }
        for (port, _) in &sentinel.sentinels {
            wait_for("sentinels that know each other", || {
                let known = ask(port.number, &["sentinel", "master", SERVICE]);
                let field = |name: &str| {
                    known.lines().skip_while(|line| *line != name).nth(1).unwrap_or_default()
                };
                let complete = field("num-other-sentinels") == "2" && field("num-slaves") == "1";
                complete.then_some(())
            });
        }
        sentinel
    }

    fn add(&mut self) {
        let port = Port::reserve();
        let number = port.number;
        let file = self.dir.path().join(format!("{number}.conf"));
        let watched = self.servers[0].port();
        let settings = format!(
            "port {number}\nbind 127.0.0.1\n\
             sentinel monitor {SERVICE} 127.0.0.1 {watched} 2\n\
             sentinel down-after-milliseconds {SERVICE} 1000\n\
             sentinel failover-timeout {SERVICE} 5000\n"
        );
        fs::write(&file, settings).expect("a file written");
        let process = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.sentinels.push((port, process.expect("redis-server is installed")));
    }

    /// Where it is, by its sentinels.
    #[must_use]
    pub fn url(&self) -> String {
        let ports = self.sentinels.iter().map(|(port, _)| port.number).collect::<Vec<_>>();
        let others = ports[1..].iter().map(|port| format!("node=127.0.0.1:{port}"));
        let others = others.collect::<Vec<_>>().join("&");
        format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName={SERVICE}&{others}", ports[0])
    }

    /// Waits until the replica has taken over.
    pub fn wait_until_failed_over(&self) {
        let _ = wait_for("a new primary", || {
            // Whoever asks while it takes over is cut off.
            self.servers[1].try_cli(&["role"]).filter(|role| role.starts_with("master"))
        });
    }
}

fn ask(port: u16, command: &[&str]) -> String {
    let said = Command::new("redis-cli").args(["-p", &port.to_string()]).args(command).output();
    String::from_utf8_lossy(&said.expect("redis-cli is installed").stdout).into_owned()
}
