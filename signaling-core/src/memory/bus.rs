//! Envelopes between the relays of one process.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::{
    bus::{BusError, Delivery, Envelope, Inbox, MessageBus},
    id::NodeId,
};

/// Carries envelopes between relays of one process. It loses none, and fails only if an inbox is full or
/// was not opened.
#[derive(Debug, Default)]
pub struct MemoryBus {
    inboxes: Arc<Mutex<HashMap<NodeId, mpsc::Sender<Envelope>>>>,
}

impl MemoryBus {
    /// How many envelopes an inbox holds.
    pub const INBOX_CAPACITY: usize = 16 * 1024;

    /// A bus without inboxes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn inboxes(&self) -> MutexGuard<'_, HashMap<NodeId, mpsc::Sender<Envelope>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MessageBus for MemoryBus {
    async fn publish(&self, node: &NodeId, envelopes: &[Envelope]) -> Result<(), BusError> {
        let mut inboxes = self.inboxes();
        let Entry::Occupied(inbox) = inboxes.entry(node.clone()) else {
            return Err(BusError::NoInbox(node.clone()));
        };
        for envelope in envelopes {
            match inbox.get().try_send(envelope.clone()) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    return Err(BusError::Full(node.clone()));
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    inbox.remove();
                    return Err(BusError::NoInbox(node.clone()));
                }
            }
        }
        Ok(())
    }

    async fn subscribe(&self, node: &NodeId) -> Result<Inbox, BusError> {
        let (sender, receiver) = mpsc::channel(Self::INBOX_CAPACITY);
        self.inboxes().insert(node.clone(), sender);
        let envelopes = stream::unfold(receiver, |mut receiver| async move {
            let envelope = receiver.recv().await?;
            Some((Delivery::Envelope(envelope), receiver))
        });
        Ok(envelopes.boxed())
    }
}
