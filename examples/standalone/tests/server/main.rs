//! The server as a process: what it is told, what it answers, how it ends.
#![allow(clippy::unwrap_used, reason = "tests, of which clippy knows only the functions marked so")]

mod api;
mod demo;
mod lifecycle;
mod log;
mod output;
mod pages;
mod peers;
mod settings;
mod support;
