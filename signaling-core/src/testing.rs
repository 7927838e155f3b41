//! What every store, bus and adapter must pass, and what such tests are written with (feature
//! `test-util`).
//!
//! What is here panics where an expectation fails, with what was expected and what came.

pub mod client;
pub mod endpoint;
pub mod token;
