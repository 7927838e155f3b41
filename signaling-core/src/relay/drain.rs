//! Moves the connections of a node that is about to end to other nodes, evenly over a time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{self, Instant};

use super::{mailbox::Mail, node::Node};
use crate::{protocol::Dialect, reason::DisconnectReason};

/// The share of the time in which clients are told to move, in fifths. The rest is for the last of them to be
/// attached elsewhere.
const MOVING_FIFTHS: u32 = 4;
/// Between looks whether all connections have gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl Node {
    /// See [`Relay::drain`](super::Relay::drain).
    pub(super) async fn drain(self: &Arc<Self>, delay: Duration, over: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        tracing::info!(node = %self.id, ?delay, ?over, "draining: not ready from now on");
        time::sleep(delay).await;
        // Before the connections are counted: none is added after that.
        self.closed_to_new.store(true, Ordering::SeqCst);
        let start = Instant::now();
        let handles = self.registry.all();
        tracing::info!(node = %self.id, connections = handles.len(), "draining: moving connections");
        let moving = over / 5 * MOVING_FIFTHS;
        let count = u32::try_from(handles.len()).unwrap_or(u32::MAX).max(1);
        let at = |number: usize| moving.mul_f64(number as f64 / f64::from(count));
        // These know by themselves when it is their turn.
        for (number, handle) in handles.iter().enumerate() {
            if handle.dialect == Dialect::V1 {
                handle.mailbox.push(Mail::Move { after: at(number) });
            }
        }
        for (number, handle) in handles.iter().enumerate() {
            if handle.dialect == Dialect::Base {
                time::sleep_until(start + at(number)).await;
                handle.mailbox.close(DisconnectReason::ShuttingDown);
            }
        }
        drop(handles);
        let deadline = start + over;
        while self.registry.len() > 0 && Instant::now() < deadline {
            time::sleep_until(deadline.min(Instant::now() + LOOK_INTERVAL)).await;
        }
    }
}
