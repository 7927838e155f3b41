//! Many connections, nobody talking.

use std::{error::Error, time::Duration};

use tokio::time;

use super::now;
use crate::{
    client::Client,
    contender::{Contender, Place, Side},
    figures::Figures,
    server::Server,
};

/// Connections that are made at the same time.
const AT_ONCE: usize = 32;
/// What a server may take to let go of what it needed for connecting.
const SETTLE: Duration = Duration::from_secs(2);

/// Connects all pairs: what that cost, and what memory each connection then has.
pub(super) async fn idle(
    contender: Contender,
    server: &Server,
    pairs: usize,
) -> Result<Figures, Box<dyn Error>> {
    let (began, cpu, memory) = (now(), server.cpu()?, server.resident()?);
    let mut clients = Vec::with_capacity(2 * pairs);
    for rooms in (0..pairs).collect::<Vec<_>>().chunks(AT_ONCE / 2) {
        let pair = async |room| {
            let place = |side| Place { room, side };
            let mut a = Client::connect(contender, server.address, place(Side::A)).await?;
            let mut b = Client::connect(contender, server.address, place(Side::B)).await?;
            a.expect_match(contender, room).await?;
            b.expect_match(contender, room).await?;
            Ok::<_, Box<dyn Error>>([a, b])
        };
        clients.extend(futures::future::try_join_all(rooms.iter().map(|room| pair(*room))).await?);
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu()? - cpu);
    time::sleep(SETTLE).await;
    let count = 2 * clients.len();
    let resident_kib = server.resident()?;
    Ok(Figures {
        count: count as u64,
        rate: count as f64 / seconds,
        cpu_us: cpu * 1e6 / count as f64,
        resident_kib,
        kib_each: Some((resident_kib - memory.min(resident_kib)) as f64 / count as f64),
        ..Figures::default()
    })
}
