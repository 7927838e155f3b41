//! The suites that every store, bus and adapter must pass, and what they are made of (feature
//! `test-util`).
//!
//! Everything in here panics where an expectation does not hold: it is for tests only.

pub mod bus;
pub mod client;
mod clock;
pub mod endpoint;
pub mod fault;
#[doc(hidden)]
pub mod fuzz;
pub mod guest;
pub mod simulation;
pub mod store;
pub mod token;
pub mod wire;

pub use clock::TokioClock;
