//! Where Redis is, and how it is used.

use std::{fmt, time::Duration};

use fred::types::config::{Config, ServerConfig};

use crate::error::ConnectError;

/// Where Redis is and how to use it. Start from [`Settings::url`] or [`Settings::fred`] and set what
/// must differ.
#[derive(Clone)]
#[must_use]
pub struct Settings {
    pub(crate) config: Config,
    pub(crate) prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) retention: Duration,
    pub(crate) inbox_capacity: usize,
    pub(crate) inbox_bytes: usize,
}

/// What the count of an inbox has room for.
const MAX_INBOX_CAPACITY: usize = 1 << 24;
const MAX_INBOX_BYTES: usize = 1 << 34;

/// The schemes of single servers, Cluster and Sentinel, without and with TLS.
const SCHEMES: [(&str, bool); 6] = [
    ("redis", false),
    ("redis-cluster", false),
    ("redis-sentinel", false),
    ("rediss", true),
    ("rediss-cluster", true),
    ("rediss-sentinel", true),
];

impl Settings {
    /// Redis at a URL:
    ///
    /// | URL | for |
    /// | --- | --- |
    /// | `redis://user:password@host:6379/0` | one server, and a database on it |
    /// | `redis-cluster://user:password@host:7000?node=host2:7001&node=host3:7002` | Cluster; one node would do, the others are for its absence |
    /// | `redis-sentinel://user:password@host:26379?sentinelServiceName=mymaster&node=host2:26379` | Sentinel; `sentinelUsername` and `sentinelPassword` where the sentinels want others than the servers |
    ///
    /// User and password may be left out, and are percent-encoded where they hold `@`, `:`, `/` and
    /// the like. `rediss://`, `rediss-cluster://` and `rediss-sentinel://` are the same over TLS
    /// (feature `tls`).
    ///
    /// # Errors
    ///
    /// [`ConnectError::Url`].
    pub fn url(url: &str) -> Result<Self, ConnectError> {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        let Some((_, tls)) = SCHEMES.into_iter().find(|(known, _)| scheme == Some(known)) else {
            return Err(ConnectError::Url(
                "it must begin with redis://, redis-cluster:// or redis-sentinel://, \
                 or with rediss for TLS",
            ));
        };
        if tls && !cfg!(feature = "tls") {
            return Err(ConnectError::Url(
                "this build cannot do TLS (feature `tls` of signaling-redis)",
            ));
        }
        // What is wrong may be part of a password, and is not repeated.
        let config = Config::from_url(url).map_err(|_| {
            ConnectError::Url("it is not of the form scheme://user:password@host:port?options")
        })?;
        Ok(Self::fred(config))
    }

    /// Redis as a host that uses fred itself describes it. Of what the description leaves open,
    /// intervals and queue bounds are set by this crate.
    pub fn fred(config: Config) -> Self {
        Self {
            config,
            prefix: String::new(),
            connect_timeout: Duration::from_secs(8),
            command_timeout: Duration::from_secs(2),
            retention: Duration::from_secs(60 * 60),
            inbox_capacity: 16 * 1024,
            inbox_bytes: 64 * 1024 * 1024,
        }
    }

    /// What the names of all keys begin with, for hosts that share a database. Default: nothing, so
    /// that a session's record is `session:active:{id}`. Braces and control characters are refused.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long [`connect`](crate::Redis::connect) tries to reach Redis. Default 8 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest that a call to the store or the bus takes, attempts after a lost connection
    /// included. Default 2 s: it bridges a cut connection, and is short beside a node's lease.
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// How long what nobody renews is kept, so that nothing stays for ever when all nodes die at
    /// once. Default 1 h. Must be longer than
    /// [`abandon_after`](signaling_core::Config::abandon_after) and than any outage in which nodes
    /// are cut off from a Redis that runs on.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Entries that a node's inbox holds before publishing to it fails; each has up to 16 envelopes
    /// that were published together. Default 16384: some seconds of a busy node. See
    /// [`inbox_bytes`](Self::inbox_bytes) as well: the first bound that is reached counts.
    /// More than 2^24 is taken as 2^24.
    pub fn inbox_capacity(mut self, entries: usize) -> Self {
        self.inbox_capacity = entries.min(MAX_INBOX_CAPACITY);
        self
    }

    /// Bytes of envelopes in a node's inbox that the node has not read yet, before publishing to it
    /// fails. So much memory of Redis each node can take that is frozen or too slow, until it is found
    /// dead. Default 64 MiB: some seconds of a busy node. Set it to 16 MiB or more: what is published
    /// together is up to 128 envelopes, each with a signal, and is refused as a whole where it does
    /// not fit. More than 16 GiB is taken as 16 GiB.
    pub fn inbox_bytes(mut self, bytes: usize) -> Self {
        self.inbox_bytes = bytes.min(MAX_INBOX_BYTES);
        self
    }

    /// Whether [`connect`](crate::Redis::connect) would take these settings, found out without Redis.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Prefix`].
    pub fn validate(&self) -> Result<(), ConnectError> {
        if self.prefix.contains(|c: char| matches!(c, '{' | '}') || c.is_control()) {
            return Err(ConnectError::Prefix);
        }
        Ok(())
    }

    /// Where Redis is, without credentials.
    pub(crate) fn address(&self) -> String {
        let list = |hosts: &[fred::types::config::Server]| {
            hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        match &self.config.server {
            ServerConfig::Centralized { server } => server.to_string(),
            ServerConfig::Clustered { hosts, .. } | ServerConfig::Sentinel { hosts, .. } => {
                list(hosts)
            }
            // Kinds that a host's own features of fred add.
            #[allow(unreachable_patterns, reason = "depends on the features of fred")]
            _ => "its socket".to_owned(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("address", &self.address())
            .field("prefix", &self.prefix)
            .field("command_timeout", &self.command_timeout)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_url_is_understood() {
        for (url, address) in [
            ("redis://10.0.0.1", "10.0.0.1:6379"),
            ("redis://ann:s%40cret@10.0.0.1:1234/3", "10.0.0.1:1234"),
            ("redis-cluster://10.0.0.1:7000?node=10.0.0.2:7001", "10.0.0.2:7001, 10.0.0.1:7000"),
            ("redis-sentinel://10.0.0.1:26379?sentinelServiceName=m", "10.0.0.1:26379"),
        ] {
            assert_eq!(Settings::url(url).unwrap().address(), address);
        }
        let config = Settings::url("redis://ann:s%40cret@10.0.0.1:1234/3").unwrap().config;
        assert_eq!(config.username.as_deref(), Some("ann"));
        assert_eq!(config.password.as_deref(), Some("s@cret"));
        assert_eq!(config.database, Some(3));
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", Settings::url("redis://ann:s3cret@10.0.0.1").unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        for url in
            ["redis//:s3cret@h", "redis://ann:s3cret@h:port", "http://ann:s3cret@h", "s3cret"]
        {
            let error = Settings::url(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn tls_is_not_left_out_in_silence() {
        assert!(matches!(Settings::url("rediss://10.0.0.1"), Err(ConnectError::Url(_))));
    }
}
