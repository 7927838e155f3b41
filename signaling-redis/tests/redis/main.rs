//! Real nodes on real `redis-server` processes, which the tests start and stop.

mod suites;
