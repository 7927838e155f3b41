//! WebRTC signaling as a library.

pub mod auth;
pub mod bus;
pub mod config;
mod connection;
pub mod event;
pub mod frame;
pub mod id;
#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
pub mod jwt;
pub mod memory;
pub mod notice;
pub mod protocol;
pub mod relay;
pub mod session;
pub mod store;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod time;

pub use config::Config;
pub use relay::Relay;
