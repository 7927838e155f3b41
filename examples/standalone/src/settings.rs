//! From the command line and the environment to what the server needs, or the one line that says
//! what is wrong.

mod ice;
mod listen;
mod log_filter;
mod tokens;

use std::{error::Error, ffi::OsString, net::SocketAddr, sync::Arc, time::Duration};

use signaling_core::{Config, ice::IceServerProvider, id::NodeId, relay::SecondConnection};
use tracing_subscriber::EnvFilter;

use crate::{
    cli::LogFormat,
    current::Current,
    given::{Given, NoCli},
    keys::{KeyFiles, KeySource, Tokens},
    queue::Partners,
    secret::{ApiKey, Secret},
    serve::Timeouts,
    signer::Signer,
};

/// Everything that was decided before the start.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Of these, the first that it can listen on.
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) authenticator: Tokens,
    pub(crate) key_files: KeyFiles,
    pub(crate) config: Config,
    /// None: this node is alone, and keeps everything in memory.
    pub(crate) redis: Option<signaling_redis::Settings>,
    /// None: clients are told of no STUN or TURN servers.
    pub(crate) ice_servers: Option<Arc<dyn IceServerProvider>>,
    pub(crate) node_name: Option<String>,
    pub(crate) second_connection: SecondConnection,
    pub(crate) drain_delay: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) http_timeouts: Timeouts,
    /// An API key that was made for this run and must be told.
    pub(crate) made_api_key: Option<Secret>,
    pub(crate) app: AppSettings,
}

/// What the routes depend on.
#[derive(Debug)]
pub(crate) struct AppSettings {
    pub(crate) api_key: ApiKey,
    /// None: all.
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) queue_capacity: usize,
    pub(crate) queue_timeout: Duration,
    pub(crate) queue_partners: Partners,
    /// In development only: makes the demonstration's tokens. Requests must then name this machine
    /// as their host.
    pub(crate) demo: Option<Signer>,
}

/// How to log. It is settled before everything else, so that the rest can log.
#[derive(Debug)]
pub(crate) struct LogSettings {
    pub(crate) format: LogFormat,
    pub(crate) filter: EnvFilter,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// Nothing is wrong: this is asked for.
    #[error("{0}")]
    Print(String),
    /// The command line cannot be read.
    #[error("{0}")]
    CommandLine(String),
    /// One of these must be given.
    #[error("missing setting: {0} (or --dev, which makes one for development)")]
    Missing(&'static str),
    /// Two settings of which there can be one.
    #[error("only one of {0} can be given")]
    TooMany(String),
    /// The value of a setting does not do.
    #[error("{setting}: {cause}")]
    Wrong { setting: String, cause: String },
}

impl SettingsError {
    fn wrong(setting: impl Into<String>, error: &dyn Error) -> Self {
        let mut cause = error.to_string();
        let mut next = error.source();
        while let Some(error) = next {
            cause = format!("{cause}: {error}");
            next = error.source();
        }
        let setting = setting.into();
        Self::Wrong { setting, cause }
    }

