//! A node's inbox, read over a connection of its own: a blocking read would hold up everybody else.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use fred::{
    bytes::Bytes,
    error::{Error, ErrorKind},
    interfaces::{ClientLike, StreamsInterface},
    types::{Value, streams::XReadResponse},
};
use futures::{Stream, stream};
use serde_json::value::RawValue;
use signaling_core::{
    bus::{BusError, Delivery, Envelope},
    id::NodeId,
    log::Throttle,
};
use tokio::time::{self, Instant};

use crate::{Shared, link::Link, read::Unreadable};

/// How long a read waits for something to come, and how often the inbox is looked after.
const BLOCK: Duration = Duration::from_secs(1);
/// The most entries in one read.
const BATCH: u64 = 128;
/// Entries read before they are removed, where the next look after the inbox is not soon enough.
const TRIM_AFTER: u64 = 2 * BATCH;
/// How long an inbox lives that its node does not look after: well beyond a node's lease.
pub(crate) const LIFETIME: Duration = Duration::from_secs(60);
/// How often a failed read is logged at most.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Between attempts to read.
const RETRY: Duration = Duration::from_millis(100);

/// An entry's place in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct EntryId(u64, u64);

impl EntryId {
    fn parse(text: &str) -> Option<Self> {
        let (millis, number) = text.split_once('-')?;
        Some(Self(millis.parse().ok()?, number.parse().ok()?))
    }

    fn text(self) -> String {
        format!("{}-{}", self.0, self.1)
    }
}

pub(crate) struct Reader {
    shared: Arc<Shared>,
    link: Link,
    node: NodeId,
    /// The inbox, and what it holds.
    keys: [String; 2],
    warnings: Throttle,
    /// The last entry that was read.
    last: EntryId,
    /// Entries that were read and not removed.
    untrimmed: u64,
    /// Their bytes.
    untrimmed_bytes: usize,
    /// A removal that may have been done: up to this entry, of so many bytes. It is repeated unchanged
    /// before any other, because the server counts the bytes of a removal once.
    trimming: Option<(EntryId, usize)>,
    /// Which history of the data the server had when the inbox was last looked after.
    history: String,
    looked_after: Option<Instant>,
    pending: VecDeque<Delivery>,
}

impl Reader {
    pub(crate) async fn open(shared: Arc<Shared>, node: &NodeId) -> Result<Self, BusError> {
        let link = Link::connect_blocking(&shared.settings, BLOCK);
        let link = link.await.map_err(BusError::unavailable)?;
        let keys = [shared.keys.inbox(node), shared.keys.inbox_holds(node)];
        let opened = open(&shared, &keys, None).await.map_err(BusError::unavailable)?;
        Ok(Self {
            last: opened.last,
            untrimmed: 0,
            untrimmed_bytes: 0,
            trimming: None,
            history: opened.history,
            looked_after: Some(Instant::now()),
            pending: VecDeque::new(),
            shared,
            link,
            node: node.clone(),
            keys,
            warnings: Throttle::new(1, WARNING_INTERVAL),
        })
    }

