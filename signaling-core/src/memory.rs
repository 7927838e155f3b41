//! The store and the bus of one process: nothing to install, nothing kept across a restart.
//!
//! Several relays in one process may share both, and are nodes to each other.

mod bus;
mod store;

pub use bus::MemoryBus;
pub use store::MemoryStore;
