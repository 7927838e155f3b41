//! WebRTC signaling as a library.

pub mod auth;
pub mod frame;
pub mod id;
pub mod protocol;
pub mod time;
