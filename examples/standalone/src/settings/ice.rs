//! Which STUN and TURN servers clients are told of.

use std::sync::Arc;

use signaling_core::ice::{IceServer, IceServerProvider, StaticIceServers, TurnError, TurnServers};

use super::{SettingsError, file};
use crate::{cli::Cli, secret::Secret};

const TURN_SECRETS: &str = "SIGNALING_TURN_SECRET or --turn-secret-file";

/// The provider that is asked for; none where there is nothing to tell of.
pub(super) fn ice_servers(
    cli: &Cli,
    from_env: Option<Secret>,
) -> Result<Option<Arc<dyn IceServerProvider>>, SettingsError> {
    let given = |urls: &[String]| -> Vec<String> {
        urls.iter().filter(|url| !url.is_empty()).cloned().collect()
    };
    let stun = given(&cli.stun_urls);
    let stun = match stun.is_empty() {
        true => None,
        false => Some(
            IceServer::stun(stun).map_err(|error| SettingsError::wrong("--stun-url", &error))?,
        ),
    };
    let (turn, secret) = (given(&cli.turn_urls), secret(cli, from_env)?);
    let (setting, secret) = match (turn.is_empty(), secret) {
        (true, None) => {
            let told = |server| Arc::new(StaticIceServers::new([server])) as _;
            return Ok(stun.map(told));
        }
        (true, Some((setting, _))) => return Err(missing(setting, "--turn-url")),
        (false, None) => return Err(missing("--turn-url", TURN_SECRETS)),
        (false, Some(given)) => given,
    };
    let wrong = |error: TurnError| {
        let setting = match error {
            TurnError::Life => "--turn-ttl",
            TurnError::Secret => setting,
            _ => "--turn-url",
        };
        SettingsError::wrong(setting, &error)
    };
    let turn = TurnServers::new(turn, secret.bytes())
        .and_then(|turn| turn.life(cli.turn_ttl.into()))
        .map_err(wrong)?;
    Ok(Some(Arc::new(stun.into_iter().fold(turn, TurnServers::and))))
}

/// The secret, and the setting that it came from.
fn secret(
    cli: &Cli,
    from_env: Option<Secret>,
) -> Result<Option<(&'static str, Secret)>, SettingsError> {
    match (from_env, &cli.turn_secret_file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(SettingsError::TooMany(TURN_SECRETS)),
        (Some(secret), None) => Ok(Some(("SIGNALING_TURN_SECRET", secret))),
        (None, Some(path)) => {
            let flag = "--turn-secret-file";
            Ok(Some((flag, file(flag, path, Secret::from_file)?)))
        }
    }
}

fn missing(setting: &str, other: &str) -> SettingsError {
    SettingsError::Wrong { setting: setting.to_owned(), cause: format!("there is no {other}") }
}
