//! A server on `matchbox_signaling`, its full mesh: whoever connects to `/{room}` is told to those
//! that are there.
//!
//! `peer-matchbox <port>`, as the crate's example for a full mesh has it: with `cors()`, without its
//! callbacks, which only log, and without `trace()`. The crate gives no way to set `TCP_NODELAY` or
//! sizes of buffers.

use std::{env, error::Error, net::Ipv4Addr};

use matchbox_signaling::SignalingServer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).ok_or("a port")?.parse::<u16>()?;
    let server = SignalingServer::full_mesh_builder((Ipv4Addr::LOCALHOST, port)).cors().build();
    Ok(server.serve().await?)
}
