//! A flag for each limit and interval of the library, with the library's own default.

use std::{fmt, str::FromStr, time::Duration};

use clap::Args;
use signaling_core::Config;

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident: $kind:ident $value_name:literal $env:literal;)*) => {
        /// What `--help` lists under "Limits and intervals".
        #[derive(Debug, Clone, Args)]
        pub(crate) struct Limits {
            $(
                $(#[$doc])*
                #[arg(
                    long,
                    env = $env,
                    value_name = $value_name,
                    default_value_t = $kind::from(Config::default().$field)
                )]
                $field: $kind,
            )*
        }

        impl Limits {
            /// The library's configuration; whether it makes sense, the library says.
            pub(crate) fn config(&self) -> Config {
                let mut config = Config::default();
                $(config.$field = self.$field.into();)*
                config
            }
        }
    };
}

limits! {
    /// Close a connection without a heartbeat for this long
    heartbeat_timeout: Period "TIME" "SIGNALING_HEARTBEAT_TIMEOUT";
    /// Ping each connection this often
    ping_interval: Period "TIME" "SIGNALING_PING_INTERVAL";
    /// Drop a connection from which nothing came for this long, not even a pong
    silence_timeout: Period "TIME" "SIGNALING_SILENCE_TIMEOUT";
    /// Largest frame accepted
    max_frame_bytes: usize "BYTES" "SIGNALING_MAX_FRAME_BYTES";
    /// Signals accepted from one user per second; 0 lifts the limit
    max_signals_per_second: u32 "N" "SIGNALING_MAX_SIGNALS_PER_SECOND";
    /// Signals accepted at once before the rate counts
    signal_burst: u32 "N" "SIGNALING_SIGNAL_BURST";
    /// Bytes of signals accepted from one user per second; 0 lifts the limit
    max_signal_bytes_per_second: u32 "BYTES" "SIGNALING_MAX_SIGNAL_BYTES_PER_SECOND";
    /// Bytes of signals accepted at once before the rate counts
    signal_byte_burst: u32 "BYTES" "SIGNALING_SIGNAL_BYTE_BURST";
    /// Connections accepted from one user per minute; 0 lifts the limit
    max_connects_per_minute: u32 "N" "SIGNALING_MAX_CONNECTS_PER_MINUTE";
    /// Connections accepted from one user at once before the rate counts
    connect_burst: u32 "N" "SIGNALING_CONNECT_BURST";
    /// Malformed messages in a row that close a connection
    max_malformed: u32 "N" "SIGNALING_MAX_MALFORMED";
    /// Messages waiting for one client; a session may hold as many as there is room for
    max_queued_messages: usize "N" "SIGNALING_MAX_QUEUED_MESSAGES";
    /// Bytes waiting for one client, shared in the same way
    max_queued_bytes: usize "BYTES" "SIGNALING_MAX_QUEUED_BYTES";
    /// Close a connection that takes nothing of what waits for it for this long
    write_timeout: Period "TIME" "SIGNALING_WRITE_TIMEOUT";
    /// Signals of one connection kept for partners that have not connected yet
    max_kept_signals: usize "N" "SIGNALING_MAX_KEPT_SIGNALS";
    /// Bytes of one connection kept for partners that have not connected yet
    max_kept_bytes: usize "BYTES" "SIGNALING_MAX_KEPT_BYTES";
    /// End a session when a participant stays away for this long
    abandon_after: Period "TIME" "SIGNALING_ABANDON_AFTER";
    /// Sessions that one user may be in at once
    max_sessions_per_user: usize "N" "SIGNALING_MAX_SESSIONS_PER_USER";
    /// Gather heartbeats for this long before they are stored
    heartbeat_batch: Period "TIME" "SIGNALING_HEARTBEAT_BATCH";
    /// Wait this long for a client's close frame
    close_wait: Period "TIME" "SIGNALING_CLOSE_WAIT";
    /// Remember for this long that tokens were revoked; no shorter than they live
    revocation_lifetime: Period "TIME" "SIGNALING_REVOCATION_LIFETIME";
    /// Wait this long for the STUN and TURN servers of a client
    ice_server_timeout: Period "TIME" "SIGNALING_ICE_SERVER_TIMEOUT";
    /// Connections accepted; 0 for no limit
    max_connections: Cap "N" "SIGNALING_MAX_CONNECTIONS";
    /// How long this node counts as alive for the others after its last word
    node_lease: Period "TIME" "SIGNALING_NODE_LEASE";
    /// How often this node says that it is alive
    node_renewal: Period "TIME" "SIGNALING_NODE_RENEWAL";
    /// How often to look for sessions to end
    sweep_interval: Period "TIME" "SIGNALING_SWEEP_INTERVAL";
    /// Messages waiting to be sent to one other node; a session may hold as many as there is room for
    max_node_queue: usize "N" "SIGNALING_MAX_NODE_QUEUE";
    /// Bytes waiting to be sent to one other node, shared in the same way
    max_node_queue_bytes: usize "BYTES" "SIGNALING_MAX_NODE_QUEUE_BYTES";
    /// Events kept for a reader that is behind
    event_capacity: usize "N" "SIGNALING_EVENT_CAPACITY";
}

