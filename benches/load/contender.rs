//! Who is measured: how each is started, and how a client joins its partner there.

use std::{env, io, path::PathBuf};

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
    /// Ours.
    Signaling,
    /// A bare forwarder on axum.
    Axum,
    /// A bare forwarder on tokio-tungstenite.
    Tungstenite,
    /// Bytes from one TCP connection to another.
    Tcp,
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
    /// The program that is started with a port.
    pub(crate) fn program(self) -> io::Result<PathBuf> {
        let name = match self {
            Self::Signaling => "contender-signaling",
            Self::Axum => "contender-axum",
            Self::Tungstenite => "contender-tungstenite",
            Self::Tcp => "contender-tcp",
        };
        Ok(env::current_exe()?.with_file_name(name))
    }

    pub(crate) const fn is_websocket(self) -> bool {
        !matches!(self, Self::Tcp)
    }

    /// Whether a client is told when its partner is there.
    pub(crate) const fn matches(self) -> bool {
        matches!(self, Self::Signaling)
    }

    /// Where a client connects: path and query; for plain TCP its first line.
    pub(crate) fn path(self, place: Place) -> String {
        let (room, side) = (session(place.room), place.side.name());
        match self {
            Self::Signaling => {
                let claims = json!({"sub": format!("{room}-{side}"), "exp": 4_000_000_000_u64});
                let token = token::sign(SECRET, &claims);
                format!("/ws/signaling?room={room}&side={side}&token={token}")
            }
            Self::Axum | Self::Tungstenite => format!("/{room}"),
            Self::Tcp => room,
        }
    }
}

/// The session of a room.
pub(crate) fn session(room: usize) -> String {
    format!("room-{room:06}")
}
