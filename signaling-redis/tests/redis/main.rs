//! Real nodes on real `redis-server` processes, which the tests start and stop.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod suites;
