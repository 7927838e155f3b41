//! The endpoint suite, against the server as it is run: another process, told by its command line
//! and its HTTP API, alone and on Redis. A binary of its own, whose longest case begins first.
#![allow(clippy::unwrap_used, reason = "tests, of which clippy knows only the functions marked so")]

#[path = "../server/support.rs"]
#[allow(dead_code, reason = "the clients here are the suite's")]
mod support;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use signaling_core::{
    Config,
    relay::SecondConnection,
    session::Status,
    testing::endpoint::{
        AUDIENCE, Endpoint, ISSUER, Opening, ParticipantState, SECRET, SessionState, Setup,
        Unsupported,
    },
    time::Timestamp,
};
use signaling_redis::testing::Server as Redis;
use support::{API_KEY, Answer, Server};
use tokio::sync::RwLock;

mod alone {
    signaling_core::endpoint_tests!(crate::start_alone);
}

mod on_redis {
    signaling_core::endpoint_tests!(crate::start_on_redis);
}

async fn start_alone(setup: Setup) -> Result<Box<dyn Endpoint>, Unsupported> {
    start(setup, None).await
}

async fn start_on_redis(setup: Setup) -> Result<Box<dyn Endpoint>, Unsupported> {
    start(setup, Some(Redis::start())).await
}

