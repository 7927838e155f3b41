//! The connection to Redis: made within a time limit, remade without end, and never waited for longer
//! than the command timeout.

use std::{future::Future, time::Duration};

use fred::{
    clients::{Client, WithOptions},
    error::{Error, ErrorKind},
    interfaces::{ClientLike, LuaInterface},
    types::{
        Builder, ConnectHandle, InfoKind, Key, Value,
        config::{Options, ReconnectError, ReconnectPolicy, Server, UnresponsiveConfig},
    },
};
use signaling_core::log::Throttle;
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

use crate::{error::ConnectError, script::Script, settings::Settings};

/// Between attempts to reach a server that is away, in ms. Coming back is noticed that late.
const RECONNECT_MS: u32 = 200;
/// Between attempts of one call.
const RETRY: Duration = Duration::from_millis(50);
/// Before the client's own task is started again.
const RESTART: Duration = Duration::from_millis(200);
/// How often that is logged at most.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Between attempts at the start.
const CONNECT_RETRY: Duration = Duration::from_millis(250);
/// Commands that wait in the client; more fail at once.
const MAX_QUEUED: usize = 64 * 1024;
/// How often a Cluster may send a command elsewhere.
const MAX_REDIRECTIONS: u32 = 4;
/// The oldest version that has all that the scripts use.
const OLDEST: (u32, u32) = (6, 2);

