//! WebRTC signaling as a library.

pub mod auth;
pub mod id;
#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
pub mod jwt;
pub mod time;
