//! WebRTC signaling as a library.

pub mod auth;
pub mod id;
pub mod time;