/// A time on the command line: `30s`, `500ms`, `2m`, `1h`, several of them as in `1m30s`, or plain
/// seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period(pub(crate) Duration);

/// Not a [`Period`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time such as 30s, 500ms, 2m, 1h or 1m30s, of 8760h at most")]
pub(crate) struct NoPeriod;

impl Period {
    /// Longer ones are a mistake, and clocks count on from now without overflow.
    const MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
}

impl FromStr for Period {
    type Err = NoPeriod;

    fn from_str(text: &str) -> Result<Self, NoPeriod> {
        match duration(text)? {
            period if period <= Self::MAX => Ok(Self(period)),
            _ => Err(NoPeriod),
        }
    }
}

fn duration(text: &str) -> Result<Duration, NoPeriod> {
    if let Ok(seconds) = text.parse::<u64>()
        && !text.starts_with('+')
    {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut rest, mut total, mut larger) = (text, Duration::ZERO, u64::MAX);
    while !rest.is_empty() {
        let number = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        rest = &rest[number.len()..];
        let unit = rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
        rest = &rest[unit.len()..];
        let unit_millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            _ => return Err(NoPeriod),
        };
        // From the largest unit to the smallest, each at most once.
        if unit_millis >= larger {
            return Err(NoPeriod);
        }
        larger = unit_millis;
        let number: u64 = number.parse().map_err(|_| NoPeriod)?;
        let part = number.checked_mul(unit_millis).map(Duration::from_millis);
        total = part.and_then(|part| total.checked_add(part)).ok_or(NoPeriod)?;
    }
    match larger {
        u64::MAX => Err(NoPeriod),
        _ => Ok(total),
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{}s", self.0.as_secs()),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

/// A limit that 0 lifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cap(Option<usize>);

impl FromStr for Cap {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Some(text.parse()?).filter(|&cap| cap > 0)))
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.unwrap_or(0))
    }
}

impl From<Option<usize>> for Cap {
    fn from(cap: Option<usize>) -> Self {
        Self(cap)
    }
}

impl From<Cap> for Option<usize> {
    fn from(cap: Cap) -> Self {
        cap.0
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct OnlyLimits {
        #[command(flatten)]
        limits: Limits,
    }

    fn config(args: &[&str]) -> Config {
        let args = ["test"].iter().chain(args);
        OnlyLimits::try_parse_from(args).unwrap().limits.config()
    }

    #[test]
    fn without_flags_the_library_decides() {
        assert_eq!(config(&[]), Config::default());
    }

    #[test]
    fn every_limit_of_the_library_has_its_flag_and_variable() {
        let fields = format!("{:#?}", Config::default());
        let fields = fields.lines().filter_map(|line| line.split_once(": "));
        // Of code that this server does not have.
        let fields = fields.map(|(name, _)| name.trim()).filter(|name| *name != "hook_timeout");
        let fields: Vec<_> = fields.map(str::to_owned).collect();
        assert!(fields.len() > 15, "{fields:?}");
        let command = OnlyLimits::command();
        for field in fields {
            let flag = command.get_arguments().find(|arg| arg.get_id() == field.as_str());
            let flag = flag.unwrap_or_else(|| panic!("no flag for {field}"));
            let variable = format!("SIGNALING_{}", field.to_uppercase());
            assert_eq!(flag.get_env().unwrap(), variable.as_str());
        }
    }

    #[test]
    fn zero_lifts_the_limits_that_can_be_lifted() {
        let config = config(&["--max-signals-per-second", "0", "--max-connections", "0"]);
        assert_eq!(config.max_signals_per_second, 0);
        assert_eq!(config.max_connections, None);
        assert_eq!(self::config(&["--max-connections", "7"]).max_connections, Some(7));
    }

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("30s", 30_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("7", 7_000),
            ("0", 0),
            ("1m30s", 90_000),
            ("1h1m1s1ms", 3_661_001),
            ("2h5ms", 7_200_005),
        ] {
            assert_eq!(text.parse(), Ok(Period(Duration::from_millis(millis))), "{text}");
        }
        for text in [
            "",
            "s",
            "-1s",
            "+1",
            "1.5s",
            "1 s",
            "1d",
            "1m30",
            "30s1m",
            "1s1s",
            "1m 30s",
            "1S",
            "99999999999999999999s",
            "9999999999999999999h",
            "8761h",
            "99999999999",
        ] {
            assert_eq!(text.parse::<Period>(), Err(NoPeriod), "{text}");
        }
        for text in ["30s", "1500ms"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
    }
}
