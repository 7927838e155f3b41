//! The command line. Keys have no flags: only the variables and files that `--help` names. Where a
//! file belongs, the secret itself may be given by mistake: those values are not shown either, and
//! nor is the URL of Redis, which may hold a password.

use std::{net::SocketAddr, path::PathBuf};

use clap::{
    Parser, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
};
use signaling_core::{jwt::Algorithm, relay::SecondConnection};

use crate::{
    limits::{Limits, Period},
    origin::origin,
    secret::Secret,
};

/// WebRTC signaling server: WebSocket endpoint at /ws/signaling, HTTP API for the matching service
/// under /api, /healthz and /readyz.
#[derive(Debug, Parser)]
#[command(name = "signaling-server", version, after_help = SECRETS)]
pub(crate) struct Cli {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(
        long,
        env = "SIGNALING_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: SocketAddr,

    /// Develop: make the keys that are missing, serve the demonstration page; on loopback only
    #[arg(long)]
    pub(crate) dev: bool,

    /// Public key that tokens are signed with, PEM
    #[arg(long, env = "SIGNALING_JWT_PUBLIC_KEY", hide_env_values = true, value_name = "FILE")]
    pub(crate) jwt_public_key: Option<PathBuf>,

    /// JWK set with the keys that tokens are signed with
    #[arg(long, env = "SIGNALING_JWKS", hide_env_values = true, value_name = "FILE")]
    pub(crate) jwks: Option<PathBuf>,

    /// Secret that tokens are signed with
    #[arg(long, env = "SIGNALING_JWT_SECRET_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) jwt_secret_file: Option<PathBuf>,

    /// How tokens are signed [default: HS256 for a secret; RS256, ES256, ES384 or EdDSA by the
    /// type of a public key; a JWK set says so itself]
    #[arg(long, env = "SIGNALING_JWT_ALGORITHM", value_name = "ALGORITHM")]
    pub(crate) jwt_algorithm: Option<Algorithm>,

    /// Issuer that tokens must name
    #[arg(long, env = "SIGNALING_JWT_ISSUER", value_name = "TEXT")]
    pub(crate) jwt_issuer: Option<String>,

    /// Audience that tokens must name
    #[arg(long, env = "SIGNALING_JWT_AUDIENCE", value_name = "TEXT")]
    pub(crate) jwt_audience: Option<String>,

    /// Claim that holds the user id
    #[arg(long, env = "SIGNALING_JWT_USER_CLAIM", value_name = "NAME", default_value = "sub")]
    pub(crate) jwt_user_claim: String,

    /// Key of the HTTP API
    #[arg(long, env = "SIGNALING_API_KEY_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,

    #[arg(
        long = "allowed-origin",
        help = "Origin whose pages may connect, such as https://app.example; repeat it, or separate \
                several by commas [default: all]",
        env = "SIGNALING_ALLOWED_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        value_parser = origin
    )]
    pub(crate) allowed_origins: Vec<String>,

    /// Go on serving for this long when the server is told to end, while /readyz says 503, so that
    /// load balancers send clients elsewhere [default: 5s with --redis-url, else and with --dev 0s]
    #[arg(long, env = "SIGNALING_DRAIN_DELAY", value_name = "TIME")]
    pub(crate) drain_delay: Option<Period>,

    /// Time after that to close all connections when the server is told to end
    #[arg(long, env = "SIGNALING_DRAIN_TIMEOUT", value_name = "TIME", default_value = "10s")]
    pub(crate) drain_timeout: Period,

    /// End an HTTP connection that sends no request for this long; longer than a proxy in front
    /// keeps its own open
    #[arg(long, env = "SIGNALING_HTTP_IDLE_TIMEOUT", value_name = "TIME", default_value = "75s")]
    pub(crate) http_idle_timeout: Period,

    /// Time for the head of a request, from its first byte on
    #[arg(long, env = "SIGNALING_HTTP_HEAD_TIMEOUT", value_name = "TIME", default_value = "10s")]
    pub(crate) http_head_timeout: Period,

    /// End an HTTP connection that takes nothing of its response for this long
    #[arg(long, env = "SIGNALING_HTTP_WRITE_TIMEOUT", value_name = "TIME", default_value = "20s")]
    pub(crate) http_write_timeout: Period,

    #[arg(
        long = "stun-url",
        help = "STUN server that clients of signaling.v1 are told of, such as stun:stun.example; \
                repeat it, or separate several by commas [default: none]",
        env = "SIGNALING_STUN_URL",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub(crate) stun_urls: Vec<String>,

    #[arg(
        long = "turn-url",
        help = "TURN server that clients of signaling.v1 are told of, such as \
                turns:turn.example?transport=tcp; repeat it, or separate several by commas. They \
                get credentials by the secret that it shares: coturn's use-auth-secret [default: \
                none]",
        env = "SIGNALING_TURN_URL",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub(crate) turn_urls: Vec<String>,

    /// Secret that the TURN servers share: coturn's static-auth-secret
    #[arg(long, env = "SIGNALING_TURN_SECRET_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) turn_secret_file: Option<PathBuf>,

    /// How long credentials for TURN hold; clients get new ones in time
    #[arg(long, env = "SIGNALING_TURN_TTL", value_name = "TIME", default_value = "12h")]
    pub(crate) turn_ttl: Period,

    /// Redis that all nodes share, such as redis://user:password@host:6379, or redis-cluster:// or
    /// redis-sentinel://; with a password, better in the variable than on the command line
    /// [default: none, and this node is alone]
    #[arg(
        long,
        env = "SIGNALING_REDIS_URL",
        hide_env_values = true,
        value_name = "URL",
        value_parser = OsStringValueParser::new().map(Secret::from)
    )]
    pub(crate) redis_url: Option<Secret>,

    /// What the names of all keys in Redis begin with; the same for all nodes [default: nothing]
    #[arg(long, env = "SIGNALING_REDIS_PREFIX", value_name = "TEXT")]
    pub(crate) redis_prefix: Option<String>,

    /// Name of this node in records and logs, in front of a random id [default: none]
    #[arg(long, env = "SIGNALING_NODE_ID", value_name = "NAME")]
    pub(crate) node_id: Option<String>,

    /// What becomes of a second connection of a user: it replaces the first, or is refused while
    /// that is there; the same on all nodes
    #[arg(
        long,
        env = "SIGNALING_SECOND_CONNECTION",
        value_name = "POLICY",
        default_value = "replace"
    )]
    pub(crate) second_connection: Policy,

    /// Users who may wait for a partner at once
    #[arg(long, env = "SIGNALING_QUEUE_CAPACITY", value_name = "N", default_value_t = 10_000)]
    pub(crate) queue_capacity: usize,

    /// Forget who waits for a partner and does not ask again for this long
    #[arg(long, env = "SIGNALING_QUEUE_TIMEOUT", value_name = "TIME", default_value = "5m")]
    pub(crate) queue_timeout: Period,

    /// Form of the log, which goes to standard error
    #[arg(long, env = "SIGNALING_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// What to log: a level, or directives such as info,signaling_core=debug
    #[arg(long, env = "RUST_LOG", value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,

    #[command(flatten, next_help_heading = "Limits and intervals")]
    pub(crate) limits: Limits,
}

