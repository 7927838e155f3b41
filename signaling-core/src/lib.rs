//! WebRTC signaling as a library: authenticated, supervised, for any number of nodes.
//!
//! Two browsers that want to talk must first exchange an offer, an answer and ICE candidates
//! through somebody they both can reach. A [`Relay`] is that somebody. It accepts connections from
//! any transport, learns from its host which two users were matched, hands their signals to each
//! other, and tells each when the other is gone.
//!
//! ```
//! use signaling_core::{
//!     Relay,
//!     event::Event,
//!     id::UserId,
//!     jwt::{Algorithm, JwtAuthenticator, JwtKey},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Who may connect: whoever brings a JWT signed with this key.
//! let key = JwtKey::secret(Algorithm::HS256, "a secret of at least thirty-two bytes");
//! let relay = Relay::builder(JwtAuthenticator::builder().key(key).build()?).start().await?;
//!
//! // What happens, for the rest of the application.
//! let mut events = relay.events();
//! let watch = tokio::spawn(async move {
//!     match events.next().await {
//!         Ok(Some(Event::SessionOpened { session, .. })) => println!("{session} is open"),
//!         other => println!("{other:?}"),
//!     }
//! });
//!
//! // Two users were matched: both get `match-found`, now or when they connect.
//! let (ann, bob) = (UserId::new("ann")?, UserId::new("bob")?);
//! let session = relay.open_session(&ann, &bob).await?;
//! assert_eq!(relay.session(&session).await?.map(|record| record.status().as_str()), Some("waiting"));
//! # watch.await?;
//! # Ok(()) }
//! ```
//!
//! Connections come from an adapter, such as `signaling-axum`, or from any stream and sink of
//! [`frame::Frame`]s through [`Relay::serve`].
//!
//! # Where things are
//!
//! | module | what it is |
//! | --- | --- |
//! | [`relay`] | the engine: [`Relay`], its builder, and what can go wrong |
//! | [`protocol`] | the messages on the wire, and the table of them |
//! | [`config`] | every limit and interval, with its default and the reason for it |
//! | [`event`], [`reason`] | what a host may observe, and why connections and sessions end |
//! | [`auth`], `jwt` | who may connect: the seam, and JSON Web Tokens |
//! | [`ice`] | which STUN and TURN servers clients are told of: the seam, and credentials for coturn |
//! | [`store`], [`bus`], [`memory`] | where sessions are kept and how nodes reach each other: the seams, and both in memory |
//! | [`session`] | the rules of a session |
//! | [`frame`], [`id`], [`time`] | what a transport carries, who and what, and when |
//! | `websocket` | what adapters to web frameworks share (feature `websocket`) |
//! | `testing` | suites for stores, buses and adapters (feature `test-util`) |
//!
//! # What a host decides
//!
//! Each of these is a trait object or an enum; none is a type parameter of anything.
//!
//! | what | how |
//! | --- | --- |
//! | who may connect | an [`auth::Authenticator`]; or `jwt::JwtAuthenticator` |
//! | whether it is admitted now, and whether a session opens | [`relay::Hooks`], asked before, with a reason where they refuse |
//! | what becomes of a user's second connection | [`relay::SecondConnection`]: it replaces the first, is refused, or a [`relay::Arbiter`] chooses |
//! | where sessions are kept, how nodes reach each other | a [`store::SessionStore`] and a [`bus::MessageBus`] |
//! | limits and intervals | [`Config`] |
//!
//! And what it may know: [`Relay::events`], [`Relay::session`], [`Relay::sessions_of`],
//! [`Relay::is_connected`], [`Relay::counts`] over all nodes and [`Relay::counts_here`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use signaling_core::{
//!     Relay,
//!     auth::Authenticator,
//!     frame::CloseReason,
//!     relay::{Hooks, Newcomer, SecondConnection, StartError},
//! };
//!
//! /// Whoever is banned is closed with 1008, and reads why.
//! #[derive(Debug)]
//! struct Bans(Vec<String>);
//!
//! #[async_trait::async_trait]
//! impl Hooks for Bans {
//!     async fn before_connection(&self, newcomer: &Newcomer) -> Result<(), CloseReason> {
//!         match self.0.iter().any(|banned| banned == newcomer.user().as_str()) {
//!             true => Err(CloseReason::new("banned").unwrap_or_default()),
//!             false => Ok(()),
//!         }
//!     }
//! }
//!
//! async fn start(authenticator: impl Authenticator) -> Result<Relay, StartError> {
//!     Relay::builder(authenticator)
//!         .hooks(Arc::new(Bans(vec!["mallory".to_owned()])))
//!         .second_connection(SecondConnection::Refuse)
//!         .start()
//!         .await
//! }
//! ```
//!
//! # Several nodes
//!
//! Relays that share a [`store::SessionStore`] and a [`bus::MessageBus`] are one deployment: users
//! on different nodes are matched and talk all the same, move between nodes, and are told within 30
//! seconds when their partner's node dies.
//!
//! # Features
//!
//! - `jwt` (default): `jwt::JwtAuthenticator`, on cryptography in pure Rust.
//! - `jwt-aws-lc`: the same on aws-lc, several times faster for RSA and ECDSA. With both, this one
//!   is used.
//! - `turn`: `ice::TurnServers`, credentials of limited time for TURN servers.
//! - `websocket`: the `websocket` module. Without it this crate knows no HTTP and no WebSocket.
//! - `test-util`: the `testing` module.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod auth;
pub mod bus;
pub mod config;
mod connection;
pub mod event;
pub mod frame;
pub mod ice;
pub mod id;
#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
pub mod jwt;
#[doc(hidden)]
pub mod log;
pub mod memory;
mod notice;
pub mod protocol;
pub mod reason;
pub mod relay;
pub mod session;
pub mod store;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod time;
#[cfg(feature = "websocket")]
pub mod websocket;

pub use config::Config;
pub use relay::Relay;

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
