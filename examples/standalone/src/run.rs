//! From the start of the server to its end.

use std::{error::Error, io, net::SocketAddr, process, time::Duration};

use signaling_core::{
    Relay,
    relay::{Shutdown, StartError},
};
use signaling_redis::{ConnectError, Redis};
use tokio::{net::TcpListener, runtime, time::Instant};

use tokio_util::task::AbortOnDropHandle;

use crate::{
    app, output,
    serve::Server,
    settings::{Settings, SettingsError},
};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The settings do not do, or ask for something else than a server.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Another program listens there, or it is no address of this machine.
    #[error("cannot listen on {0}")]
    Listen(String, #[source] io::Error),
    /// Redis is not there, or does not let this node in.
    #[error("cannot start without Redis")]
    Redis(#[from] ConnectError),
    /// The relay did not start.
    #[error("cannot start")]
    Relay(#[from] StartError),
    /// The operating system gave no threads, or no signals.
    #[error("cannot start")]
    System(#[from] io::Error),
}

impl RunError {
    /// It and its causes, in one line.
    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            line = format!("{line}: {error}");
            cause = error.source();
        }
        line
    }
}

/// How many tasks a worker runs before it looks at the queue that all share, and at the sockets. With
/// hundreds of busy pairs on one worker, by tokio's defaults the slowest hundredth of messages waits
/// three times as long as with these.
const GLOBAL_QUEUE_INTERVAL: u32 = 4;
const EVENT_INTERVAL: u32 = 31;

/// Serves until a signal says to end, and ends well.
pub(crate) fn run(settings: Settings) -> Result<(), RunError> {
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
        .event_interval(EVENT_INTERVAL)
        .build()?;
    let outcome = runtime.block_on(serve(settings));
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: Settings) -> Result<(), RunError> {
    let Settings {
        listen,
        authenticator,
        config,
        redis,
        ice_servers,
        node_name,
        second_connection,
        drain_delay,
        drain_timeout,
        http_timeouts,
        key_files,
        made_api_key,
        app,
    } = settings;
    // Before anybody can know that the server runs, and tell it to end.
    let mut signals = Signals::new()?;
    let _reloading = AbortOnDropHandle::new(tokio::spawn(key_files.reload_on_hangup()?));
    let mut builder =
        Relay::builder(authenticator).config(config).second_connection(second_connection);
    if let Some(name) = node_name {
        builder = builder.node_name(name);
    }
    if let Some(provider) = ice_servers {
        builder = builder.ice_servers(provider);
    }
    let redis = match redis {
        Some(settings) => Some(Redis::connect(settings).await?),
        None => None,
    };
    if let Some(redis) = &redis {
        builder = builder.store(redis.store()).bus(redis.bus());
    }
    let relay = builder.start().await?;
    let failed = |error| {
        let addresses: Vec<_> = listen.iter().map(SocketAddr::to_string).collect();
        RunError::Listen(addresses.join(" or "), error)
    };
    let listener = TcpListener::bind(listen.as_slice()).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let router = app::router(&relay, redis.as_ref(), &app);
    let server = Server::start(listener, router, http_timeouts);
    if app.demo.is_some() {
        tracing::warn!("development mode: anybody on this machine can be anybody here");
    }
    if let Some(key) = made_api_key {
        let line = format!("signaling-server: HTTP API key of this run: {}", key.text());
        output::say(io::stderr(), line);
    }
    tracing::info!(%address, "listening");
    announce(address, app.demo.is_some());

    signals.next().await;
    tokio::spawn(async move {
        signals.next().await;
        process::exit(1);
    });
    // The server answers meanwhile: that this node is not ready, and whoever comes all the same.
    let over = match redis {
        Some(_) => drain_timeout / 3 * 2,
        // There is no other node.
        None => Duration::ZERO,
    };
    let deadline = Instant::now() + drain_delay + drain_timeout;
    relay.drain(drain_delay, over).await;
    if relay.shutdown(deadline.saturating_duration_since(Instant::now())).await
        == Shutdown::TimedOut
    {
        tracing::warn!(connections = relay.connections(), "not all connections ended in time");
    }
    server.stop(deadline).await;
    tracing::info!("ended");
    Ok(())
}

/// One line, for people and for scripts that look for the port.
fn announce(address: SocketAddr, demo: bool) {
    let line = match demo {
        true => format!("signaling-server: open the demonstration at http://{address}"),
        false => format!("signaling-server listening on http://{address}"),
    };
    output::say(io::stdout(), line);
}

/// The signals that tell a server to end.
#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => tracing::info!("told to end by SIGTERM"),
            _ = self.1.recv() => tracing::info!("told to end by SIGINT"),
        }
    }
}

/// The signals that tell a server to end.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        tracing::info!("told to end");
    }
}