const SECRETS: &str = "\
Secrets, from the environment only, or from the files above:
  SIGNALING_JWT_SECRET   Secret that tokens are signed with, at least 32 bytes
  SIGNALING_API_KEY      Key of the HTTP API
  SIGNALING_TURN_SECRET  Secret that the TURN servers share

One of SIGNALING_JWT_SECRET, --jwt-secret-file, --jwt-public-key and --jwks is needed, and one of
SIGNALING_API_KEY and --api-key-file; --dev makes what is missing. With
--turn-url, one of SIGNALING_TURN_SECRET and --turn-secret-file is needed.";

/// What becomes of a second connection of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    Replace,
    Refuse,
}

impl From<Policy> for SecondConnection {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Replace => Self::Replace,
            Policy::Refuse => Self::Refuse,
        }
    }
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What the command line asks for instead of a server, or what is wrong with it: one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoCli {
    /// Text to print: `--help` or `--version`.
    Print(String),
    /// What is wrong.
    Wrong(String),
}

impl From<clap::Error> for NoCli {
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Print(error.to_string()),
            // It might be a secret in the wrong place.
            ErrorKind::UnknownArgument => Self::Wrong(unknown_argument(&error)),
            _ => {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                let line = line.strip_prefix("error: ").unwrap_or(line);
                Self::Wrong(line.to_owned())
            }
        }
    }
}

fn unknown_argument(error: &clap::Error) -> String {
    let name = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => name.split('=').next().unwrap_or_default(),
        _ => "",
    };
    match name.starts_with("--") {
        true => format!("there is no flag {name}; see --help"),
        false => "there are only flags that start with --; see --help".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_takes_one_line_and_quotes_no_stray_argument() {
        for (args, expected) in [
            (&["--jwt-secret=hunter2"][..], "there is no flag --jwt-secret; see --help"),
            (&["--jwt-secret", "hunter2"], "there is no flag --jwt-secret; see --help"),
            (&["hunter2"], "there are only flags that start with --; see --help"),
            (&["-hunter2"], ""),
        ] {
            let error = Cli::try_parse_from(["x"].iter().chain(args)).unwrap_err();
            match NoCli::from(error) {
                NoCli::Wrong(line) => assert_eq!(line, expected),
                NoCli::Print(_) => assert_eq!(args, ["-hunter2"], "-h is help"),
            }
        }
        let error = Cli::try_parse_from(["x", "--listen", "nowhere"]).unwrap_err();
        let NoCli::Wrong(line) = error.into() else { panic!("nothing wrong") };
        assert!(line.contains("'nowhere'") && line.contains("--listen"), "{line}");
        assert!(!line.contains('\n'));
    }
}
