//! Redis for `signaling-core`: many nodes, one truth.

mod bus;
pub mod error;
mod inbox;
mod keys;
mod link;
mod record;
mod script;
mod settings;
mod store;
#[cfg(feature = "test-util")]
pub mod testing;

use std::sync::Arc;

pub use fred;

pub use bus::RedisBus;
pub use error::ConnectError;
pub use settings::Settings;
pub use store::RedisStore;

use keys::Keys;
use link::Link;
use script::Scripts;

/// A connection to Redis, from which the store and the bus of one node come.
#[derive(Debug, Clone)]
pub struct Redis(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    link: Link,
    scripts: Scripts,
    keys: Keys,
}

impl Redis {
    /// Connects. Lost connections are made again without end from then on.
    ///
    /// # Errors
    ///
    /// When Redis cannot be reached within [`Settings::connect_timeout`], refuses the credentials,
    /// or is too old.
    pub async fn connect(settings: Settings) -> Result<Self, ConnectError> {
        let keys = Keys::new(&settings.prefix);
        if settings.prefix.contains(|c: char| matches!(c, '{' | '}') || c.is_control()) {
            return Err(ConnectError::Prefix);
        }
        let link = Link::connect(&settings).await?;
        tracing::info!(redis = settings.address(), "connected to Redis");
        Ok(Self(Arc::new(Shared { settings, link, scripts: Scripts::new(), keys })))
    }

    /// Where sessions are kept.
    #[must_use]
    pub fn store(&self) -> Arc<RedisStore> {
        Arc::new(RedisStore::new(self.0.clone()))
    }

    /// How nodes reach each other.
    #[must_use]
    pub fn bus(&self) -> Arc<RedisBus> {
        Arc::new(RedisBus(self.0.clone()))
    }

    /// The client underneath, for a host's own commands. One attempt is made for each, and commands
    /// wait in it while Redis is away: set a timeout.
    #[must_use]
    pub fn client(&self) -> &fred::clients::Client {
        self.0.link.client()
    }

    /// What the names of all keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0.settings.prefix
    }
}
