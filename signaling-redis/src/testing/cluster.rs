use super::{Server, wait_for};

/// A Redis Cluster of primaries, each with a replica where that is asked for.
#[derive(Debug)]
pub struct Cluster {
    /// The servers: first the primaries, then the replicas in the same order.
    pub servers: Vec<Server>,
    primaries: usize,
}

/// How long a primary may be away before its replica takes over, in ms.
const NODE_TIMEOUT: &str = "2000";

impl Cluster {
    /// Three primaries, with `replicas` one replica each.
    #[must_use]
    pub fn start(replicas: bool) -> Self {
        let primaries = 3;
        let count = if replicas { 2 * primaries } else { primaries };
        let args = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            NODE_TIMEOUT,
            "--cluster-require-full-coverage",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let servers = (0..count).map(|_| Server::start_with(&args)).collect::<Vec<_>>();
        let cluster = Self { servers, primaries };
        cluster.join();
        cluster
    }

    fn join(&self) {
        let addresses = self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port()));
        let addresses = addresses.collect::<Vec<_>>();
        let mut command = vec!["--cluster", "create"];
        command.extend(addresses.iter().map(String::as_str));
        let replicas = if self.servers.len() > self.primaries { "1" } else { "0" };
        command.extend(["--cluster-replicas", replicas, "--cluster-yes"]);
        self.servers[0].cli(&command);
        self.wait_until_well();
        for server in &self.servers {
            wait_for("replicas in sync", || {
                let role = server.cli(&["role"]);
                (role.starts_with("master") || role.contains("connected")).then_some(())
            });
        }
    }

    /// Waits until every server that runs says that the cluster is complete.
    pub fn wait_until_well(&self) {
        for server in self.servers.iter().filter(|server| server.process.is_some()) {
            wait_for("a cluster that is well", || {
                let info = server.cli(&["cluster", "info"]);
                info.contains("cluster_state:ok").then_some(())
            });
        }
    }

    /// Waits until every server that runs knows of the replica that took over from the server number
    /// `failed`.
    pub fn wait_until_taken_over(&self, failed: usize) {
        let port = self.servers[failed].port();
        for server in self.servers.iter().filter(|server| server.process.is_some()) {
            wait_for("a replica that takes over", || {
                let nodes = server.cli(&["cluster", "nodes"]);
                let masters = nodes.lines().filter(|line| {
                    let flags = line.split(' ').nth(2).unwrap_or_default();
                    flags.contains("master") && !flags.contains("fail")
                });
                let others = masters.filter(|line| !line.contains(&format!(":{port}@")));
                (others.count() == self.primaries).then_some(())
            });
        }
        self.wait_until_well();
    }

    /// Where it is, by any of its servers.
    #[must_use]
    pub fn url(&self) -> String {
        let (first, others) = self.servers.split_first().expect("servers");
        let others = others.iter().map(|server| format!("node=127.0.0.1:{}", server.port()));
        let others = others.collect::<Vec<_>>().join("&");
        format!("redis-cluster://127.0.0.1:{}?{others}", first.port())
    }

    /// The number of the server that has the slot of `key` now.
    #[must_use]
    pub fn primary_of(&self, key: &str) -> usize {
        let running = self.servers.iter().find(|server| server.process.is_some());
        let running = running.expect("a server that runs");
        let slot: u16 = running.cli(&["cluster", "keyslot", key]).parse().expect("a slot");
        let nodes = running.cli(&["cluster", "nodes"]);
        let owner = nodes.lines().find(|line| owns(line, slot)).expect("an owner");
        let address = owner.split(' ').nth(1).and_then(|at| at.split('@').next());
        let port = address.and_then(|at| at.rsplit(':').next()).expect("a port");
        let is = |server: &Server| server.port().to_string() == port;
        self.servers.iter().position(is).expect("one of ours")
    }

    /// Moves the slot of `key` with all its keys to the server number `to`.
    pub fn move_slot(&self, key: &str, to: usize) {
        let (source, target) = (&self.servers[self.primary_of(key)], &self.servers[to]);
        let slot = source.cli(&["cluster", "keyslot", key]);
        let id = |server: &Server| server.cli(&["cluster", "myid"]);
        let (source_id, target_id) = (id(source), id(target));
        target.cli(&["cluster", "setslot", &slot, "importing", &source_id]);
        source.cli(&["cluster", "setslot", &slot, "migrating", &target_id]);
        let keys = source.cli(&["cluster", "getkeysinslot", &slot, "1000"]);
        for key in keys.lines().filter(|key| !key.is_empty()) {
            let port = target.port().to_string();
            source.cli(&["migrate", "127.0.0.1", &port, key, "0", "5000"]);
        }
        for server in &self.servers[..self.primaries] {
            server.cli(&["cluster", "setslot", &slot, "node", &target_id]);
        }
    }
}

/// Whether a line of `CLUSTER NODES` is that of the primary of `slot`.
fn owns(line: &str, slot: u16) -> bool {
    let mut fields = line.split(' ');
    let flags = fields.nth(2).unwrap_or_default();
    let in_range = |range: &str| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        matches!((from.parse::<u16>(), to.parse::<u16>()), (Ok(from), Ok(to)) if (from..=to).contains(&slot))
    };
    flags.contains("master") && !flags.contains("fail") && fields.skip(5).any(in_range)
}
