//! The ready signaling server, for teams without a Rust backend: `signaling-server --help`.
//!
//! | module | what |
//! | --- | --- |
//! | `cli`, `limits`, `origin`, `settings`, `secret` | what the server is told, and what may never be shown of it |
//! | `app`, `access` | all routes, and the log of requests |
//! | `api`, `guesses`, `error` | the HTTP API for the matching service, and what it says when something is wrong |
//! | `queue`, `matchmaker` | who waits for a partner, here or on all nodes, and who gets one |
//! | `demo`, `signer`, `pages` | the demonstration, in development only |
//! | `output`, `contain` | the log, and lines for people; panics that end only what panicked |
//! | `serve`, `run` | from the socket to the router, and from the start to the end |

mod access;
mod api;
mod app;
mod cli;
mod contain;
mod demo;
mod error;
mod guesses;
mod limits;
mod matchmaker;
mod origin;
mod output;
mod pages;
mod queue;
mod run;
mod secret;
mod serve;
mod settings;
mod signer;

use std::{env, io, process::ExitCode};

use settings::{Settings, SettingsError};

/// The settings do not do.
const WRONG_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    let settings = match Settings::read(env::args_os(), |name| env::var_os(name)) {
        Ok(settings) => settings,
        Err(SettingsError::Print(text)) => {
            output::say_last(io::stdout(), text.trim_end().to_owned());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            output::say_last(io::stderr(), format!("signaling-server: {error}"));
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    match run::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::say_last(io::stderr(), format!("signaling-server: {}", error.line()));
            ExitCode::FAILURE
        }
    }
}
