//! The engine from outside: real relays on paused time, clients at the other end of a wire.

mod seams;
mod seeds;
