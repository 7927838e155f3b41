//! Real nodes on real `redis-server` processes, which the tests start, freeze, cut and kill.
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod bus;
mod calls;
mod cluster;
mod harness;
mod latency;
mod nodes;
mod outages;
mod proxy;
mod readiness;
mod sentinel;
mod start;
mod store;
mod suites;
mod sweep;
#[cfg(feature = "tls")]
mod tls;
mod traffic;
mod unreadable;
