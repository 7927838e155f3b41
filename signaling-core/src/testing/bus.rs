//! What every [`MessageBus`] must do.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time;

use crate::{
    bus::{Delivery, Envelope, Inbox, MessageBus},
    id::{ConnectionId, NodeId},
    notice::Notice,
    session::SessionRecord,
};

/// Runs every case, each on nodes of its own, against buses from `make`, which may all be the same.
///
/// # Panics
///
/// In the case that does not hold.
pub async fn suite<B: MessageBus>(make: impl AsyncFn() -> B) {
    envelopes_come_out_in_order(&make().await).await;
    each_node_has_its_own_inbox(&make().await).await;
    a_burst_is_not_lost(&make().await).await;
    publishing_to_nobody_fails(&make().await).await;
    a_full_inbox_fails_or_shows_a_gap(&make().await).await;
}

fn node() -> NodeId {
    NodeId::generate(Some("bus-suite")).expect("randomness")
}

/// An envelope for a connection of `node`; another one for each `number`.
#[must_use]
pub fn envelope(node: &NodeId, number: u64) -> Envelope {
    Envelope::notice(&ConnectionId::new(node.clone(), number), Notice::Replaced)
}

/// What tells `connection` that a session is as in `record` now.
#[doc(hidden)]
#[must_use]
pub fn changed(connection: &ConnectionId, record: SessionRecord) -> Envelope {
    Envelope::notice(connection, Notice::Changed(Arc::new(record)))
}

async fn next(inbox: &mut Inbox) -> Delivery {
    time::timeout(Duration::from_secs(10), inbox.next())
        .await
        .expect("a delivery in time")
        .expect("an open inbox")
}

async fn open(bus: &dyn MessageBus) -> (NodeId, Inbox) {
    let node = node();
    let inbox = bus.subscribe(&node).await.expect("an inbox");
    (node, inbox)
}

async fn envelopes_come_out_in_order(bus: &dyn MessageBus) {
    let (node, mut inbox) = open(bus).await;
    let envelopes: Vec<_> = (0..30).map(|n| envelope(&node, n)).collect();
    for batch in envelopes.chunks(7) {
        bus.publish(&node, batch).await.expect("published");
    }
    for envelope in envelopes {
        assert_eq!(next(&mut inbox).await, Delivery::Envelope(envelope), "out of order");
    }
}

async fn each_node_has_its_own_inbox(bus: &dyn MessageBus) {
    let (a, mut inbox_a) = open(bus).await;
    let (b, mut inbox_b) = open(bus).await;
    bus.publish(&a, &[envelope(&a, 1)]).await.expect("published");
    bus.publish(&b, &[envelope(&b, 2)]).await.expect("published");
    assert_eq!(next(&mut inbox_a).await, Delivery::Envelope(envelope(&a, 1)));
    assert_eq!(next(&mut inbox_b).await, Delivery::Envelope(envelope(&b, 2)));
}

async fn a_burst_is_not_lost(bus: &dyn MessageBus) {
    let (node, mut inbox) = open(bus).await;
    for n in 0..2_000 {
        bus.publish(&node, &[envelope(&node, n)]).await.expect("published");
    }
    for n in 0..2_000 {
        assert_eq!(next(&mut inbox).await, Delivery::Envelope(envelope(&node, n)), "lost");
    }
}

async fn publishing_to_nobody_fails(bus: &dyn MessageBus) {
    let node = node();
    assert!(bus.publish(&node, &[envelope(&node, 1)]).await.is_err(), "nobody was there");
}

async fn a_full_inbox_fails_or_shows_a_gap(bus: &dyn MessageBus) {
    let (node, mut inbox) = open(bus).await;
    let mut published = 0;
    let limit = 1_000_000;
    while published < limit {
        let batch: Vec<_> = (published..published + 500).map(|n| envelope(&node, n)).collect();
        if bus.publish(&node, &batch).await.is_err() {
            break;
        }
        published += 500;
    }
    let mut expected = 0;
    while expected < published {
        match next(&mut inbox).await {
            Delivery::Envelope(delivered) if delivered == envelope(&node, expected) => {
                expected += 1;
            }
            Delivery::Envelope(other) => panic!("{other:?} came instead of number {expected}"),
            Delivery::Gap => return,
        }
    }
    assert!(published < limit, "an inbox without bound");
}
