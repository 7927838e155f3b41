//! How long the parts take that are done most, one by one.
//!
//! `cargo bench --package signaling-benches --bench micro`

mod line;
mod parsing;
mod relaying;
mod stage;
mod storing;
mod texts;
mod verifying;
mod writing;

fn main() {
    divan::main();
}
