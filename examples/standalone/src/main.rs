//! The ready signaling server, for teams without a Rust backend: `signaling-server --help`.
//!
//! | module | what |
//! | --- | --- |
//! | `cli`, `limits`, `origin`, `given`, `settings` | what the server is told, and what is wrong with it |
//! | `secret`, `keys`, `current` | keys: what may never be shown, and how SIGHUP replaces them |
//! | `app`, `access` | all routes, and the log of requests |
//! | `api`, `guesses`, `error` | the HTTP API for the matching service, and what it says when something is wrong |
//! | `queue`, `matchmaker` | who waits for a partner, here or on all nodes, and who gets one |
//! | `demo`, `signer`, `pages`, `local_host` | the demonstration, in development only |
//! | `output`, `contain` | the log, and lines for people; panics that end only what panicked |
//! | `serve`, `run` | from the socket to the router, and from the start to the end |

mod access;
mod api;
mod app;
mod cli;
mod contain;
mod current;
mod demo;
mod error;
mod given;
mod guesses;
mod keys;
mod limits;
mod local_host;
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

use given::Given;
use output::Log;
use run::RunError;
use settings::{LogSettings, Settings, SettingsError};

/// The settings do not do.
const WRONG_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Settings(SettingsError::Print(text))) => {
            output::say_last(io::stdout(), text.trim_end().to_owned());
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::say_last(io::stderr(), format!("signaling-server: {}", error.line()));
            match error {
                RunError::Settings(_) => ExitCode::from(WRONG_SETTINGS),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Logging starts as soon as it can, so that what is odd about the other settings is logged.
fn serve() -> Result<(), RunError> {
    let given = Given::read(env::args_os()).map_err(SettingsError::from)?;
    let LogSettings { format, filter } = LogSettings::of(&given)?;
    let log = Log::start(format, filter);
    let outcome = settings(&given).map_err(RunError::from).and_then(run::run);
    log.end();
    outcome
}

fn settings(given: &Given) -> Result<Settings, SettingsError> {
    let settings = Settings::of(given, |name| env::var_os(name))?;
    for line in given.unknown_variables(env::vars_os()) {
        tracing::warn!("{line}");
    }
    Ok(settings)
}
