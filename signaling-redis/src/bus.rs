//! [`RedisBus`]: one bounded stream for each node.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use fred::{error::Error, types::Value};
use futures::StreamExt;
use signaling_core::{
    bus::{BusError, Envelope, Inbox, MessageBus},
    id::NodeId,
};

use crate::{
    Shared,
    inbox::{self, Reader},
    link,
};

/// The most envelopes in one entry of a stream: what is published together costs Redis little more than
/// one alone, and an inbox that holds so many entries is still bounded.
const ENVELOPES_IN_ENTRY: usize = 16;

/// What an inbox holds, as its scripts count it: one number, so that publishing pays for one counter.
fn holding(entries: usize, bytes: usize) -> u64 {
    ((entries as u64) << 36).saturating_add(bytes as u64)
}

/// Carries envelopes between nodes through Redis Streams.
///
/// What was published waits in the stream of its node, also while that node's connection is away,
/// and is removed when it was read. A node that does not read fills its stream, which is bounded in
/// entries and in bytes; publishing then fails, and senders of signals get `unavailable`.
#[derive(Clone)]
pub struct RedisBus(pub(crate) Arc<Shared>);

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisBus").field(&self.0.settings).finish()
    }
}

fn failed(error: Error) -> BusError {
    if link::is_refusal(&error) {
        BusError::Refused(Box::new(error))
    } else {
        BusError::unavailable(error)
    }
}

#[async_trait]
impl MessageBus for RedisBus {
    async fn publish(&self, node: &NodeId, envelopes: &[Envelope]) -> Result<(), BusError> {
        let Shared { settings, link, scripts, keys, .. } = &*self.0;
        let entries = envelopes.chunks(ENVELOPES_IN_ENTRY).map(serde_json::to_string);
        let entries: Vec<_> = entries.collect::<Result<_, _>>().map_err(BusError::unavailable)?;
        let bytes = entries.iter().map(String::len).sum();
        let mut args: Vec<Value> = vec![
            holding(entries.len(), bytes).to_string().into(),
            settings.inbox_capacity.to_string().into(),
            settings.inbox_bytes.to_string().into(),
            inbox::LIFETIME.as_millis().to_string().into(),
        ];
        args.extend(entries.into_iter().map(Value::from));
        let keys = vec![keys.inbox(node), keys.inbox_holds(node)];
        let done = link.run(&scripts.publish, keys, args).await;
        match done.and_then(Value::convert).map_err(failed)? {
            1 => Ok(()),
            0 => Err(BusError::NoInbox(node.clone())),
            _ => Err(BusError::Full(node.clone())),
        }
    }

    async fn subscribe(&self, node: &NodeId) -> Result<Inbox, BusError> {
        let reader = Reader::open(self.0.clone(), node).await?;
        Ok(reader.into_stream().boxed())
    }
}
