//! What a case may ask for when it starts an endpoint.

use std::sync::Arc;

#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
use async_trait::async_trait;

#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
use super::{AUDIENCE, ISSUER, SECRET};
use crate::{
    auth::Authenticator,
    config::Config,
    relay::{Hooks, SecondConnection},
    store::SessionStore,
};
#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
use crate::{
    auth::{AuthError, Credentials, Identity},
    ice::{IceServer, StaticIceServers},
    jwt::{Algorithm, JwtAuthenticator, JwtKey},
    relay::Relay,
};

#[cfg(all(feature = "websocket", any(feature = "jwt", feature = "jwt-aws-lc")))]
use crate::websocket::{Endpoint, OnInvalidToken};

/// What a case wants of its endpoint.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Setup {
    /// Limits and intervals; durations are whole milliseconds.
    pub config: Config,
    /// The store to use, where that may fail; another process says [`Unsupported`].
    pub store: Option<Arc<dyn SessionStore>>,
    /// The STUN servers that clients of `signaling.v1` are told of; empty where there are none.
    pub stun_urls: Vec<String>,
    /// What becomes of a second connection of a user. Another process says [`Unsupported`] where
    /// that takes code of the case's.
    pub second_connection: SecondConnection,
    /// What the host is asked; another process says [`Unsupported`].
    pub hooks: Option<Arc<dyn Hooks>>,
    /// Who checks tokens, where that is not the usual; another process says [`Unsupported`].
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// The origins whose pages alone may connect; none lets all connect. Others get HTTP status
    /// 403.
    pub allowed_origins: Option<Vec<String>>,
    /// Whether a token that is not accepted gets HTTP status 401, and 503 where the authenticator
    /// is unavailable, instead of a close code.
    pub status_for_bad_tokens: bool,
    /// A path segment of the host's application beneath which the endpoint is, when it is not at
    /// the top.
    pub prefix: Option<&'static str>,
}

impl Setup {
    /// Refuses to be set up with anything but a relay of this configuration.
    ///
    /// # Errors
    ///
    /// Names what else is asked for.
    pub fn relay_only(&self) -> Result<(), Unsupported> {
        if self.allowed_origins.is_some() {
            return Err(Unsupported("this endpoint does not look at origins"));
        }
        if self.status_for_bad_tokens {
            return Err(Unsupported("this endpoint has no HTTP status for bad tokens"));
        }
        match self.prefix {
            Some(_) => Err(Unsupported("this endpoint is where it is")),
            None => Ok(()),
        }
    }
}

/// The endpoint cannot be set up so, and why. The case is skipped, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsupported(pub &'static str);

#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
impl Setup {
    /// A relay that is set up so, for an endpoint in this process.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn relay(&self) -> Relay {
        let builder = match self.authenticator.clone() {
            Some(authenticator) => Relay::builder(Shared(authenticator)),
            None => Relay::builder(authenticator()),
        };
        let mut builder =
            builder.config(self.config.clone()).second_connection(self.second_connection.clone());
        if let Some(hooks) = &self.hooks {
            builder = builder.hooks(hooks.clone());
        }
        if let Some(store) = &self.store {
            builder = builder.store(store.clone());
        }
        if !self.stun_urls.is_empty() {
            let server = IceServer::stun(self.stun_urls.iter());
            let server = server.unwrap_or_else(|error| panic!("the case has a bad URL: {error}"));
            builder = builder.ice_servers(Arc::new(StaticIceServers::new([server])));
        }
        let started = builder.start().await;
        started.unwrap_or_else(|error| panic!("the relay did not start: {error:?}"))
    }

    /// The endpoint of `relay` with the options that are asked for.
    #[cfg(feature = "websocket")]
    pub fn endpoint(&self, relay: &Relay) -> Endpoint {
        let mut endpoint = Endpoint::new(relay.clone());
        if let Some(origins) = &self.allowed_origins {
            endpoint = endpoint.allowed_origins(origins);
        }
        if self.status_for_bad_tokens {
            endpoint = endpoint.on_invalid_token(OnInvalidToken::HttpStatus);
        }
        endpoint
    }
}

/// A case asks what it made.
#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
#[derive(Debug)]
struct Shared(Arc<dyn Authenticator>);

#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
#[async_trait]
impl Authenticator for Shared {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        self.0.authenticate(credentials).await
    }
}

/// Accepts the suite's tokens, with all other settings at their defaults.
#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
fn authenticator() -> JwtAuthenticator {
    JwtAuthenticator::builder()
        .key(JwtKey::secret(Algorithm::HS256, SECRET))
        .issuer(ISSUER)
        .audience(AUDIENCE)
        .build()
        .unwrap_or_else(|error| panic!("the suite's own key is not accepted: {error:?}"))
}
