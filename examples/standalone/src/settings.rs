//! From the command line and the environment to what the server needs, or the one line that says
//! what is wrong.

mod ice;

use std::{error::Error, ffi::OsString, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use clap::Parser;
use signaling_core::{
    Config,
    ice::IceServerProvider,
    id::NodeId,
    jwt::{Algorithm, JwtAuthenticator, JwtAuthenticatorBuilder, JwtConfigError, JwtKey},
    relay::SecondConnection,
};
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, LogFormat, NoCli},
    secret::{ApiKey, Secret},
    serve::Timeouts,
    signer::Signer,
};

/// Everything that was decided before the start.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) authenticator: JwtAuthenticator,
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
    pub(crate) log_format: LogFormat,
    pub(crate) log_filter: EnvFilter,
    pub(crate) dev: bool,
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
    /// Makes the demonstration's tokens: in development only, and only where the key is ours.
    pub(crate) demo: Option<Signer>,
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
    TooMany(&'static str),
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
}

const JWT_KEYS: &str = "SIGNALING_JWT_SECRET, --jwt-secret-file, --jwt-public-key or --jwks";
const API_KEYS: &str = "SIGNALING_API_KEY or --api-key-file";

/// A key for tokens, and the setting that it came from.
enum Key {
    Secret(Secret),
    Pem(String),
    Jwks(String),
}

