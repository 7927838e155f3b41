//! The sweep keeps up with what is abandoned.

use std::time::Duration;

use futures::{StreamExt, stream};
use signaling_core::Config;
use signaling_redis::{Settings, testing::Server};

use crate::harness::{Node, now, until, user};

fn hasty(config: &mut Config) {
    config.abandon_after = Duration::from_secs(4);
    // An outage is over soon.
    config.node_lease = Duration::from_secs(3);
}

/// With 256 in a second, as it once was, this takes a quarter of a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sessions_that_are_abandoned_at_the_same_time_end_at_the_same_time() {
    const SESSIONS: usize = 4_000;
    let server = Server::start();
    let settings = || Settings::url(&server.url()).unwrap();
    let a = &Node::configured(settings(), hasty).await;
    let _b = Node::configured(settings(), hasty).await;
    let opened = stream::iter(0..SESSIONS).map(|n| async move {
        let (ann, bob) = (user(&format!("ann-{n}")), user(&format!("bob-{n}")));
        a.relay.open_session(&ann, &bob).await.unwrap();
    });
    // A busy machine has to do so many within a command's 2 s.
    opened.buffer_unordered(32).collect::<()>().await;
    let opened = now();
    let records = || server.cli(&["eval", COUNT, "0"]).parse::<usize>().unwrap();
    assert!(records() > 0);
    until("all have ended", async || records() == 0).await;
    let late = opened.elapsed().saturating_sub(Duration::from_secs(4));
    println!("the last of {SESSIONS} ended {late:?} after its deadline");
    assert!(late < Duration::from_secs(4), "{late:?} after the last deadline");
}

/// How many records there are.
const COUNT: &str = "return #redis.call('KEYS', 'session:active:*')";
