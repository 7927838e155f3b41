//! What is between one node and Redis, and can be cut, swallow everything, or delay the answers.

use std::{collections::VecDeque, future, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{self, Instant},
};

/// How a [`Proxy`] treats what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Nothing gets through, and nobody is told.
    Swallow,
    /// Connections are closed, and new ones too.
    Cut,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    mode: Arc<watch::Sender<Mode>>,
    delay: Arc<watch::Sender<Duration>>,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            mode: Arc::new(watch::Sender::new(Mode::Pass)),
            delay: Arc::new(watch::Sender::new(Duration::ZERO)),
        };
        let (mode, delay) = (proxy.mode.clone(), proxy.delay.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, mode.subscribe(), delay.subscribe()));
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// From now on, every answer takes this much longer. Answers do not wait for each other, so what was
    /// asked together is answered together.
    pub(crate) fn delay(&self, delay: Duration) {
        self.delay.send_replace(delay);
    }
}

async fn carry(
    client: TcpStream,
    port: u16,
    mut mode: watch::Receiver<Mode>,
    delay: watch::Receiver<Duration>,
) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    // Or it delays what both ends write at once.
    for socket in [&client, &server] {
        let _ = socket.set_nodelay(true);
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut answers: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut one, mut other) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Pass => {}
            // Not even a close gets through while everything is swallowed.
            Mode::Swallow => {
                let _ = mode.changed().await;
                continue;
            }
            Mode::Cut => break,
        }
        let done = tokio::select! {
            biased;
            _ = mode.changed() => continue,
            read = from_client.read(&mut one) => match read {
                Ok(n) if n > 0 => to_server.write_all(&one[..n]).await,
                _ => break,
            },
            read = from_server.read(&mut other) => match read {
                Ok(n) if n > 0 => {
                    answers.push_back((Instant::now() + *delay.borrow(), other[..n].to_vec()));
                    Ok(())
                }
                _ => break,
            },
            () = next(&answers) => match answers.pop_front() {
                Some((_, answer)) => to_client.write_all(&answer).await,
                None => Ok(()),
            },
        };
        if done.is_err() {
            break;
        }
    }
}

/// Until the next answer is due.
async fn next(answers: &VecDeque<(Instant, Vec<u8>)>) {
    match answers.front() {
        Some((due, _)) => time::sleep_until(*due).await,
        None => future::pending().await,
    }
}