impl Settings {
    /// The settings of `args`, the first of which is the program's name, and of the environment.
    /// `env` is asked for the variables with secrets alone.
    pub(crate) fn read(
        args: impl IntoIterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, SettingsError> {
        let cli = Cli::try_parse_from(args).map_err(|error| match NoCli::from(error) {
            NoCli::Print(text) => SettingsError::Print(text),
            NoCli::Wrong(line) => SettingsError::CommandLine(line),
        })?;
        if cli.dev && !cli.listen.ip().is_loopback() {
            return Err(SettingsError::Wrong {
                setting: "--listen".to_owned(),
                cause: "--dev listens on a loopback address only, such as 127.0.0.1".to_owned(),
            });
        }
        let config = config(&cli)?;
        let log_filter = EnvFilter::try_new(&cli.log_level)
            .map_err(|error| SettingsError::wrong("--log-level", &error))?;
        if cli.queue_capacity < 2 {
            return Err(SettingsError::Wrong {
                setting: "--queue-capacity".to_owned(),
                cause: "two must be able to wait".to_owned(),
            });
        }
        let http_timeouts = http_timeouts(&cli)?;
        let redis = redis(&cli, &config)?;
        if let Some(name) = &cli.node_id {
            NodeId::generate(Some(name))
                .map_err(|error| SettingsError::wrong("--node-id", &error))?;
        }
        let turn_secret = Secret::from_env(env("SIGNALING_TURN_SECRET"));
        let ice_servers = ice::ice_servers(&cli, turn_secret)?;
        let (authenticator, signer) = tokens(&cli, Secret::from_env(env("SIGNALING_JWT_SECRET")))?;
        let given = api_key(&cli, Secret::from_env(env("SIGNALING_API_KEY")))?;
        let (api_key, made_api_key) = match given {
            Some(key) => (ApiKey::new(&key), None),
            None if cli.dev => {
                let key = random("SIGNALING_API_KEY")?;
                (ApiKey::new(&key), Some(key))
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
            listen: cli.listen,
            authenticator,
            config,
            redis,
            ice_servers,
            node_name: cli.node_id,
            second_connection: cli.second_connection.into(),
            drain_delay,
            drain_timeout: cli.drain_timeout.into(),
            http_timeouts,
            log_format: cli.log_format,
            log_filter,
            dev: cli.dev,
            made_api_key,
            app: AppSettings {
                api_key,
                allowed_origins: cli.allowed_origins,
                queue_capacity: cli.queue_capacity,
                queue_timeout: cli.queue_timeout.into(),
                demo: signer.filter(|_| cli.dev),
            },
        })
    }
}

fn config(cli: &Cli) -> Result<Config, SettingsError> {
    let config = cli.limits.config();
    config.validate().map_err(|error| SettingsError::Wrong {
        setting: format!("--{}", error.setting.replace('_', "-")),
        cause: error.problem.replace('_', "-"),
    })?;
    Ok(config)
}

fn http_timeouts(cli: &Cli) -> Result<Timeouts, SettingsError> {
    let (idle, head, write) =
        (cli.http_idle_timeout, cli.http_head_timeout, cli.http_write_timeout);
    let named = [("idle", idle), ("head", head), ("write", write)];
    match named.iter().find(|(_, timeout)| timeout.0.is_zero()) {
        None => Ok(Timeouts { idle: idle.0, head: head.0, write: write.0 }),
        Some((name, _)) => Err(SettingsError::Wrong {
            setting: format!("--http-{name}-timeout"),
            cause: "may not be zero".to_owned(),
        }),
    }
}

/// Load balancers look every few seconds whether a node is ready.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// What nobody renews, Redis keeps at least this long: nodes may be cut off from it meanwhile.
const MIN_RETENTION: Duration = Duration::from_secs(60 * 60);

fn redis(cli: &Cli, config: &Config) -> Result<Option<signaling_redis::Settings>, SettingsError> {
    let Some(url) = cli.redis_url.as_ref().filter(|url| !url.bytes().is_empty()) else {
        let prefix = cli.redis_prefix.as_ref().filter(|prefix| !prefix.is_empty());
        return match prefix {
            None => Ok(None),
            Some(_) => Err(SettingsError::Wrong {
                setting: "--redis-prefix".to_owned(),
                cause: "there is no --redis-url".to_owned(),
            }),
        };
    };
    let redis = signaling_redis::Settings::url(&url.text())
        .map_err(|error| SettingsError::wrong("--redis-url", &error))?
        .retention(MIN_RETENTION.max(config.abandon_after.saturating_mul(2)));
    let redis = match &cli.redis_prefix {
        Some(prefix) => redis.prefix(prefix),
        None => redis,
    };
    // Of what may be wrong in them, only the prefix is left.
    redis.validate().map_err(|error| SettingsError::wrong("--redis-prefix", &error))?;
    Ok(Some(redis))
}

fn random(setting: &str) -> Result<Secret, SettingsError> {
    Secret::random().map_err(|error| SettingsError::wrong(setting, &error))
}

/// The path is not told: it might be the secret itself.
fn file<T>(
    flag: &str,
    path: &Path,
    read: impl Fn(&Path) -> std::io::Result<T>,
) -> Result<T, SettingsError> {
    let unreadable = |error| SettingsError::Wrong {
        setting: flag.to_owned(),
        cause: format!("the file cannot be read: {error}"),
    };
    read(path).map_err(unreadable)
}

fn api_key(cli: &Cli, from_env: Option<Secret>) -> Result<Option<Secret>, SettingsError> {
    let (setting, key) = match (from_env, &cli.api_key_file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(SettingsError::TooMany(API_KEYS)),
        (Some(key), None) => ("SIGNALING_API_KEY", key),
        (None, Some(path)) => ("--api-key-file", file("--api-key-file", path, Secret::from_file)?),
    };
    // What no header can carry would be a key that nobody has.
    let sendable = !key.bytes().is_empty() && key.bytes().iter().all(u8::is_ascii_graphic);
    match sendable {
        true => Ok(Some(key)),
        false => Err(SettingsError::Wrong {
            setting: setting.to_owned(),
            cause: "a key is made of ASCII letters, digits and signs, without spaces".to_owned(),
        }),
    }
}

fn tokens(
    cli: &Cli,
    from_env: Option<Secret>,
) -> Result<(JwtAuthenticator, Option<Signer>), SettingsError> {
    let mut keys = Vec::new();
    if let Some(secret) = from_env {
        keys.push(("SIGNALING_JWT_SECRET", Key::Secret(secret)));
    }
    if let Some(path) = &cli.jwt_secret_file {
        let flag = "--jwt-secret-file";
        keys.push((flag, Key::Secret(file(flag, path, Secret::from_file)?)));
    }
    let text = |path: &Path| std::fs::read_to_string(path);
    if let Some(path) = &cli.jwt_public_key {
        let flag = "--jwt-public-key";
        keys.push((flag, Key::Pem(file(flag, path, text)?)));
    }
    if let Some(path) = &cli.jwks {
        keys.push(("--jwks", Key::Jwks(file("--jwks", path, text)?)));
    }
    if keys.len() > 1 {
        return Err(SettingsError::TooMany(JWT_KEYS));
    }
    let (setting, key) = match keys.pop() {
        Some(key) => key,
        None if cli.dev => ("--dev", Key::Secret(random("SIGNALING_JWT_SECRET")?)),
        None => return Err(SettingsError::Missing(JWT_KEYS)),
    };
    let authenticator =
        authenticator(cli, &key).map_err(|error| SettingsError::wrong(setting, &error))?;
    let signer = match key {
        Key::Secret(secret) if matches!(cli.jwt_algorithm, None | Some(Algorithm::HS256)) => {
            let (issuer, audience) = (cli.jwt_issuer.clone(), cli.jwt_audience.clone());
            Some(Signer::new(secret, cli.jwt_user_claim.clone(), issuer, audience))
        }
        _ => None,
    };
    Ok((authenticator, signer))
}

fn authenticator(cli: &Cli, key: &Key) -> Result<JwtAuthenticator, JwtConfigError> {
    match (key, cli.jwt_algorithm) {
        (Key::Jwks(json), _) => checks(cli).jwks(json).build(),
        (Key::Secret(secret), algorithm) => {
            let algorithm = algorithm.unwrap_or(Algorithm::HS256);
            checks(cli).key(JwtKey::secret(algorithm, secret.bytes())).build()
        }
        (Key::Pem(pem), Some(algorithm)) => checks(cli).key(JwtKey::pem(algorithm, pem)).build(),
        (Key::Pem(pem), None) => {
            // A key fits one of these; the last error is as good as the first where it fits none.
            let rsa = checks(cli).key(JwtKey::pem(Algorithm::RS256, pem)).build();
            [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA].into_iter().fold(
                rsa,
                |built, algorithm| {
                    built.or_else(|error| {
                        let key = JwtKey::pem(algorithm, pem);
                        checks(cli).key(key).build().map_err(|_| error)
                    })
                },
            )
        }
    }
}

fn checks(cli: &Cli) -> JwtAuthenticatorBuilder {
    let mut builder = JwtAuthenticator::builder().user_claim(&cli.jwt_user_claim);
    if let Some(issuer) = &cli.jwt_issuer {
        builder = builder.issuer(issuer);
    }
    if let Some(audience) = &cli.jwt_audience {
        builder = builder.audience(audience);
    }
    builder
}

#[cfg(test)]
mod tests;
