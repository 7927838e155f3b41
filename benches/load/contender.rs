//! Who is measured: how each is started, and how a client joins its partner there.

use std::{env, fmt, io, path::PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;
use signaling_core::testing::token;

use crate::secret::SECRET;

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
    /// A bare forwarder on tokio-tungstenite.
    Tungstenite,
    /// Bytes from one TCP connection to another.
    Tcp,
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

impl Side {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl Contender {
    /// The program, and what follows the port on its command line.
    pub(crate) fn program(self) -> io::Result<(PathBuf, Option<&'static str>)> {
        let (name, adapter) = match self {
            Self::Signaling | Self::SignalingRedis | Self::SignalingNodes => {
                ("contender-signaling", Some("axum"))
            }
            Self::SignalingWarp => ("contender-signaling", Some("warp")),
            Self::Axum => ("contender-axum", None),
            Self::Tungstenite => ("contender-tungstenite", None),
            Self::Tcp => ("contender-tcp", None),
        };
        Ok((env::current_exe()?.with_file_name(name), adapter))
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Signaling | Self::SignalingWarp | Self::SignalingRedis | Self::SignalingNodes => {
                Kind::Ours
            }
            Self::Axum | Self::Tungstenite | Self::Tcp => Kind::Floor,
        }
    }

    /// Whether a client is told that its partner's connection broke off. If not,
    /// [`Client::partner_gone`](crate::client::Client::partner_gone) waits for ever after that.
    #[allow(dead_code, reason = "no scenario of this commit breaks connections off")]
    pub(crate) const fn tells_of_ends(self) -> bool {
        match self {
            Self::Signaling
            | Self::SignalingWarp
            | Self::SignalingRedis
            | Self::SignalingNodes
            | Self::Axum
            | Self::Tungstenite
            | Self::Tcp => true,
        }
    }

    pub(crate) const fn sessions(self) -> Sessions {
        match self {
            Self::SignalingRedis => Sessions::Redis { nodes: 1 },
            Self::SignalingNodes => Sessions::Redis { nodes: 2 },
            _ => Sessions::Inside,
        }
    }

    pub(crate) const fn is_websocket(self) -> bool {
        !matches!(self, Self::Tcp)
    }

    /// Whether a client is told when its partner is there.
    pub(crate) const fn matches(self) -> bool {
        matches!(self.kind(), Kind::Ours)
    }

    /// Where a client connects: path and query; for plain TCP its first line.
    pub(crate) fn path(self, place: Place) -> String {
        let (room, side) = (session(place.room), place.side.name());
        match self {
            Self::Signaling | Self::SignalingWarp | Self::SignalingRedis | Self::SignalingNodes => {
                let claims = json!({"sub": format!("{room}-{side}"), "exp": 4_000_000_000_u64});
                let token = token::sign(SECRET, &claims);
                format!("/ws/signaling?room={room}&side={side}&token={token}")
            }
            Self::Axum | Self::Tungstenite => format!("/{room}"),
            Self::Tcp => room,
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// The session of a room.
pub(crate) fn session(room: usize) -> String {
    format!("room-{room:06}")
}