    fn cause(setting: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::Wrong { setting: setting.into(), cause: cause.into() }
    }
}

impl From<NoCli> for SettingsError {
    fn from(reason: NoCli) -> Self {
        match reason {
            NoCli::Print(text) => Self::Print(text),
            NoCli::Wrong(line) => Self::CommandLine(line),
        }
    }
}

const API_KEYS: &str = "SIGNALING_API_KEY or --api-key-file";

impl LogSettings {
    pub(crate) fn of(given: &Given) -> Result<Self, SettingsError> {
        let filter = log_filter::log_filter(&given.cli.log_level)
            .map_err(|cause| SettingsError::cause(given.name("log_level"), cause))?;
        Ok(Self { format: given.cli.log_format, filter })
    }
}

impl Settings {
    /// The settings that were given. `env` is asked for the variables with secrets alone.
    pub(crate) fn of(
        given: &Given,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, SettingsError> {
        let cli = &given.cli;
        let listen = listen::resolve(&cli.listen)
            .map_err(|cause| SettingsError::cause(given.name("listen"), cause))?;
        if cli.dev && !listen.iter().all(|address| address.ip().is_loopback()) {
            let cause = "--dev listens on a loopback address only, such as 127.0.0.1";
            return Err(SettingsError::cause(given.name("listen"), cause));
        }
        let config = config(given)?;
        if cli.queue_capacity < 2 {
            let setting = given.name("queue_capacity");
            return Err(SettingsError::cause(setting, "two must be able to wait"));
        }
        let http_timeouts = http_timeouts(given)?;
        let redis = redis(given, &config)?;
        if let Some(name) = &cli.node_id {
            NodeId::generate(Some(name))
                .map_err(|error| SettingsError::wrong(given.name("node_id"), &error))?;
        }
        let mut key_files = KeyFiles::default();
        let secret = |name: &'static str| {
            Secret::from_env(env(name)).map(|secret| KeySource::value(name, secret))
        };
        let turn_secret = secret("SIGNALING_TURN_SECRET");
        let ice_servers = ice::ice_servers(given, turn_secret, &mut key_files)?;
        let jwt_secret = secret("SIGNALING_JWT_SECRET");
        let (authenticator, signer) = tokens::tokens(given, jwt_secret, &mut key_files)?;
        let api_key = secret("SIGNALING_API_KEY");
        let (api_key, made_api_key) = match api_key_source(given, api_key)? {
            Some(source) => (key_files.load(source, checked_api_key)?, None),
            None if cli.dev => {
                let key = random("SIGNALING_API_KEY")?;
                (Current::new(ApiKey::digest(key.bytes())), Some(key))
            }
            None => return Err(SettingsError::Missing(API_KEYS)),
        };
        let drain_delay = match cli.drain_delay {
            Some(delay) => delay.into(),
            // Alone, or in development, there is no load balancer to tell.
            None if redis.is_none() || cli.dev => Duration::ZERO,
            None => DRAIN_DELAY,
        };
        Ok(Self {
            listen,
            authenticator,
            key_files,
            config,
            redis,
            ice_servers,
            node_name: cli.node_id.clone(),
            second_connection: cli.second_connection.into(),
            drain_delay,
            drain_timeout: cli.drain_timeout.into(),
            http_timeouts,
            made_api_key,
            app: AppSettings {
                api_key: ApiKey::new(api_key),
                allowed_origins: cli.allowed_origins.clone(),
                queue_capacity: cli.queue_capacity,
                queue_timeout: cli.queue_timeout.into(),
                queue_partners: cli.queue_partners,
                demo: signer,
            },
        })
    }
}

/// An error names what the user set: if the setting at fault has its default, that is the other
/// setting of which the error speaks.
fn config(given: &Given) -> Result<Config, SettingsError> {
    let config = given.cli.limits.config();
    config.validate().map_err(|error| {
        let words = || error.problem.split_inclusive(|c: char| !(c == '_' || c.is_alphanumeric()));
        let field = |word: &str| word.trim_end_matches(|c: char| !c.is_alphanumeric()).to_owned();
        let shown = |id: &str| match given.is_set(id) {
            true => given.name(id),
            false => format!("the default of {}", given.name(id)),
        };
        let problem: String = words()
            .map(|word| match field(word) {
                id if id.contains('_') => word.replace(&id, &shown(&id)),
                _ => word.to_owned(),
            })
            .collect();
        let other = words().map(field).find(|id| id.contains('_') && given.is_set(id));
        match other {
            Some(other) if !given.is_set(error.setting) => {
                let cause = format!("{} {problem}", shown(error.setting));
                SettingsError::cause(given.name(&other), cause)
            }
            _ => SettingsError::cause(given.name(error.setting), problem),
        }
    })?;
    Ok(config)
}

fn http_timeouts(given: &Given) -> Result<Timeouts, SettingsError> {
    let cli = &given.cli;
    let (idle, head, write) =
        (cli.http_idle_timeout, cli.http_head_timeout, cli.http_write_timeout);
    let named = [("idle", idle), ("head", head), ("write", write)];
    match named.iter().find(|(_, timeout)| timeout.0.is_zero()) {
        None => Ok(Timeouts { idle: idle.0, head: head.0, write: write.0 }),
        Some((name, _)) => {
            let setting = given.name(&format!("http_{name}_timeout"));
            Err(SettingsError::cause(setting, "may not be zero"))
        }
    }
}

/// Load balancers look every few seconds whether a node is ready.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// What nobody renews, Redis keeps at least this long: nodes may be cut off from it meanwhile.
const MIN_RETENTION: Duration = Duration::from_secs(60 * 60);

fn redis(
    given: &Given,
    config: &Config,
) -> Result<Option<signaling_redis::Settings>, SettingsError> {
    let cli = &given.cli;
    let wrong = |id, error| SettingsError::wrong(given.name(id), &error);
    let Some(url) = cli.redis_url.as_ref().filter(|url| !url.bytes().is_empty()) else {
        let prefix = cli.redis_prefix.as_ref().filter(|prefix| !prefix.is_empty());
        return match prefix {
            None => Ok(None),
            Some(_) => Err(missing(given.name("redis_prefix"), "--redis-url")),
        };
    };
    let redis = signaling_redis::Settings::url(&url.text())
        .map_err(|error| wrong("redis_url", error))?
        .retention(MIN_RETENTION.max(config.abandon_after.saturating_mul(2)));
    let redis = match &cli.redis_prefix {
        Some(prefix) => redis.prefix(prefix),
        None => redis,
    };
    // Of what may be wrong in them, only the prefix is left.
    redis.validate().map_err(|error| wrong("redis_prefix", error))?;
    Ok(Some(redis))
}

fn random(setting: &str) -> Result<Secret, SettingsError> {
    Secret::random().map_err(|error| SettingsError::wrong(setting, &error))
}

fn missing(setting: impl Into<String>, other: &str) -> SettingsError {
    SettingsError::cause(setting, format!("there is no {other}"))
}

/// The one key that was given.
fn only_one(sources: Vec<KeySource>) -> Result<Option<KeySource>, SettingsError> {
    if sources.len() > 1 {
        let names: Vec<_> = sources.into_iter().map(|source| source.setting).collect();
        return Err(SettingsError::TooMany(names.join(" and ")));
    }
    Ok(sources.into_iter().next())
}

fn api_key_source(
    given: &Given,
    from_env: Option<KeySource>,
) -> Result<Option<KeySource>, SettingsError> {
    let file = given.cli.api_key_file.clone();
    let file = file.map(|path| KeySource::file(given.name("api_key_file"), path));
    only_one(from_env.into_iter().chain(file).collect())
}

fn checked_api_key(source: &KeySource, key: &Secret) -> Result<[u8; 32], SettingsError> {
    let (key, least) = (key.bytes(), ApiKey::MIN_BYTES);
    // What no header can carry would be a key that nobody has.
    if !key.iter().all(u8::is_ascii_graphic) {
        let cause = "a key is made of ASCII letters, digits and signs, without spaces";
        return Err(SettingsError::cause(&source.setting, cause));
    }
    if key.len() < least {
        let bytes = key.len();
        let cause = format!("a key needs at least {least} bytes, and this one has {bytes}");
        return Err(SettingsError::cause(&source.setting, cause));
    }
    Ok(ApiKey::digest(key))
}

#[cfg(test)]
mod tests;
