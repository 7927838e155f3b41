//! What can go wrong before there is a connection.

use std::time::Duration;

/// Why there is no connection to Redis. No password is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL cannot be understood, or asks for TLS in a build without the feature `tls`.
    #[error("the Redis URL is invalid: {0}")]
    Url(&'static str),
    /// The prefix holds a brace or a control character.
    #[error("the key prefix may not hold braces or control characters")]
    Prefix,
    /// The server refuses the user or the password.
    #[error("Redis at {at} refuses the credentials")]
    Refused {
        /// Where.
        at: String,
        /// What it said.
        #[source]
        cause: fred::error::Error,
    },
    /// Nobody answers there, or nobody that could serve.
    #[error("Redis at {at} was not reached within {} s", .within.as_secs_f32())]
    Unreachable {
        /// Where.
        at: String,
        /// How long it was tried.
        within: Duration,
        /// The last attempt's failure.
        #[source]
        cause: fred::error::Error,
    },
    /// The server lacks commands that are needed.
    #[error("Redis at {at} is version {version}, and 6.2 is the oldest that will do")]
    TooOld {
        /// Where.
        at: String,
        /// What it is.
        version: String,
    },
}
