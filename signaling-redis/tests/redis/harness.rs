//! Nodes with a relay each, on one Redis.

use std::time::{Duration, Instant};

use serde_json::Value;
use signaling_core::{
    Config, Relay,
    id::{SessionId, UserId},
    session::{SessionRecord, Status},
    testing::guest::{Guest, Nobody},
};
use signaling_redis::{Redis, Settings};
use tokio::{runtime::Runtime, time};
use tracing_subscriber::EnvFilter;

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A node on a runtime of its own, so that it can die as a process does.
pub(crate) struct Node {
    pub(crate) relay: Relay,
    pub(crate) redis: Redis,
    runtime: Option<Runtime>,
}

impl AsRef<Relay> for Node {
    fn as_ref(&self) -> &Relay {
        &self.relay
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Node {
    pub(crate) async fn start(url: &str) -> Self {
        Self::start_with(Settings::url(url).unwrap()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        Self::configured(settings, |_| {}).await
    }

    /// A node that is found dead a few seconds after its death.
    pub(crate) async fn start_with_short_lease(url: &str) -> Self {
        let settings = Settings::url(url).unwrap();
        Self::configured(settings, |config| {
            config.node_lease = Duration::from_secs(3);
            config.node_renewal = Duration::from_secs(1);
            config.sweep_interval = Duration::from_millis(200);
        })
        .await
    }

    pub(crate) async fn configured(settings: Settings, change: fn(&mut Config)) -> Self {
        show_logs();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let started = runtime.spawn(async move {
            let redis = Redis::connect(settings).await.unwrap();
            let mut config = Config::default();
            config.max_signals_per_second = 0;
            config.max_signal_bytes_per_second = 0;
            config.max_connects_per_minute = 0;
            change(&mut config);
            let relay = Relay::builder(Nobody)
                .config(config)
                .store(redis.store())
                .bus(redis.bus())
                .start()
                .await
                .unwrap();
            (relay, redis)
        });
        let (relay, redis) = started.await.unwrap();
        Self { relay, redis, runtime: Some(runtime) }
    }

    /// Connects a user to this node, on its runtime.
    pub(crate) fn connect(&self, name: &str) -> Guest {
        let _on = self.runtime.as_ref().map(Runtime::enter);
        Guest::connect(&self.relay, name)
    }

    /// Connects one that sends no heartbeats by itself.
    pub(crate) fn connect_quiet(&self, name: &str) -> Guest {
        let _on = self.runtime.as_ref().map(Runtime::enter);
        Guest::connect_quiet(&self.relay, name)
    }

    /// The process is gone, from one moment to the next.
    pub(crate) fn kill(self) {
        drop(self);
    }

    pub(crate) async fn record(&self, session: &SessionId) -> Option<SessionRecord> {
        self.relay.session(session).await.unwrap()
    }

    /// Waits until the node is ready, or is not, and says how long that took.
    pub(crate) async fn until_ready(&self, ready: bool) -> Duration {
        until("readiness changes", async || self.relay.is_ready() == ready).await
    }
}

/// What the nodes say, for who runs a test with `RUST_LOG`.
fn show_logs() {
    let filter = EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// Waits until `condition` holds, and says how long that took.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) -> Duration {
    let started = now();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: not in a minute");
        time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

/// Real time: no test in here pauses it.
#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Ann on `a` and Bob on `b`, matched.
pub(crate) async fn matched(a: &Node, b: &Node) -> (Guest, Guest, SessionId) {
    pair(a, b, ["ann", "bob"]).await
}

/// Two users, the first on `a`, the second on `b`, matched.
pub(crate) async fn pair(a: &Node, b: &Node, names: [&str; 2]) -> (Guest, Guest, SessionId) {
    let [first, second] = names;
    let (mut one, mut other) = (a.connect(first), b.connect(second));
    one.settled().await;
    other.settled().await;
    let session = a.relay.open_session(&user(first), &user(second)).await.unwrap();
    one.expect_match(&session, second, true).await;
    other.expect_match(&session, first, false).await;
    // Then each knows of the other.
    talk(&mut one, &mut other, &session, "hello").await;
    (one, other, session)
}

/// A signal each way arrives.
pub(crate) async fn talk(ann: &mut Guest, bob: &mut Guest, session: &SessionId, what: &str) {
    ann.signal(session, "offer", what).await;
    bob.expect(&format!("offer {what}")).await;
    bob.signal(session, "answer", what).await;
    ann.expect(&format!("answer {what}")).await;
}

/// What comes next to one whose signals were lost, which may be told more than once.
pub(crate) async fn next_but_losses(guest: &mut Guest) -> Value {
    loop {
        let message = guest.message().await;
        if message["code"] != "unavailable" {
            return message;
        }
    }
}

/// After an outage, says that it is over until the partner hears it, and that for `limit` at most.
/// What was on its way may still arrive, before anything newer.
pub(crate) async fn talk_again(
    ann: &mut Guest,
    bob: &mut Guest,
    session: &SessionId,
    limit: Duration,
) {
    talk_one_way(ann, bob, session, limit).await;
    talk_one_way(bob, ann, session, limit).await;
    for guest in [ann, bob] {
        nothing_left(guest).await;
    }
}

async fn talk_one_way(from: &mut Guest, to: &mut Guest, session: &SessionId, limit: Duration) {
    let heard = async {
        for n in 0.. {
            let last = format!("over {n}");
            from.signal(session, "ice-candidate", &last).await;
            // The last one that was sent, or it would arrive when nothing is expected any more.
            let arrives = async {
                loop {
                    let message = next_but_losses(to).await;
                    if message["candidate"] == last.as_str() {
                        break;
                    }
                    assert!(is_over(&message) || message["sdp"] == "lost", "{message}");
                }
            };
            if time::timeout(Duration::from_millis(200), arrives).await.is_ok() {
                break;
            }
        }
    };
    time::timeout(limit, heard).await.expect("a signal that arrives");
    nothing_left(from).await;
    nothing_left(to).await;
}

fn is_over(message: &Value) -> bool {
    message["candidate"].as_str().is_some_and(|said| said.starts_with("over"))
}

/// All that comes to `guest` until now is that signals were lost, and that it is over.
pub(crate) async fn nothing_left(guest: &mut Guest) {
    guest.send(r#"{"type":"heartbeat","id":99}"#).await;
    loop {
        let message = next_but_losses(guest).await;
        if !is_over(&message) {
            assert_eq!(message["id"], 99, "{message}");
            break;
        }
    }
}

/// The record says that the session is active, on these nodes.
pub(crate) async fn is_active_on(at: &Node, session: &SessionId, a: &Node, b: &Node) -> bool {
    let Ok(Some(record)) = at.relay.session(session).await else { return false };
    let nodes = record.participants.each_ref().map(|p| p.connection().map(|c| c.node().clone()));
    let expected = [a, b].map(|node| Some(node.relay.node_id().clone()));
    record.status() == Status::Active && nodes == expected
}
