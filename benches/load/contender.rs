//! Who is measured: how each is started, and how a client joins its partner there.

use std::{env, ffi::OsString, fmt, iter, path::Path};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;
use signaling_core::testing::token;

use crate::{Done, client::Dialect, secret::SECRET};

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// Ours, on axum.
    Signaling,
    /// Ours, on warp.
    SignalingWarp,
    /// Ours, on axum, with its sessions in Redis.
    SignalingRedis,
    /// Two nodes of it, and partners never on the same.
    SignalingNodes,
    /// A bare forwarder on axum.
    Axum,
    /// The same with split halves and a task for each, as most applications have it.
    AxumSplit,
    /// A bare forwarder on tokio-tungstenite.
    Tungstenite,
    /// Bytes from one TCP connection to another.
    Tcp,
    /// A server on the crate matchbox_signaling, its full mesh.
    Matchbox,
    /// The program matchbox_server, with rooms of two.
    MatchboxServer,
    /// A server on the crate socketioxide.
    Socketioxide,
    /// PeerServer, the npm package peer.
    NpmPeer,
    /// A relay on the npm package ws.
    NpmWs,
    /// A server on the npm package socket.io.
    NpmSocketIo,
}

/// What a contender is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    /// Forwards, and does nothing else.
    Floor,
    /// What else there is.
    Peer,
}

/// Where a contender has its sessions, if it has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sessions {
    Inside,
    /// In a Redis that these many nodes share.
    Redis {
        nodes: usize,
    },
}

/// A client's place: in which room, on which of its two sides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) room: usize,
    pub(crate) side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Comes first, and offers.
    A,
    B,
}

impl Place {
    pub(crate) const fn partner(self) -> Self {
        let side = match self.side {
            Side::A => Side::B,
            Side::B => Side::A,
        };
        Self { side, ..self }
    }
}

impl Side {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl Contender {
    /// The command that starts it on `port`.
    pub(crate) fn command(self, port: u16) -> Done<Vec<OsString>> {
        let port = port.to_string();
        match self {
            Self::Signaling | Self::SignalingRedis | Self::SignalingNodes => {
                ours("contender-signaling", &[&port, "axum"])
            }
            Self::SignalingWarp => ours("contender-signaling", &[&port, "warp"]),
            Self::Axum => ours("contender-axum", &[&port]),
            Self::AxumSplit => ours("contender-axum", &[&port, "split"]),
            Self::Tungstenite => ours("contender-tungstenite", &[&port]),
            Self::Tcp => ours("contender-tcp", &[&port]),
            Self::Matchbox => peer(&[], "release/peer-matchbox", &port),
            // By default it writes lines about every connection, and ours writes none.
            Self::MatchboxServer => {
                let host = format!("127.0.0.1:{port}");
                peer(&["env", "RUST_LOG=warn"], "bin/matchbox_server", &host)
            }
            Self::Socketioxide => peer(&[], "release/peer-socketioxide", &port),
            Self::NpmPeer => npm("peer.js", &port),
            Self::NpmWs => npm("ws.js", &port),
            Self::NpmSocketIo => npm("socket-io.js", &port),
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Signaling | Self::SignalingWarp | Self::SignalingRedis | Self::SignalingNodes => {
                Kind::Ours
            }
            Self::Axum | Self::AxumSplit | Self::Tungstenite | Self::Tcp => Kind::Floor,
            Self::Matchbox
            | Self::MatchboxServer
            | Self::Socketioxide
            | Self::NpmPeer
            | Self::NpmWs
            | Self::NpmSocketIo => Kind::Peer,
        }
    }

    /// What its clients speak.
    pub(crate) const fn dialect(self) -> Dialect {
        match self {
            Self::Signaling | Self::SignalingWarp | Self::SignalingRedis | Self::SignalingNodes => {
                Dialect::Signaling
            }
            Self::Axum | Self::AxumSplit | Self::Tungstenite | Self::Tcp | Self::NpmWs => {
                Dialect::Bare
            }
            Self::Matchbox | Self::MatchboxServer => Dialect::Matchbox,
            Self::Socketioxide | Self::NpmSocketIo => Dialect::SocketIo,
            Self::NpmPeer => Dialect::PeerServer,
        }
    }

    pub(crate) const fn sessions(self) -> Sessions {
        match self {
            Self::SignalingRedis => Sessions::Redis { nodes: 1 },
            Self::SignalingNodes => Sessions::Redis { nodes: 2 },
            _ => Sessions::Inside,
        }
    }

    /// Whether side A must be connected before side B begins to connect: only who was there first is
    /// told of the other, and A is the one that offers.
    pub(crate) const fn is_ordered(self) -> bool {
        matches!(self.dialect(), Dialect::Matchbox)
    }

    /// Where a client connects: path and query; for plain TCP its first line.
    pub(crate) fn path(self, place: Place) -> String {
        let (room, user) = (session(place.room), user(place));
        match self {
            Self::Signaling | Self::SignalingWarp | Self::SignalingRedis | Self::SignalingNodes => {
                let claims = json!({"sub": user, "exp": 4_000_000_000_u64});
                let token = token::sign(SECRET, &claims);
                format!("/{user}?token={token}")
            }
            Self::Axum | Self::AxumSplit | Self::Tungstenite | Self::NpmWs | Self::Matchbox => {
                format!("/{room}")
            }
            Self::Tcp => room,
            Self::MatchboxServer => format!("/{room}?next=2"),
            Self::Socketioxide | Self::NpmSocketIo => {
                "/socket.io/?EIO=4&transport=websocket".to_owned()
            }
            Self::NpmPeer => format!("/peerjs?key=peerjs&id={user}&token={user}"),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Built with the load generator.
fn ours(name: &str, args: &[&str]) -> Done<Vec<OsString>> {
    let program = env::current_exe()?.with_file_name(name);
    Ok(iter::once(program.into()).chain(args.iter().map(Into::into)).collect())
}

/// Built by `make peers`, in a folder beside that of the profile.
fn peer(before: &[&str], path: &str, arg: &str) -> Done<Vec<OsString>> {
    let built = env::current_exe()?.with_file_name("../peers").join(path);
    made(&built)?;
    let command = before.iter().map(Into::into).chain([built.into(), arg.into()]);
    Ok(command.collect())
}

/// Its packages installed by `make peers`.
fn npm(script: &str, port: &str) -> Done<Vec<OsString>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/npm");
    made(&folder.join("node_modules"))?;
    Ok(vec!["node".into(), folder.join(script).into(), port.into()])
}

fn made(path: &Path) -> Done<()> {
    if !path.exists() {
        return Err(format!("there is no {}: `make peers` makes it", path.display()).into());
    }
    Ok(())
}

/// The session of a room.
pub(crate) fn session(room: usize) -> String {
    format!("room-{room:06}")
}

/// Who is at a place.
pub(crate) fn user(place: Place) -> String {
    format!("{}-{}", session(place.room), place.side.name())
}
