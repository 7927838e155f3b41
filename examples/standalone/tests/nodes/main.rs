//! Several server processes on one Redis, as they stand behind a load balancer.
#![allow(clippy::unwrap_used, reason = "tests, of which clippy knows only the functions marked so")]

mod call;
mod faults;
mod outage;
mod queue;
mod start;
#[path = "../server/support.rs"]
#[allow(dead_code, reason = "shared with tests of other things")]
mod support;

use std::collections::HashMap;

use serde_json::{Value, json};
use signaling_redis::testing::Server as Redis;
use support::{API_KEY, Answer, JWT_SECRET, Server};

/// Two nodes and their Redis.
struct Nodes {
    redis: Redis,
    nodes: [Server; 2],
}

impl Nodes {
    async fn start() -> Self {
        Self::start_on(Redis::start(), &[]).await
    }

    async fn start_on(redis: Redis, args: &[&str]) -> Self {
        let one = node(&redis.url(), &[args, &["--node-id", "one"]].concat()).await;
        let two = node(&redis.url(), &[args, &["--node-id", "two"]].concat()).await;
        Self { redis, nodes: [one, two] }
    }

    /// What `user` is answered who enters the queue on a node.
    async fn enter(&self, node: usize, user: &str) -> Answer {
        enter(&self.nodes[node], user).await.unwrap()
    }

    /// The sessions of each user, and the partner in each, as Redis has them.
    fn partners(&self) -> HashMap<String, Vec<String>> {
        let mut partners: HashMap<_, Vec<_>> = HashMap::new();
        for key in self.redis.cli(&["keys", "session:active:*"]).lines() {
            let users = self.redis.cli(&["hmget", key, "participant1Id", "participant2Id"]);
            let (first, second) = users.split_once('\n').unwrap();
            partners.entry(first.to_owned()).or_default().push(second.to_owned());
            partners.entry(second.to_owned()).or_default().push(first.to_owned());
        }
        partners
    }

    /// How many wait, and how many pairs are held.
    fn waiting(&self) -> (usize, usize) {
        let count = |command, key| {
            self.redis.cli(&[command, &format!("matching:{{api}}:{key}")]).parse().unwrap()
        };
        (count("zcard", "waiting"), count("hlen", "pairs"))
    }
}

async fn node(url: &str, args: &[&str]) -> Server {
    let env = [
        ("SIGNALING_JWT_SECRET", JWT_SECRET),
        ("SIGNALING_API_KEY", API_KEY),
        ("SIGNALING_REDIS_URL", url),
        // What each end would take longer by.
        ("SIGNALING_DRAIN_DELAY", "0s"),
        // The users that the queue pairs never connect; after the default of 60 s their sessions
        // could end before a slow machine has counted them.
        ("SIGNALING_ABANDON_AFTER", "10m"),
    ];
    Server::start_with(args, &env).await
}

async fn enter(node: &Server, user: &str) -> std::io::Result<Answer> {
    node.try_api("POST", "/api/queue", Some(json!({"userId": user}))).await
}

fn waiting() -> (u16, Value) {
    (202, json!({"status": "waiting"}))
}
