//! The engine from outside: real relays on paused time, clients at the other end of a wire.
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod admission;
mod continuing;
mod counts;
mod drain;
mod harness;
mod host;
mod ice;
mod layers;
mod life;
mod limits;
mod losses;
mod nodes;
mod panics;
mod reasons;
mod refresh;
mod refusals;
mod revoke;
mod seams;
mod seeds;
mod shares;
mod turns;
