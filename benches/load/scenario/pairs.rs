//! Pairs of clients that are connected, and know of each other.

use std::ops::Range;

use futures::future::try_join_all;

use super::{
    Done,
    signal::{Payload, signal},
};
use crate::{
    client::Client,
    contender::{Contender, Place, Side},
    deployment::Entry,
};

pub(super) type Pair = [Client; 2];

/// Pairs that connect at the same time.
const AT_ONCE: usize = 16;

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
    let mut pairs = Vec::with_capacity(rooms.len());
    for rooms in rooms.collect::<Vec<_>>().chunks(AT_ONCE) {
        let connecting = rooms.iter().map(|room| connect(contender, at, *room));
        pairs.extend(try_join_all(connecting).await?);
    }
    Ok(pairs)
}

/// The same, and each side has had a description: the way is open on both sides.
pub(super) async fn talking(
    contender: Contender,
    at: Entry,
    rooms: Range<usize>,
) -> Done<Vec<Pair>> {
    let mut pairs = connect_all(contender, at, rooms.clone()).await?;
    for (room, pair) in rooms.zip(&mut pairs) {
        // The first offer is the initiator's.
        for _ in 0..pair.len() {
            let [from, to] = &mut *pair;
            from.send(signal(room, Payload::Description, 0)).await?;
            to.receive().await?;
            pair.reverse();
        }
    }
    Ok(pairs)
}
