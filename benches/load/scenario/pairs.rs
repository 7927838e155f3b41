//! Pairs of clients that are connected, and know of each other.

use std::ops::Range;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::Done;
use crate::{
    client::{Client, Payload},
    contender::{Contender, Place, Side},
    deployment::Entry,
};

pub(super) type Pair = [Client; 2];

/// Pairs that connect at the same time: so many that the server is busy, and fit into the smallest backlog.
const AT_ONCE: usize = 128;

/// Connects one after the other, and waits until both are told that they are matched.
pub(super) async fn connect(contender: Contender, at: Entry, room: usize) -> Done<Pair> {
    let place = |side| Place { room, side };
    let mut a = Client::connect(contender, at.of(Side::A), place(Side::A)).await?;
    let mut b = Client::connect(contender, at.of(Side::B), place(Side::B)).await?;
    a.expect_match().await?;
    b.expect_match().await?;
    Ok([a, b])
}

pub(super) async fn connect_all(
    contender: Contender,
    at: Entry,
    rooms: Range<usize>,
) -> Done<Vec<Pair>> {
    let connecting = rooms.map(|room| connect(contender, at, room));
    stream::iter(connecting).buffered(AT_ONCE).try_collect().await
}

/// The same, and each side has had a description: the way is open on both sides.
pub(super) async fn talking(
    contender: Contender,
    at: Entry,
    rooms: Range<usize>,
) -> Done<Vec<Pair>> {
    let mut pairs = connect_all(contender, at, rooms).await?;
    for pair in &mut pairs {
        // The first offer is the initiator's.
        for _ in 0..pair.len() {
            let [from, to] = &mut *pair;
            let description = from.prepare(Payload::Description)?;
            from.send(&description, 0).await?;
            to.receive().await?;
            pair.reverse();
        }
    }
    Ok(pairs)
}