/// One client and its connections.
#[derive(Debug)]
pub(crate) struct Link {
    client: Client,
    options: Options,
    timeout: Duration,
    keeper: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// The task in which the client makes its connections and uses them; it ends with this.
struct Connections(ConnectHandle);

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts that task again whenever it ends: after a panic, or an error that the client does not connect
/// again for. Without it every command fails.
async fn keep(client: Client, mut connections: Connections) {
    let warnings = Throttle::new(1, WARNING_INTERVAL);
    loop {
        let ended = (&mut connections.0).await;
        if let Some(suppressed) = warnings.pass("ended") {
            let error = match &ended {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error as &(dyn std::error::Error + 'static)),
                Err(error) => Some(error as _),
            };
            tracing::error!(
                error,
                suppressed,
                "the task of a connection to Redis ended; starting it again"
            );
        }
        time::sleep(RESTART).await;
        connections = Connections(client.connect());
    }
}

impl Link {
    /// Connects for short commands.
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, ConnectError> {
        let link = Self::init(settings, settings.command_timeout).await?;
        link.check_version(settings).await?;
        Ok(link)
    }

    /// Connects for commands that may block the connection for up to `block`.
    pub(crate) async fn connect_blocking(
        settings: &Settings,
        block: Duration,
    ) -> Result<Self, ConnectError> {
        Self::init(settings, settings.command_timeout + block).await
    }

    async fn init(settings: &Settings, timeout: Duration) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + settings.connect_timeout;
        let unreachable = |cause| ConnectError::Unreachable {
            at: settings.address(),
            within: settings.connect_timeout,
            cause,
        };
        let mut last = Error::new(ErrorKind::Timeout, "no answer");
        while Instant::now() < deadline {
            let client = client(settings, timeout).map_err(unreachable)?;
            match time::timeout_at(deadline, client.init()).await {
                Ok(Ok(connections)) => {
                    // With `fail_fast`, a command whose connection is lost is not sent again; the
                    // attempts are for those that a Cluster sends elsewhere.
                    let options = Options {
                        max_attempts: Some(MAX_REDIRECTIONS + 1),
                        timeout: Some(timeout),
                        fail_fast: true,
                        ..Options::default()
                    };
                    let keeper = tokio::spawn(keep(client.clone(), Connections(connections)));
                    return Ok(Self { client, options, timeout, keeper });
                }
                Ok(Err(cause)) if refuses(&cause) => {
                    return Err(ConnectError::Refused { at: settings.address(), cause });
                }
                Ok(Err(cause)) => last = cause,
                Err(_) => break,
            }
            time::sleep_until(deadline.min(Instant::now() + CONNECT_RETRY)).await;
        }
        Err(unreachable(last))
    }

    async fn check_version(&self, settings: &Settings) -> Result<(), ConnectError> {
        let info: String = self
            .call(|client| async move { client.info(Some(InfoKind::Server)).await })
            .await
            .map_err(|cause| match refuses(&cause) {
                true => ConnectError::Refused { at: settings.address(), cause },
                false => ConnectError::Unreachable {
                    at: settings.address(),
                    within: self.timeout,
                    cause,
                },
            })?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        let version = version.unwrap_or_default().trim();
        let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
        let known = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if known >= OLDEST {
            return Ok(());
        }
        Err(ConnectError::TooOld { at: settings.address(), version: version.to_owned() })
    }

    /// The client, for what goes beyond [`Self::call`].
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The client for one attempt that fails where there is no connection.
    pub(crate) fn once(&self) -> WithOptions<Client> {
        self.at(None)
    }

    fn at(&self, server: Option<&Server>) -> WithOptions<Client> {
        let cluster_node = server.cloned();
        self.client.with_options(&Options { cluster_node, ..self.options.clone() })
    }

    /// Makes a call that may be made twice, again and again while the connection is lost, within the
    /// command timeout.
    pub(crate) async fn call<T, F>(
        &self,
        command: impl Fn(WithOptions<Client>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.call_at(None, command).await
    }

    /// The same to one server of a Cluster.
    pub(crate) async fn call_at<T, F>(
        &self,
        server: Option<&Server>,
        command: impl Fn(WithOptions<Client>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + self.timeout;
        loop {
            let attempt = command(self.at(server));
            let error = match time::timeout_at(deadline, attempt).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, "Redis did not answer in time"),
            };
            let again = Instant::now() + RETRY;
            if !passes(&error) || again >= deadline {
                return Err(error);
            }
            time::sleep_until(again).await;
        }
    }

    /// Runs a script.
    pub(crate) async fn run(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, Error> {
        let keys: Vec<Key> = keys.into_iter().map(Key::from).collect();
        self.call(|client| {
            let (keys, args) = (keys.clone(), args.clone());
            async move {
                match client.evalsha(&script.hash, keys.clone(), args.clone()).await {
                    // A server that was restarted has forgotten it; this teaches it again.
                    Err(error) if error.details().starts_with("NOSCRIPT") => {
                        client.eval(script.source, keys, args).await
                    }
                    done => done,
                }
            }
        })
        .await
    }
}

fn client(settings: &Settings, timeout: Duration) -> Result<Client, Error> {
    Builder::from_config(settings.config.clone())
        .with_performance_config(|performance| {
            performance.default_command_timeout = timeout;
        })
        .with_connection_config(|connection| {
            connection.connection_timeout = settings.command_timeout;
            connection.internal_command_timeout = settings.command_timeout;
            connection.max_command_attempts = MAX_REDIRECTIONS + 1;
            connection.max_redirections = MAX_REDIRECTIONS;
            connection.max_command_buffer_len = MAX_QUEUED;
            connection.reconnect_on_auth_error = true;
            connection.tcp.nodelay = Some(true);
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(timeout), interval: timeout / 4 };
            connection.reconnect_errors = vec![
                ReconnectError::ClusterDown,
                ReconnectError::Loading,
                ReconnectError::MasterDown,
                ReconnectError::ReadOnly,
            ];
        })
        .set_policy(ReconnectPolicy::new_constant(0, RECONNECT_MS))
        .build()
}

/// Whether the server does not accept who we are; trying again would not help.
fn refuses(error: &Error) -> bool {
    let said = ["WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "ERR invalid password"];
    *error.kind() == ErrorKind::Auth || said.iter().any(|said| error.details().starts_with(said))
}

/// Whether the server answered that it does not write, or does not let us. A script's error has the
/// command's own somewhere in its text.
pub(crate) fn is_refusal(error: &Error) -> bool {
    let said = [
        "OOM",
        "READONLY",
        "MISCONF",
        "NOREPLICAS",
        "NOPERM",
        "LOADING",
        "MASTERDOWN",
        "CLUSTERDOWN",
    ];
    let mut words = error.details().split_whitespace();
    // What an ACL forbids a script has no code.
    error.details().contains("The user executing the script")
        || words.any(|word| said.contains(&word.trim_start_matches('-')))
}

/// Whether a key is of another type than the command needs.
pub(crate) fn is_wrong_type(error: &Error) -> bool {
    // Older servers put it into an error of the script.
    error.details().contains("WRONGTYPE")
}

/// Whether the error passes with the connection that it comes from, or with a failover.
fn passes(error: &Error) -> bool {
    use ErrorKind::{Canceled, Cluster, IO, Protocol, Routing, Sentinel, Timeout};
    let said = ["LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN", "BUSY"];
    matches!(error.kind(), Canceled | Cluster | IO | Protocol | Routing | Sentinel | Timeout)
        || said.iter().any(|said| error.details().starts_with(said))
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;
    use crate::testing::Server;

    async fn ping(link: &Link) -> Result<String, Error> {
        link.call(|client| async move { client.ping(None).await }).await
    }

    #[tokio::test]
    async fn the_clients_own_task_is_started_again_when_it_ends() {
        let redis = Server::start();
        let link = Link::connect(&Settings::url(&redis.url()).unwrap()).await.unwrap();
        for _ in 0..3 {
            assert_eq!(ping(&link).await.unwrap(), "PONG");
            let _ = link.client().quit().await;
            let deadline = Instant::now() + Duration::from_secs(10);
            while let Err(error) = ping(&link).await {
                assert!(Instant::now() < deadline, "{error}");
            }
        }
    }
}
