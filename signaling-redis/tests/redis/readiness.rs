//! Readiness follows what Redis does for the node, at every age of the process.

use std::{thread, time::Duration};

use signaling_core::{frame::CloseReason, store::StoreError};
use signaling_redis::testing::Server;
use tokio::{runtime, time};

use crate::{
    harness::{Node, pair},
    proxy::{Mode, Proxy},
};

/// DESIGN, section 6.
const FOLLOWS: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Frozen,
    Killed,
    Cut,
    Swallowed,
}

struct Scene {
    server: Server,
    proxy: Proxy,
    node: Node,
}

impl Scene {
    async fn new() -> Self {
        let server = Server::start();
        let proxy = Proxy::before(server.port()).await;
        let node = Node::start(&proxy.url()).await;
        assert!(node.relay.is_ready());
        Self { server, proxy, node }
    }

    fn begin(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Frozen => self.server.freeze(),
            Trouble::Killed => self.server.kill(),
            Trouble::Cut => self.proxy.set(Mode::Cut),
            Trouble::Swallowed => self.proxy.set(Mode::Swallow),
        }
    }

    fn end(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Frozen => self.server.thaw(),
            Trouble::Killed => self.server.restart(),
            Trouble::Cut | Trouble::Swallowed => self.proxy.set(Mode::Pass),
        }
    }
}

async fn follow(age: Duration, trouble: Trouble) {
    let mut scene = Scene::new().await;
    time::sleep(age).await;
    assert!(scene.node.relay.is_ready(), "{trouble:?} at {age:?}: not ready before");
    scene.begin(trouble);
    let unready = scene.node.until_ready(false).await;
    assert!(unready < FOLLOWS, "{trouble:?} at {age:?}: not ready after {unready:?}");
    time::sleep(Duration::from_millis(700)).await;
    assert!(!scene.node.relay.is_ready(), "{trouble:?} at {age:?}: ready again meanwhile");
    scene.end(trouble);
    let ready = scene.node.until_ready(true).await;
    assert!(ready < FOLLOWS, "{trouble:?} at {age:?}: ready again after {ready:?}");
    println!("{trouble:?} at {age:?}: {unready:?}, then {ready:?}");
}

#[test]
fn it_follows_an_outage_at_every_age_of_the_process() {
    let ages = [0, 1_300, 4_900, 8_000].map(Duration::from_millis);
    let troubles = [Trouble::Frozen, Trouble::Killed, Trouble::Cut, Trouble::Swallowed];
    let cases = ages.into_iter().flat_map(|age| troubles.map(|trouble| (age, trouble)));
    // Each on a thread of its own, since starting a server blocks it.
    let running = cases.map(|(age, trouble)| {
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(follow(age, trouble));
        })
    });
    for case in running.collect::<Vec<_>>() {
        case.join().expect("it follows");
    }
}

/// Commands that make a server answer and refuse writes, and those that end it.
const REFUSALS: [(&[&str], &[&str]); 5] = [
    (&["config", "set", "maxmemory", "1"], &["config", "set", "maxmemory", "0"]),
    (
        &["config", "set", "min-replicas-to-write", "1"],
        &["config", "set", "min-replicas-to-write", "0"],
    ),
    (&["replicaof", "127.0.0.1", "1"], &["replicaof", "no", "one"]),
    (&["acl", "setuser", "default", "-@write"], &["acl", "setuser", "default", "+@all"]),
    (&["acl", "setuser", "default", "-@scripting"], &["acl", "setuser", "default", "+@all"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_follows_a_redis_that_refuses_every_write() {
    let Scene { server, node, .. } = &Scene::new().await;
    for (begin, end) in REFUSALS {
        server.cli(begin);
        let unready = node.until_ready(false).await;
        assert!(unready < FOLLOWS, "{begin:?}: not ready after {unready:?}");
        time::sleep(Duration::from_millis(300)).await;
        assert!(!node.relay.is_ready(), "{begin:?}: ready again meanwhile");
        server.cli(end);
        let ready = node.until_ready(true).await;
        assert!(ready < FOLLOWS, "{begin:?}: ready again after {ready:?}");
        println!("{begin:?}: {unready:?}, then {ready:?}");
    }
}

/// As on a Cluster where one of the primaries takes nothing, or with an ACL that lacks a command.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_follows_a_redis_that_refuses_some_writes() {
    let Scene { server, node: a, .. } = &Scene::new().await;
    let b = &Node::start(&server.url()).await;
    let (mut ann, _bob, session) = pair(a, b, ["ann", "bob"]).await;
    for command in ["xadd", "del"] {
        server.cli(&["acl", "setuser", "default", &format!("-{command}")]);
        time::sleep(Duration::from_millis(300)).await;
        assert!(a.relay.is_ready(), "{command}: the lease does not need it");
        if command == "xadd" {
            ann.signal(&session, "offer", "refused").await;
            ann.expect("error unavailable").await;
        } else {
            let closed = a.relay.close_session(&session, CloseReason::default()).await;
            assert!(matches!(closed, Err(StoreError::Refused(_))), "{closed:?}");
        }
        let unready = a.until_ready(false).await;
        assert!(unready < FOLLOWS, "{command}: not ready after {unready:?}");
        server.cli(&["acl", "setuser", "default", "+@all"]);
        let ready = a.until_ready(true).await;
        assert!(ready < FOLLOWS, "{command}: ready again after {ready:?}");
    }
}
