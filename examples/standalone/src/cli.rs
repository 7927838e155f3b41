//! The command line. Keys have no flags: only the variables and files that `--help` names. Where a
//! file belongs, the secret itself may be given by mistake: those values are not shown either, and
//! nor is the URL of Redis, which may hold a password.

use std::path::PathBuf;

use clap::{
    Parser, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use signaling_core::{jwt::Algorithm, relay::SecondConnection};

use crate::{
    limits::{Limits, Period},
    origin::origin,
    queue::Partners,
    secret::Secret,
};

/// WebRTC signaling server: WebSocket endpoint at /ws/signaling, HTTP API for the matching service
/// under /api, /healthz and /readyz.
#[derive(Debug, Parser)]
#[command(name = "signaling-server", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[arg(
        long,
        help = "Address or name, and port to listen on, such as 0.0.0.0:8080, [::]:8080 or \
                localhost:8080; port 0 takes a free one",
        env = "SIGNALING_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: String,

    /// Development: make the keys that are missing and serve the demonstration page, whose tokens
    /// are signed with a random key; on loopback only
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

    /// Time after that to end all connections when the server is told to end; with --redis-url, two
    /// thirds of it are for clients to move to other nodes, one after the other
    #[arg(long, env = "SIGNALING_DRAIN_TIMEOUT", value_name = "TIME", default_value = "20s")]
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

    /// Which users the queue may match: all who wait, or only those who are connected
    #[arg(long, env = "SIGNALING_QUEUE_PARTNERS", value_name = "PARTNERS", default_value = "all")]
    pub(crate) queue_partners: Partners,

    /// Form of the log, which goes to standard error
    #[arg(long, env = "SIGNALING_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// What to log: a level (error, warn, info, debug, trace, off), or directives such as
    /// warn,signaling_core=debug; info for what they do not name
    #[arg(long, env = "RUST_LOG", value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,

    #[command(flatten, next_help_heading = "Limits and intervals")]
    pub(crate) limits: Limits,
}

const AFTER_HELP: &str = "\
TIME is a number with a unit, ms, s, m or h, such as 500ms, 30s or 2m, or several of them from the
largest to the smallest, such as 1m30s. A number without a unit is seconds. BYTES and N are numbers.

A variable that is empty counts as not set. A flag overrides its variable.

Secrets, from the environment only, or from the files above:
  SIGNALING_JWT_SECRET   Secret that tokens are signed with, at least 32 bytes
  SIGNALING_API_KEY      Key of the HTTP API, at least 32 bytes
  SIGNALING_TURN_SECRET  Secret that the TURN servers share

One of SIGNALING_JWT_SECRET, --jwt-secret-file, --jwt-public-key and --jwks is needed, and one of
SIGNALING_API_KEY and --api-key-file; --dev makes what is missing. With
--turn-url, one of SIGNALING_TURN_SECRET and --turn-secret-file is needed. Line breaks at the end of
a secret are not part of it. SIGHUP reloads the files.";

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