async fn start(mut setup: Setup, redis: Option<Redis>) -> Result<Box<dyn Endpoint>, Unsupported> {
    if setup.store.is_some() || setup.authenticator.is_some() {
        return Err(Unsupported("this server's parts cannot be made to fail"));
    }
    if setup.hooks.is_some() {
        return Err(Unsupported("this server has no hooks"));
    }
    let policy = match setup.second_connection {
        SecondConnection::Replace => "replace",
        SecondConnection::Refuse => "refuse",
        _ => return Err(Unsupported("this server asks nobody about second connections")),
    };
    let origins = setup.allowed_origins.take().unwrap_or_default();
    setup.relay_only()?;
    let mut args = ["--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE].to_vec();
    if policy != "replace" {
        args.extend(["--second-connection", policy]);
    }
    let origins = origins.iter().map(|origin| format!("--allowed-origin={origin}"));
    let flags: Vec<_> = flags(&setup.config).chain(origins).collect();
    args.extend(flags.iter().map(String::as_str));
    let stun_urls = setup.stun_urls.join(",");
    if !stun_urls.is_empty() {
        args.extend(["--stun-url", &stun_urls]);
    }
    let url = redis.as_ref().map(Redis::url).unwrap_or_default();
    let env = [
        ("SIGNALING_JWT_SECRET", SECRET),
        ("SIGNALING_API_KEY", API_KEY),
        ("SIGNALING_REDIS_URL", &url),
    ];
    let server = Server::start_with(&args, &env).await;
    let address = server.address.clone();
    Ok(Box::new(Process { address, server: RwLock::new(Some(server)), _redis: redis }))
}

/// What differs from the defaults, so that the server's own defaults are tested as well.
fn flags(config: &Config) -> impl Iterator<Item = String> {
    let pairs = limits(config).into_iter().zip(limits(&Config::default()));
    let changed = pairs.filter(|(here, default)| here != default);
    changed.map(|((flag, value), _)| format!("--{flag}={value}"))
}

fn limits(c: &Config) -> [(&'static str, String); 24] {
    let time = |period: Duration| format!("{}ms", period.as_millis());
    let size = |n: usize| n.to_string();
    let rate = |n: u32| n.to_string();
    [
        ("heartbeat-timeout", time(c.heartbeat_timeout)),
        ("ping-interval", time(c.ping_interval)),
        ("silence-timeout", time(c.silence_timeout)),
        ("max-frame-bytes", size(c.max_frame_bytes)),
        ("max-signals-per-second", rate(c.max_signals_per_second)),
        ("signal-burst", rate(c.signal_burst)),
        ("max-signal-bytes-per-second", rate(c.max_signal_bytes_per_second)),
        ("signal-byte-burst", rate(c.signal_byte_burst)),
        ("max-connects-per-minute", rate(c.max_connects_per_minute)),
        ("connect-burst", rate(c.connect_burst)),
        ("max-malformed", rate(c.max_malformed)),
        ("max-queued-messages", size(c.max_queued_messages)),
        ("max-queued-bytes", size(c.max_queued_bytes)),
        ("write-timeout", time(c.write_timeout)),
        ("max-kept-signals", size(c.max_kept_signals)),
        ("max-kept-bytes", size(c.max_kept_bytes)),
        ("abandon-after", time(c.abandon_after)),
        ("max-sessions-per-user", size(c.max_sessions_per_user)),
        ("heartbeat-batch", time(c.heartbeat_batch)),
        ("close-wait", time(c.close_wait)),
        ("max-connections", size(c.max_connections.unwrap_or(0))),
        ("node-lease", time(c.node_lease)),
        ("node-renewal", time(c.node_renewal)),
        ("sweep-interval", time(c.sweep_interval)),
    ]
}

struct Process {
    address: String,
    /// None once it was told to end.
    server: RwLock<Option<Server>>,
    _redis: Option<Redis>,
}

impl Process {
    async fn api(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let server = self.server.read().await;
        let server = server.as_ref().expect("the server runs");
        server.api(method, path, body).await
    }

    /// Whether there was something to delete.
    async fn delete(&self, path: &str) -> bool {
        let answer = self.api("DELETE", path, None).await;
        if answer.status == 204 {
            return true;
        }
        assert_eq!(answer.error(), (404, "not-found".to_owned()));
        false
    }
}

#[async_trait]
impl Endpoint for Process {
    fn url(&self) -> String {
        format!("ws://{}/ws/signaling", self.address)
    }

    async fn open(&self, session: Option<&str>, initiator: &str, responder: &str) -> Opening {
        let mut body = json!({"initiatorId": initiator, "partnerId": responder});
        if let Some(session) = session {
            body["sessionId"] = session.into();
        }
        let answer = self.api("POST", "/api/sessions", Some(body)).await;
        let session = || answer.json()["sessionId"].as_str().unwrap().to_owned();
        match answer.status {
            201 => return Opening::New(session()),
            200 => return Opening::Existing(session()),
            _ => {}
        }
        match answer.error() {
            (409, code) if code == "conflict" => Opening::Conflict,
            (409, code) if code == "too-many-sessions" => Opening::Refused,
            (422, code) if code == "invalid" => Opening::Refused,
            other => panic!("not an answer of the API: {other:?}"),
        }
    }

    async fn close(&self, session: &str) -> bool {
        self.delete(&format!("/api/sessions/{session}")).await
    }

    async fn disconnect(&self, user: &str) -> bool {
        self.delete(&format!("/api/users/{user}/connection")).await
    }

    async fn revoke(&self, user: &str, issued_before: u64) {
        let body = serde_json::json!({"issuedBefore": issued_before * 1000});
        let answer = self.api("POST", &format!("/api/users/{user}/revocation"), Some(body)).await;
        assert_eq!(answer.status, 204);
    }

    async fn session(&self, session: &str) -> Option<SessionState> {
        let path = format!("/api/sessions/{session}");
        let answer = self.api("GET", &path, None).await;
        if answer.status == 404 {
            return None;
        }
        let json = answer.json();
        assert_eq!(json["sessionId"], session);
        let status = match json["status"].as_str() {
            Some("waiting") => Status::Waiting,
            Some("active") => Status::Active,
            other => panic!("not a status: {other:?}"),
        };
        let participant = |n: usize| {
            let one = &json["participants"][n];
            ParticipantState {
                user: one["userId"].as_str().unwrap().to_owned(),
                connected: one["connected"].as_bool().unwrap(),
                last_heartbeat: match &one["lastHeartbeat"] {
                    Value::Null => None,
                    millis => Some(Timestamp::from_millis(millis.as_u64().unwrap())),
                },
            }
        };
        let participants = [participant(0), participant(1)];
        Some(SessionState { status, participants })
    }

    async fn shutdown(&self) {
        let server = self.server.write().await.take();
        let (code, said) = server.expect("the server runs").stop().await;
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }

    async fn faults(&self) -> Vec<String> {
        let server = self.server.read().await;
        let Some(server) = &*server else {
            return Vec::new();
        };
        let said = server.said.lock().unwrap();
        let panics = said.lines().filter(|line| line.contains("panicked"));
        panics.map(str::to_owned).collect()
    }
}
