//! Many connections, nobody talking.

use std::{error::Error, time::Duration};

use futures::future::try_join_all;
use tokio::time;

use super::now;
use crate::{
    client::Client,
    contender::{Contender, Place, Side},
    figures::Figures,
    server::Server,
};

type Done<T> = Result<T, Box<dyn Error>>;

/// Pairs that connect at the same time.
const AT_ONCE: usize = 16;
/// Pairs before the count: what the first ones need is needed once.
const FIRST: usize = 100;
/// What a server may take to let go of what it needed for connecting.
const SETTLE: Duration = Duration::from_secs(2);

/// Connects all pairs: what that cost, and what memory each connection then has.
pub(super) async fn idle(contender: Contender, server: &Server, pairs: usize) -> Done<Figures> {
    let first = connect(contender, server, 0..FIRST).await?;
    let (began, cpu, memory) = (now(), server.cpu()?, server.resident()?);
    let clients = connect(contender, server, FIRST..FIRST + pairs).await?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu()? - cpu);
    time::sleep(SETTLE).await;
    let (count, resident_kib) = (2 * clients.len(), server.resident()?);
    drop((first, clients));
    Ok(Figures {
        count: count as u64,
        rate: count as f64 / seconds,
        cpu_us: cpu * 1e6 / count as f64,
        resident_kib,
        kib_each: Some(resident_kib.saturating_sub(memory) as f64 / count as f64),
        ..Figures::default()
    })
}

async fn connect(
    contender: Contender,
    server: &Server,
    rooms: std::ops::Range<usize>,
) -> Done<Vec<[Client; 2]>> {
    let pair = async |room| {
        let place = |side| Place { room, side };
        let mut a = Client::connect(contender, server.address, place(Side::A)).await?;
        let mut b = Client::connect(contender, server.address, place(Side::B)).await?;
        a.expect_match().await?;
        b.expect_match().await?;
        Done::Ok([a, b])
    };
    let mut clients = Vec::with_capacity(rooms.len());
    for rooms in rooms.collect::<Vec<_>>().chunks(AT_ONCE) {
        clients.extend(try_join_all(rooms.iter().map(|room| pair(*room))).await?);
    }
    Ok(clients)
}