    pub(crate) fn into_stream(self) -> impl Stream<Item = Delivery> + Send + 'static {
        stream::unfold(self, |mut reader| async move {
            let delivery = reader.next().await;
            Some((delivery, reader))
        })
    }

    async fn next(&mut self) -> Delivery {
        loop {
            if let Some(delivery) = self.pending.pop_front() {
                return delivery;
            }
            if let Err(error) = self.try_fill().await {
                if let Some(suppressed) = self.warnings.pass("read") {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(node = %self.node, error, suppressed, "inbox read failed; retrying");
                }
                // A connection on which nothing comes may be one that nothing will ever come on.
                if *error.kind() == ErrorKind::Timeout {
                    let _ = self.link.client().force_reconnection().await;
                }
                self.looked_after = None;
                time::sleep(RETRY).await;
            }
        }
    }

    async fn try_fill(&mut self) -> Result<(), Error> {
        if self.looked_after.is_none_or(|at| at.elapsed() >= BLOCK) {
            self.look_after().await?;
        }
        if self.pending.is_empty() {
            self.read().await?;
        }
        Ok(())
    }

    /// Lets the inbox live on, removes what was read, and finds out whether anything was lost.
    async fn look_after(&mut self) -> Result<(), Error> {
        let all_removed = self.untrimmed == 0 && self.trimming.is_none();
        let opened = open(&self.shared, &self.keys, all_removed.then_some(self.last)).await?;
        if !opened.was_there || opened.history != self.history || opened.last < self.last {
            tracing::warn!(node = %self.node, "the inbox may lack entries; looking sessions up");
            gap(&mut self.pending);
        }
        if !opened.was_there || opened.last < self.last {
            (self.last, self.trimming) = (opened.last, None);
            (self.untrimmed, self.untrimmed_bytes) = (0, 0);
        }
        self.history = opened.history;
        self.trim().await?;
        self.looked_after = Some(Instant::now());
        Ok(())
    }

    /// Removes what was read.
    async fn trim(&mut self) -> Result<(), Error> {
        while self.trimming.is_some() || self.untrimmed > 0 {
            let (upto, bytes) = match self.trimming {
                Some(before) => before,
                None => {
                    self.untrimmed = 0;
                    (self.last, std::mem::take(&mut self.untrimmed_bytes))
                }
            };
            self.trimming = Some((upto, bytes));
            let lifetime = LIFETIME.as_millis().to_string();
            let args = vec![upto.text().into(), bytes.to_string().into(), lifetime.into()];
            let script = &self.shared.scripts.trim_inbox;
            self.shared.link.run(script, self.keys.to_vec(), args).await?;
            self.trimming = None;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Error> {
        let (key, last) = (self.keys[0].clone(), self.last.text());
        let block = u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX);
        let client = self.link.once();
        let read: Value = client.xread(Some(BATCH), Some(block), key, last).await?;
        if read.is_null() {
            return Ok(());
        }
        let read: XReadResponse<Bytes, String, Bytes, Bytes> = read.into_xread_response()?;
        for (id, fields) in read.into_values().flatten() {
            let Some(id) = EntryId::parse(&id) else {
                return Err(Error::new(ErrorKind::Protocol, "an entry without an id"));
            };
            self.last = id;
            self.untrimmed += 1;
            self.take(id, &fields);
        }
        if self.untrimmed >= TRIM_AFTER { self.trim().await } else { Ok(()) }
    }

    /// Takes what an entry delivers. One that opened the inbox is read only where that was lost and the
    /// script ran twice to open it again: then no answer said that it had not been there.
    fn take(&mut self, id: EntryId, fields: &HashMap<Bytes, Bytes>) {
        if fields.contains_key(&b"opened"[..]) {
            tracing::warn!("the inbox was lost");
            return gap(&mut self.pending);
        }
        let text = fields.get(&b"envelopes"[..]).map(|text| &text[..]).unwrap_or_default();
        self.untrimmed_bytes += text.len();
        if !deliver(text, &mut self.pending) {
            let item = id.text();
            self.shared.quarantine.report(&self.keys[0], Some(item.as_bytes()), &Unreadable);
        }
    }
}

/// Delivers the envelopes of an entry, each unreadable one as a gap. Returns false if there was one.
pub(crate) fn deliver(text: &[u8], pending: &mut VecDeque<Delivery>) -> bool {
    // As a text: of bytes, serde_json does not look at those of a field that it passes over.
    let text = std::str::from_utf8(text).unwrap_or_default();
    if let Ok(envelopes) = serde_json::from_str::<Vec<Envelope>>(text) {
        pending.extend(envelopes.into_iter().map(Delivery::Envelope));
        return true;
    }
    let each = serde_json::from_str::<Vec<&RawValue>>(text).unwrap_or_default();
    let mut each: Vec<_> =
        each.into_iter().map(|one| serde_json::from_str(one.get()).ok()).collect();
    if each.is_empty() {
        each.push(None);
    }
    for one in each {
        match one {
            Some(envelope) => pending.push_back(Delivery::Envelope(envelope)),
            None => gap(pending),
        }
    }
    false
}

/// A gap comes next. Each has the node look all its sessions up: one is enough for several in a row.
fn gap(pending: &mut VecDeque<Delivery>) {
    if pending.back() != Some(&Delivery::Gap) {
        pending.push_back(Delivery::Gap);
    }
}

/// An inbox, as it was found.
struct Opened {
    was_there: bool,
    last: EntryId,
    history: String,
}

/// Opens an inbox if it is not there. `removed` is the last entry that was read, if those before it were
/// removed: then the server can count anew what the inbox holds.
async fn open(
    shared: &Shared,
    keys: &[String; 2],
    removed: Option<EntryId>,
) -> Result<Opened, Error> {
    let removed = removed.map(EntryId::text).unwrap_or_default();
    let args = vec![LIFETIME.as_millis().to_string().into(), removed.into()];
    let done = shared.link.run(&shared.scripts.open_inbox, keys.to_vec(), args).await?;
    let (was_there, last, history): (u64, String, String) = done.convert()?;
    let last = EntryId::parse(&last);
    let last = last.ok_or_else(|| Error::new(ErrorKind::Protocol, "a stream without an end"))?;
    Ok(Opened { was_there: was_there == 1, last, history })
}
