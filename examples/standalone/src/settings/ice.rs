//! Which STUN and TURN servers clients are told of.

use std::sync::Arc;

use signaling_core::ice::{IceServer, IceServerProvider, StaticIceServers, TurnError, TurnServers};

use super::{SettingsError, missing, only_one};
use crate::{
    given::Given,
    keys::{KeyFiles, KeySource},
    secret::Secret,
};

const TURN_SECRETS: &str = "SIGNALING_TURN_SECRET or --turn-secret-file";

/// The provider that is asked for; none where there is nothing to tell of.
pub(super) fn ice_servers(
    given: &Given,
    from_env: Option<KeySource>,
    key_files: &mut KeyFiles,
) -> Result<Option<Arc<dyn IceServerProvider>>, SettingsError> {
    let cli = &given.cli;
    let not_empty = |urls: &[String]| -> Vec<String> {
        urls.iter().filter(|url| !url.is_empty()).cloned().collect()
    };
    let stun = not_empty(&cli.stun_urls);
    let stun = match stun.is_empty() {
        true => None,
        false => Some(
            IceServer::stun(stun)
                .map_err(|error| SettingsError::wrong(given.name("stun_urls"), &error))?,
        ),
    };
    let file = cli.turn_secret_file.clone();
    let file = file.map(|path| KeySource::file(given.name("turn_secret_file"), path));
    let secret = only_one(from_env.into_iter().chain(file).collect())?;
    let turn = not_empty(&cli.turn_urls);
    let source = match (turn.is_empty(), secret) {
        (true, None) => {
            let told = |server| Arc::new(StaticIceServers::new([server])) as _;
            return Ok(stun.map(told));
        }
        (true, Some(source)) => return Err(missing(source.setting, "--turn-url")),
        (false, None) => return Err(missing(given.name("turn_urls"), TURN_SECRETS)),
        (false, Some(source)) => source,
    };
    let life = cli.turn_ttl.into();
    let (urls_name, life_name) = (given.name("turn_urls"), given.name("turn_ttl"));
    let turn_servers = move |source: &KeySource, secret: &Secret| {
        let servers = TurnServers::new(turn.clone(), secret.bytes());
        let servers = servers.and_then(|servers| servers.life(life)).map_err(|error| {
            let setting = match error {
                TurnError::Life => &life_name,
                TurnError::Secret => &source.setting,
                _ => &urls_name,
            };
            SettingsError::wrong(setting, &error)
        })?;
        Ok(stun.iter().cloned().fold(servers, TurnServers::and))
    };
    Ok(Some(Arc::new(key_files.load(source, turn_servers)?)))
}
