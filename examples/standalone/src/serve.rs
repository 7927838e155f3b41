//! Serves a router over HTTP/1.1 until told to stop. By hand on hyper, since `axum::serve` neither
//! limits how long a request's head may take nor how long stopping may.

use std::{io, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A request's head that takes longer is cut off, and so is a connection that sends none.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the next try when no socket can be had, which is when all files are in use.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// For answers that are on their way when all requests are answered.
const FLUSH: Duration = Duration::from_millis(250);

/// A running HTTP server.
#[derive(Debug)]
pub(crate) struct Server {
    stopping: CancellationToken,
    /// The connections that are not upgraded.
    connections: TaskTracker,
    /// The requests that are being answered.
    requests: TaskTracker,
}

impl Server {
    /// Serves `router` on `listener`.
    pub(crate) fn start(listener: TcpListener, router: Router) -> Self {
        let server = Self {
            stopping: CancellationToken::new(),
            connections: TaskTracker::new(),
            requests: TaskTracker::new(),
        };
        let (stopping, connections) = (server.stopping.clone(), server.connections.clone());
        let router = track(router, server.requests.clone());
        tokio::spawn(async move {
            while let Some(socket) = stopping.run_until_cancelled(accept(&listener)).await {
                connections.spawn(connection(socket, router.clone(), stopping.clone()));
            }
        });
        server
    }

    /// Takes no more connections and waits until the requests of those that are there are answered,
    /// or it is `deadline`. Who has sent half a request is not waited for.
    pub(crate) async fn stop(self, deadline: Instant) {
        self.stopping.cancel();
        self.requests.close();
        let answered = time::timeout_at(deadline, self.requests.wait()).await;
        if answered.is_err() {
            tracing::warn!(requests = self.requests.len(), "requests were not answered in time");
        }
        self.connections.close();
        let flushed = deadline.min(Instant::now() + FLUSH);
        if time::timeout_at(flushed, self.connections.wait()).await.is_err() {
            tracing::debug!(connections = self.connections.len(), "connections were cut off");
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return socket,
            // The client was faster in going than we in accepting.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot accept");
                time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, router: Router, stopping: CancellationToken) {
    // Without it each small exchange may wait for a delayed acknowledgement.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(error = &error as &dyn std::error::Error, "no TCP_NODELAY");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection failed");
    }
}

/// Counts the requests that are being answered.
fn track(router: Router, requests: TaskTracker) -> Router {
    router.layer(axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
        let running = requests.token();
        async move {
            let response = next.run(request).await;
            drop(running);
            response
        }
    }))
}
