//! The server as a process, and as much HTTP as its API takes.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use signaling_core::{
    Config,
    testing::endpoint::{AUDIENCE, ISSUER, SECRET},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time,
};

const API_KEY: &str = "the-key-of-the-tests";
/// Longer than anything takes that is asked of the server here.
const PATIENCE: Duration = Duration::from_secs(15);

/// It is killed when this is dropped.
pub(crate) struct Server {
    address: String,
    child: tokio::sync::Mutex<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(config: &Config) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_signaling-server"))
            .env_clear()
            .env("SIGNALING_JWT_SECRET", SECRET)
            .env("SIGNALING_API_KEY", API_KEY)
            .args(["--listen", "127.0.0.1:0", "--log-level", "warn"])
            .args(["--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE])
            .args(flags(config))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn({
            let log = log.clone();
            async move {
                while let Ok(Some(line)) = errors.next_line().await {
                    log.lock().unwrap().push(line);
                }
            }
        });
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = time::timeout(PATIENCE, output.next_line()).await;
        let line = line.expect("the server takes its time").unwrap();
        let line = line.unwrap_or_else(|| panic!("the server did not start: {log:?}"));
        let address = line.rsplit_once("http://").unwrap().1.to_owned();
        Self {
            address,
            child: child.into(),
            log,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What the log says of panics.
    pub(crate) fn panics(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let panics = log.iter().filter(|line| line.contains("panicked"));
        panics.cloned().collect()
    }

    /// Tells it to end, and waits until it has.
    pub(crate) async fn terminate(&self) {
        let mut child = self.child.lock().await;
        let id = child.id().expect("it runs").to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(told.unwrap().success());
        let ended = time::timeout(PATIENCE, child.wait()).await;
        let status = ended.expect("the server takes its time to end").unwrap();
        assert!(status.success(), "{status}, {:?}", self.log);
    }

    /// Whether there was something to delete.
    pub(crate) async fn delete(&self, path: &str) -> bool {
        match self.request("DELETE", path, None).await {
            (204, _) => true,
            (404, answer) => {
                assert_eq!(answer["error"]["code"], "not-found", "{path}");
                false
            }
            other => panic!("not an answer to DELETE {path}: {other:?}"),
        }
    }

    /// The status and the JSON of the answer.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let exchange = self.exchange(method, path, body);
        let answer = time::timeout(PATIENCE, exchange).await;
        answer.unwrap_or_else(|_| panic!("{method} {path} is not answered"))
    }

    async fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {API_KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.address,
            body.len(),
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let json = match body {
            "" => Value::Null,
            body => serde_json::from_str(body).unwrap_or_else(|error| panic!("{body}: {error}")),
        };
        (status, json)
    }
}

/// What differs from the defaults, so that the server's own defaults are tested as well.
fn flags(config: &Config) -> impl Iterator<Item = String> {
    let pairs = limits(config).into_iter().zip(limits(&Config::default()));
    let changed = pairs.filter(|(here, default)| here != default);
    changed.map(|((flag, value), _)| format!("--{flag}={value}"))
}

fn limits(config: &Config) -> [(&'static str, String); 19] {
    let millis = |period: Duration| format!("{}ms", period.as_millis());
    let number = |n: usize| n.to_string();
    [
        ("heartbeat-timeout", millis(config.heartbeat_timeout)),
        ("ping-interval", millis(config.ping_interval)),
        ("silence-timeout", millis(config.silence_timeout)),
        ("max-frame-bytes", number(config.max_frame_bytes)),
        (
            "max-signals-per-second",
            config.max_signals_per_second.to_string(),
        ),
        ("signal-burst", config.signal_burst.to_string()),
        ("max-malformed", config.max_malformed.to_string()),
        ("max-queued-messages", number(config.max_queued_messages)),
        ("max-queued-bytes", number(config.max_queued_bytes)),
        ("max-kept-signals", number(config.max_kept_signals)),
        ("max-kept-bytes", number(config.max_kept_bytes)),
        ("abandon-after", millis(config.abandon_after)),
        (
            "max-sessions-per-user",
            number(config.max_sessions_per_user),
        ),
        ("heartbeat-batch", millis(config.heartbeat_batch)),
        ("close-wait", millis(config.close_wait)),
        (
            "max-connections",
            number(config.max_connections.unwrap_or(0)),
        ),
        ("node-lease", millis(config.node_lease)),
        ("node-renewal", millis(config.node_renewal)),
        ("sweep-interval", millis(config.sweep_interval)),
    ]
}
