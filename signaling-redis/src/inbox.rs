//! A node's inbox, read over a connection of its own: a blocking read would hold up everybody else.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use fred::{
    clients::{Client, WithOptions},
    error::{Error, ErrorKind},
    interfaces::{ClientLike, StreamsInterface},
    types::{
        Value,
        streams::{XCapKind, XCapTrim, XReadResponse},
    },
};
use futures::{Stream, stream};
use signaling_core::{
    bus::{BusError, Delivery, Envelope},
    id::NodeId,
    log::Throttle,
};
use tokio::time::{self, Instant};

use crate::{Shared, link::Link};

/// How long a read waits for something to come, and how often the inbox is looked after.
const BLOCK: Duration = Duration::from_secs(1);
/// The most entries in one read.
const BATCH: u64 = 128;
/// Entries read before they are removed, where the next look after the inbox is not soon enough.
const TRIM_AFTER: u64 = 2 * BATCH;
/// How long an inbox lives that its node does not look after: well beyond a node's lease.
const LIFETIME: Duration = Duration::from_secs(60);
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
    key: String,
    warnings: Throttle,
    /// The last entry that was read.
    last: EntryId,
    /// Entries that were read and not removed.
    untrimmed: u64,
    /// Which history of the data the server had when the inbox was last looked after.
    history: String,
    looked_after: Option<Instant>,
    pending: VecDeque<Delivery>,
}

impl Reader {
    pub(crate) async fn open(shared: Arc<Shared>, node: &NodeId) -> Result<Self, BusError> {
        let link = Link::connect_blocking(&shared.settings, BLOCK);
        let link = link.await.map_err(BusError::unavailable)?;
        let key = shared.keys.inbox(node);
        let opened = open(&shared, &key).await.map_err(BusError::unavailable)?;
        Ok(Self {
            last: opened.last,
            untrimmed: 0,
            history: opened.history,
            looked_after: Some(Instant::now()),
            pending: VecDeque::new(),
            shared,
            link,
            node: node.clone(),
            key,
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
                    tracing::warn!(node = %self.node, error, suppressed, "inbox not read; trying again");
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
        let opened = open(&self.shared, &self.key).await?;
        if !opened.was_there || opened.history != self.history || opened.last < self.last {
            tracing::warn!(node = %self.node, "the inbox was lost, or may lack entries");
            self.pending.push_back(Delivery::Gap);
        }
        if !opened.was_there || opened.last < self.last {
            (self.last, self.untrimmed) = (opened.last, 0);
        }
        self.history = opened.history;
        if self.untrimmed > 0 {
            self.trim().await?;
        }
        self.looked_after = Some(Instant::now());
        Ok(())
    }

    /// Removes what was read.
    async fn trim(&mut self) -> Result<(), Error> {
        let (key, last) = (&self.key, self.last.text());
        let trim = |client: WithOptions<Client>| {
            let cap = (XCapKind::MinID, XCapTrim::Exact, last.clone(), None);
            async move { client.xtrim::<u64, _, _>(key, cap).await }
        };
        self.shared.link.call(trim).await?;
        self.untrimmed = 0;
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Error> {
        let (key, last) = (self.key.clone(), self.last.text());
        let block = u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX);
        let client = self.link.once();
        let read: Value = client.xread(Some(BATCH), Some(block), key, last).await?;
        if read.is_null() {
            return Ok(());
        }
        let read: XReadResponse<String, String, String, Value> = read.into_xread_response()?;
        for (id, fields) in read.into_values().flatten() {
            let Some(id) = EntryId::parse(&id) else {
                return Err(Error::new(ErrorKind::Protocol, "an entry without an id"));
            };
            self.last = id;
            self.untrimmed += 1;
            self.pending.extend(deliveries(fields));
        }
        if self.untrimmed >= TRIM_AFTER { self.trim().await } else { Ok(()) }
    }
}

/// What an entry delivers. One that opened the inbox is read only where that was lost and the script
/// ran twice to open it again: then no answer said that it had not been there.
fn deliveries(mut fields: HashMap<String, Value>) -> Vec<Delivery> {
    if fields.contains_key("opened") {
        tracing::warn!("the inbox was lost");
        return vec![Delivery::Gap];
    }
    let text = fields.remove("envelopes").and_then(Value::into_string).unwrap_or_default();
    match serde_json::from_str::<Vec<Envelope>>(&text) {
        Ok(envelopes) => envelopes.into_iter().map(Delivery::Envelope).collect(),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "no envelopes of ours");
            vec![Delivery::Gap]
        }
    }
}

/// An inbox, as it was found.
struct Opened {
    was_there: bool,
    last: EntryId,
    history: String,
}

async fn open(shared: &Shared, key: &str) -> Result<Opened, Error> {
    let args = vec![LIFETIME.as_millis().to_string().into()];
    let done = shared.link.run(&shared.scripts.open_inbox, vec![key.to_owned()], args).await?;
    let (was_there, last, history): (u64, String, String) = done.convert()?;
    let last = EntryId::parse(&last);
    let last = last.ok_or_else(|| Error::new(ErrorKind::Protocol, "a stream without an end"))?;
    Ok(Opened { was_there: was_there == 1, last, history })
}
