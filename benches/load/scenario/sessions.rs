//! Many open sessions.

use std::{env, process::Command};

use serde::Deserialize;

use super::{Done, Run};
use crate::{contender::Contender, figures::Figures, server::CORE};

/// What the program that opens them says.
#[derive(Deserialize)]
struct Said {
    opened: u64,
    seconds: f64,
    resident_kib: u64,
    kib_each: f64,
}

/// A session for each pair, by `Relay::open_session` itself, with nobody connected; then more of them are
/// opened and closed, and opening is timed on a thread that does nothing else. The server has nothing to do
/// meanwhile.
pub(super) fn sessions(run: Run<'_>) -> Done<Figures> {
    if run.contender != Contender::Signaling {
        return Err("only ours is measured without connections".into());
    }
    let program = env::current_exe()?.with_file_name("open-sessions");
    let mut command = Command::new("taskset");
    let output = command.args(["-c", CORE]).arg(program).arg(run.pairs.to_string()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let Said { opened, seconds, resident_kib, kib_each } = serde_json::from_slice(&output.stdout)?;
    let figures = Figures::of(opened, seconds, seconds)?;
    Ok(Figures { resident_kib, kib_each: Some(kib_each), ..figures })
}
