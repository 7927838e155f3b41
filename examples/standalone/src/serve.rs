//! Serves a router over HTTP/1.1 until told to stop. By hand on hyper, since `axum::serve` neither
//! limits how long a peer may take nor how long stopping may.

mod deadlines;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::Request};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::Notify,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use deadlines::Timeouts;

use crate::contain::contained;
use deadlines::{Deadlines, Progress};

/// The largest head of a request, and about the most that waits for a peer that does not read. The
/// largest token has 16 KiB, and cookies of the same length fit beside it.
const BUFFER_BYTES: usize = 32 * 1024;
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
    pub(crate) fn start(listener: TcpListener, router: Router, timeouts: Timeouts) -> Self {
        let server = Self {
            stopping: CancellationToken::new(),
            connections: TaskTracker::new(),
            requests: TaskTracker::new(),
        };
        let (stopping, connections) = (server.stopping.clone(), server.connections.clone());
        let scarce = Arc::new(Notify::new());
        let router = track(router, server.requests.clone());
        tokio::spawn(async move {
            let accept = || contained(accept(&listener, &scarce));
            while let Some(accepted) = stopping.run_until_cancelled(accept()).await {
                // None where it panicked.
                let Some((socket, peer)) = accepted else {
                    time::sleep(ACCEPT_RETRY).await;
                    continue;
                };
                let connection = Connection {
                    router: router.clone(),
                    peer: Peer(peer.ip()),
                    timeouts,
                    stopping: stopping.clone(),
                    scarce: scarce.clone(),
                };
                connections.spawn(connection.serve(socket));
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

/// The next connection. When no more can be had, those that are idle are asked to end by `scarce`.
async fn accept(listener: &TcpListener, scarce: &Notify) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client was faster in going than we in accepting.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot accept");
                scarce.notify_waiters();
                time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// The address that a request came from: of the client, or of a proxy in front of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

struct Connection {
    router: Router,
    peer: Peer,
    timeouts: Timeouts,
    stopping: CancellationToken,
    scarce: Arc<Notify>,
}

impl Connection {
    async fn serve(self, socket: TcpStream) {
        let Self { router, peer, timeouts, stopping, scarce } = self;
        // Without it each small exchange may wait for a delayed acknowledgement.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(error = &error as &dyn std::error::Error, "no TCP_NODELAY");
        }
        let progress = Progress::new();
        let socket = Deadlines::new(socket, timeouts, progress.clone());
        let router = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: Request<Incoming>| {
            progress.serving();
            request.extensions_mut().insert(peer);
            let (answering, progress) = (router.call(request), progress.clone());
            async move {
                let answer = answering.await;
                if let Ok(answer) = &answer {
                    progress.answered(answer.status());
                }
                answer
            }
        });
        let connection = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let told_to_end = async {
            select! {
                () = stopping.cancelled() => {}
                () = scarce.notified() => {}
            }
        };
        let ended = select! {
            ended = connection.as_mut() => ended,
            () = told_to_end => {
                // An idle one ends now, any other one after its response.
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = &error as &dyn std::error::Error, "connection failed");
        }
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
