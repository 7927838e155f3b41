//! Drains a node that is about to end: its clients move to other nodes, evenly over a time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{self, Instant};

use super::{hooks::SecondConnection, mailbox::Mail, node::Node, registry::ConnectionHandle};
use crate::{protocol::Dialect, reason::DisconnectReason};

/// The share of the time in which clients are told to move, in fifths. The rest is for the last of them to be
/// attached elsewhere.
const MOVING_FIFTHS: u32 = 4;
/// Longer ones are a mistake, and must not overflow a clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// Poll interval for the number of connections.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl Node {
    /// See [`Relay::drain`](super::Relay::drain).
    pub(super) async fn drain(self: &Arc<Self>, delay: Duration, over: Duration) {
        let over = over.min(LONGEST);
        self.draining.store(true, Ordering::SeqCst);
        tracing::info!(node = %self.id, ?delay, ?over, "draining: not ready from now on");
        time::sleep(delay).await;
        // Before the connections are counted: none is added after that.
        self.closed_to_new.store(true, Ordering::SeqCst);
        let start = Instant::now();
        let handles = self.registry.all();
        if over.is_zero() {
            return;
        }
        tracing::info!(node = %self.id, connections = handles.len(), "draining: moving connections");
        let moving = over / 5 * MOVING_FIFTHS;
        let count = u32::try_from(handles.len()).unwrap_or(u32::MAX).max(1);
        let at = |number: usize| moving.mul_f64(number as f64 / f64::from(count));
        // v1 clients wait by themselves. Where a second connection is refused, each is asked in its time: one that
        // is in no session cannot show that it is the same client, and has to be closed first.
        let all_wait = matches!(self.second_connection, SecondConnection::Replace);
        let waits = |handle: &ConnectionHandle| handle.dialect == Dialect::V1 && all_wait;
        for (number, handle) in handles.iter().enumerate().filter(|(_, handle)| waits(handle)) {
            handle.mailbox.push(Mail::Move { after: at(number), close_idle: false });
        }
        for (number, handle) in handles.iter().enumerate().filter(|(_, handle)| !waits(handle)) {
            if handle.mailbox.closing().is_some() {
                continue;
            }
            time::sleep_until(start + at(number)).await;
            match handle.dialect {
                Dialect::Base => handle.mailbox.close(DisconnectReason::ShuttingDown),
                Dialect::V1 => {
                    let after = Duration::ZERO;
                    handle.mailbox.push(Mail::Move { after, close_idle: true });
                }
            }
        }
        drop(handles);
        let deadline = start + over;
        while self.registry.len() > 0 && Instant::now() < deadline {
            time::sleep_until(deadline.min(Instant::now() + LOOK_INTERVAL)).await;
        }
    }
}
