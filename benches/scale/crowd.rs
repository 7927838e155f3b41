//! All clients, each of them as little as a client can be: what it has to say next, and whom to wake
//! for it. It lives in its own transport, so there is no task and no queue for it.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{Sink, Stream};
use signaling_core::{
    frame::{Frame, Text, TransportError},
    reason::DisconnectReason,
};
use tokio::time::Instant;

pub(crate) struct Crowd {
    clients: Box<[Mutex<Client>]>,
    heartbeat: Text,
    pub(crate) heard: Heard,
    /// Those that have fallen silent, by number.
    stopped: Mutex<BTreeMap<usize, Stopped>>,
}

/// What the relay has said to all of them.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) matches: AtomicU64,
    pub(crate) acks: AtomicU64,
    pub(crate) pings: AtomicU64,
    /// What no client should have been told.
    pub(crate) other: AtomicU64,
}

#[derive(Default)]
struct Client {
    relay: Option<Waker>,
    beat: bool,
    pong: bool,
    silence: Silence,
}

/// What a client does no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Silence {
    #[default]
    None,
    /// It sends no heartbeats, and answers pings.
    Heartbeats,
    /// It sends nothing.
    All,
}

/// A client that has fallen silent, and what became of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopped {
    pub(crate) silence: Silence,
    /// When it was heard last.
    last: Instant,
    /// How long after that its partner was told.
    pub(crate) told_after: Option<Duration>,
    /// Why the relay gave it up.
    pub(crate) reason: Option<DisconnectReason>,
}

/// A client's transport; the relay's end.
pub(crate) struct Transport {
    crowd: Arc<Crowd>,
    number: usize,
}

impl Crowd {
    pub(crate) fn new(users: usize) -> Arc<Self> {
        Arc::new(Self {
            clients: (0..users).map(|_| Mutex::default()).collect(),
            heartbeat: r#"{"type":"heartbeat","id":1}"#.into(),
            heard: Heard::default(),
            stopped: Mutex::default(),
        })
    }

    pub(crate) fn transport(self: &Arc<Self>, number: usize) -> Transport {
        Transport { crowd: self.clone(), number }
    }

    fn client(&self, number: usize) -> MutexGuard<'_, Client> {
        self.clients[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stopped(&self) -> MutexGuard<'_, BTreeMap<usize, Stopped>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is time for a client's heartbeat.
    pub(crate) fn beat(&self, number: usize) {
        let mut client = self.client(number);
        if client.silence == Silence::None {
            client.beat = true;
            client.wake();
        }
    }

    /// A client sends its last heartbeat, and then does less than it should.
    pub(crate) fn stop(&self, number: usize, silence: Silence) {
        self.beat(number);
        self.client(number).silence = silence;
        let last = Instant::now();
        let stopped = Stopped { silence, last, told_after: None, reason: None };
        self.stopped().insert(number, stopped);
    }

    /// The partner of a client has been told that it is gone.
    fn partner_told(&self, number: usize) {
        match self.stopped().get_mut(&number) {
            Some(stopped) if stopped.told_after.is_none() => {
                stopped.told_after = Some(stopped.last.elapsed());
            }
            _ => drop(self.heard.other.fetch_add(1, Relaxed)),
        }
    }

    /// The relay is done with a client.
    pub(crate) fn ended(&self, number: usize, reason: DisconnectReason) {
        match self.stopped().get_mut(&number) {
            Some(stopped) => stopped.reason = Some(reason),
            None => drop(self.heard.other.fetch_add(1, Relaxed)),
        }
    }
}

impl Client {
    fn wake(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.wake();
        }
    }
}

impl Stream for Transport {
    type Item = Result<Frame, TransportError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut client = self.crowd.client(self.number);
        if std::mem::take(&mut client.beat) {
            return Poll::Ready(Some(Ok(Frame::Text(self.crowd.heartbeat.clone()))));
        }
        if std::mem::take(&mut client.pong) {
            return Poll::Ready(Some(Ok(Frame::Pong(Default::default()))));
        }
        client.relay = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Sink<Frame> for Transport {
    type Error = TransportError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), TransportError> {
        let (crowd, heard) = (&self.crowd, &self.crowd.heard);
        match frame {
            Frame::Text(text) if text.starts_with(r#"{"type":"heartbeat-ack""#) => {
                heard.acks.fetch_add(1, Relaxed);
            }
            Frame::Text(text) if text.starts_with(r#"{"type":"match-found""#) => {
                heard.matches.fetch_add(1, Relaxed);
            }
            Frame::Text(text) if text.starts_with(r#"{"type":"partner-disconnected""#) => {
                // Pairs are of an even number and the next.
                crowd.partner_told(self.number ^ 1);
            }
            Frame::Ping(_) => {
                heard.pings.fetch_add(1, Relaxed);
                let mut client = crowd.client(self.number);
                if client.silence != Silence::All {
                    client.pong = true;
                    client.wake();
                }
            }
            Frame::Close(_) => {}
            _ => drop(heard.other.fetch_add(1, Relaxed)),
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }
}
