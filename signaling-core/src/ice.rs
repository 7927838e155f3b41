//! Which STUN and TURN servers clients are told of: the seam, and the servers that never change.
//!
//! Two browsers behind NATs find each other by STUN, and where that is not enough, talk through
//! TURN, which asks for credentials. With
//! [`RelayBuilder::ice_servers`](crate::relay::RelayBuilder::ice_servers) every client that
//! negotiated `signaling.v1` has them in its `match-found`, and new ones before the old expire.
//!
//! `TurnServers` (feature `turn`) makes credentials for coturn and whatever else has its REST
//! scheme; a service of somebody else's takes a provider of your own:
//!
//! ```
//! use async_trait::async_trait;
//! use signaling_core::{
//!     ice::{IceServer, IceServerProvider, IceServers, ProviderError},
//!     id::UserId,
//!     time::Timestamp,
//! };
//!
//! #[derive(Debug)]
//! struct OurTurnService;
//!
//! #[async_trait]
//! impl IceServerProvider for OurTurnService {
//!     async fn ice_servers(
//!         &self,
//!         user: &UserId,
//!         now: Timestamp,
//!     ) -> Result<IceServers, ProviderError> {
//!         let (password, life) = ask_for_a_password(user).await.map_err(ProviderError::unavailable)?;
//!         let server = IceServer::turn(["turn:turn.example"], user.as_str(), password)
//!             .map_err(ProviderError::unavailable)?;
//!         Ok(IceServers::new([server]).expiring(now.after(life)))
//!     }
//! }
//! # async fn ask_for_a_password(_: &UserId) -> Result<(String, std::time::Duration), std::io::Error> {
//! #     Ok(("x".into(), std::time::Duration::from_secs(3600)))
//! # }
//! ```

#[cfg(feature = "turn")]
mod turn;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub use crate::protocol::{IceServer, IceServerError};
use crate::{id::UserId, time::Timestamp};
#[cfg(feature = "turn")]
pub use turn::{TurnError, TurnServers};

/// What one user is told of, and for how long it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IceServers {
    /// In the order in which the client gets them.
    pub servers: Arc<[IceServer]>,
    /// When the first of the credentials expires. None: never.
    pub expires_at: Option<Timestamp>,
}

impl IceServers {
    /// `servers`, for ever.
    #[must_use]
    pub fn new(servers: impl Into<Arc<[IceServer]>>) -> Self {
        Self { servers: servers.into(), expires_at: None }
    }

    /// The same, until `at`.
    #[must_use]
    pub fn expiring(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }
}

/// Why a user cannot be told of any servers now. It is asked again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// Whoever must be asked did not answer, or not with what was asked for.
    #[error("the ICE servers are not to be had")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ProviderError {
    /// No servers now; `cause` is for the logs and must not quote a credential.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }
}

/// Says which servers a user is told of.
///
/// It is asked when a client that negotiated `signaling.v1` connects, and again at three quarters
/// of the life of what it said, for as long as that connection lives. Connections ask at the same
/// time, each for itself. An answer that takes longer than
/// [`Config::ice_server_timeout`](crate::Config::ice_server_timeout) is no longer waited for:
/// dropping the future midway must be safe. After that or an error it is asked again 1 s later, and
/// with twice the pause after each failure in a row, up to 60 s. What has expired already counts as
/// an error, and nobody is matched with what expires within a minute.
#[async_trait]
pub trait IceServerProvider: Send + Sync + fmt::Debug + 'static {
    /// The servers for `user`, at the relay's time `now`.
    ///
    /// No two users need have the same credentials, and they had better not: a TURN server counts
    /// and bans by them.
    ///
    /// # Errors
    ///
    /// When there are none now. The user is matched all the same, and told of them when there are.
    async fn ice_servers(&self, user: &UserId, now: Timestamp)
    -> Result<IceServers, ProviderError>;
}

/// The same servers for everybody, for ever.
#[derive(Debug, Clone)]
pub struct StaticIceServers(IceServers);

impl StaticIceServers {
    /// These. Whatever credentials they have, every user learns: for servers that ask for none.
    #[must_use]
    pub fn new(servers: impl Into<Arc<[IceServer]>>) -> Self {
        Self(IceServers::new(servers))
    }
}

#[async_trait]
impl IceServerProvider for StaticIceServers {
    async fn ice_servers(&self, _: &UserId, _: Timestamp) -> Result<IceServers, ProviderError> {
        Ok(self.0.clone())
    }
}
