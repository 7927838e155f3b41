//! Every limit and interval, in one place.

use std::time::Duration;

/// The limits and intervals of a [`Relay`](crate::Relay). Start from [`Config::default`] and set
/// what must differ.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// A connection from which no heartbeat came for this long is closed with 4408. A process
    /// that was suspended first reads what was sent in time. Default 30 s: clients send one every 10 s,
    /// so two may be lost.
    pub heartbeat_timeout: Duration,
    /// How often a connection is pinged. Default 10 s: three chances before the silence limit, and
    /// often enough to keep the state of NATs and proxies alive.
    pub ping_interval: Duration,
    /// A connection from which nothing at all came for this long is dead. Default 25 s: with the
    /// work that follows still under the 30 s in which a partner must learn of it.
    pub silence_timeout: Duration,
    /// The largest frame accepted, in bytes; a larger one closes with 1009. Default 64 KiB: ten
    /// times a session description with audio and video.
    pub max_frame_bytes: usize,
    /// Signals accepted from one user on this node, per second; 0 lifts the limit. Default 50: a
    /// call set-up is some 20 signals within a second. What is beyond gets the error
    /// `rate-limited`; a client that has as much again refused is closed with 4429. Heartbeats,
    /// leaves, pings and pongs together have the same limit, apart from signals; a heartbeat beyond
    /// it still proves life. A new connection of the user goes on with what the last one has left.
    pub max_signals_per_second: u32,
    /// Signals that may come at once before the rate counts. Default 200: several calls set up at
    /// the same time, with many network interfaces.
    pub signal_burst: u32,
    /// Bytes of signals accepted from one user on this node, per second; 0 lifts the limit. Default
    /// 64 KiB: a call set-up is some 20 KiB. What is beyond gets the error `rate-limited`.
    pub max_signal_bytes_per_second: u32,
    /// Bytes of signals that may come at once before the rate counts; at least
    /// [`Self::max_frame_bytes`]. Default 512 KiB: the descriptions of several calls at the same
    /// time.
    pub signal_byte_burst: u32,
    /// Connections accepted from one user on this node, per minute; 0 lifts the limit. Default 60:
    /// each tells the user's partners that it has come and gone. What is beyond is closed with 4429
    /// before the store is asked.
    pub max_connects_per_minute: u32,
    /// Connections that one user may open at once before the rate counts. Default 20: a page that
    /// is reloaded again and again, and a network that comes and goes.
    pub connect_burst: u32,
    /// Malformed messages in a row that close with 4400. Default 16: a client that is merely
    /// newer than the server sends valid ones between.
    pub max_malformed: u32,
    /// Signals waiting to be written to one connection. A session may hold as many of them as there
    /// is still room for: one session half of the queue, ten an eleventh each. A signal beyond that
    /// is refused to its sender with `rate-limited`. Default 512: one session can hold
    /// [`Self::signal_burst`].
    ///
    /// As much again may wait of what is not a signal: answers to the client's own messages and
    /// news of its sessions. Beyond that the connection is closed with 4413.
    pub max_queued_messages: usize,
    /// Bytes of signals waiting to be written to one connection, shared in the same way. Default
    /// 1 MiB: one session can hold [`Self::signal_byte_burst`]. What a message needs beside its
    /// text, some 200 bytes, does not count.
    pub max_queued_bytes: usize,
    /// How long a connection may take nothing of what waits for it before it is closed with 4413.
    /// Default 10 s: a client on a bad network that still reads takes one frame of
    /// [`Self::max_frame_bytes`] in that time at 52 kbit/s.
    pub write_timeout: Duration,
    /// Signals of one connection kept for partners that have not connected yet, in all its sessions
    /// together, before the sender is told that its partner is absent. Default 128: an offer and
    /// its candidates in each of several sessions.
    pub max_kept_signals: usize,
    /// Bytes of the signals that one connection has kept, likewise. Default 256 KiB: eight large
    /// descriptions and their candidates.
    pub max_kept_bytes: usize,
    /// How long a participant may stay away before its session ends. Default 60 s: time for a
    /// page to reload and a phone to change networks.
    pub abandon_after: Duration,
    /// Sessions that one user may be in at once. Default 8: small group calls in a mesh.
    pub max_sessions_per_user: usize,
    /// How long heartbeats are gathered before they are written to the store. Default 500 ms: the
    /// store is at most 1 s behind.
    pub heartbeat_batch: Duration,
    /// How long a closing connection waits for the peer's close frame. Default 2 s: a round trip
    /// on a bad network.
    pub close_wait: Duration,
    /// How long the host's own code may take to say whether a connection is admitted or a session
    /// opened, for each question. Default 5 s: an HTTP request that is made twice. A connection whose
    /// questions outlast [`Self::silence_timeout`] is closed by that.
    pub hook_timeout: Duration,
    /// How long a [revocation](crate::Relay::revoke) is remembered. Default 30 days: no shorter than tokens live,
    /// or those that were revoked are accepted again.
    pub revocation_lifetime: Duration,
    /// How long an [`IceServerProvider`](crate::ice::IceServerProvider) may take for an answer.
    /// Default 2 s: for so long a new client may wait for its `match-found`; one that negotiated
    /// nothing never does.
    pub ice_server_timeout: Duration,
    /// Connections that this node accepts, those included that are closing and wait for the peer's
    /// close frame; more are closed at once with 4503. An eighth of that many more, at least 16, may
    /// wait for their close frame; beyond that it is sent and not waited for. Default none: the
    /// open-file limit of the process is the host's to know.
    pub max_connections: Option<usize>,
    /// How long this node counts as alive for the others after it last renewed its lease. Default 15 s:
    /// a dead node is noticed in little more, and short outages of the store are bridged.
    pub node_lease: Duration,
    /// How often this node renews its lease, and so finds out whether the store serves it and the other
    /// nodes are alive. Default 200 ms: [`Relay::is_ready`](crate::Relay::is_ready) follows the store
    /// within this and 1.6 s.
    pub node_renewal: Duration,
    /// How often this node looks for sessions whose participant stayed away too long. Default 1 s:
    /// that much later than [`Self::abandon_after`] a session may end.
    pub sweep_interval: Duration,
    /// Messages waiting to be sent to one other node, those included that are on their way to the
    /// bus. A session may hold as many of them as there is still room for, as of
    /// [`Self::max_queued_messages`]; a signal beyond that is refused to its sender with
    /// `rate-limited`. Other news is dropped when the queue is full, and that node looks its
    /// sessions up. Default 4096: half a second of a busy node.
    pub max_node_queue: usize,
    /// Bytes of signals and of hosts' metadata waiting to be sent to one other node, shared in the
    /// same way; at least [`Self::max_frame_bytes`]. Default 8 MiB: what 16 users may send at once.
    pub max_node_queue_bytes: usize,
    /// Events kept for a host that does not read them. Default 1024; after that the oldest are
    /// dropped, and the host is told how many. The memory for them, some 200 bytes each, is taken at
    /// the start; events of a session's opening and end hold its metadata as well.
    pub event_capacity: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(25),
            max_frame_bytes: 64 * 1024,
            max_signals_per_second: 50,
            signal_burst: 200,
            max_signal_bytes_per_second: 64 * 1024,
            signal_byte_burst: 512 * 1024,
            max_connects_per_minute: 60,
            connect_burst: 20,
            max_malformed: 16,
            max_queued_messages: 512,
            max_queued_bytes: 1024 * 1024,
            write_timeout: Duration::from_secs(10),
            max_kept_signals: 128,
            max_kept_bytes: 256 * 1024,
            abandon_after: Duration::from_secs(60),
            max_sessions_per_user: 8,
            heartbeat_batch: Duration::from_millis(500),
            close_wait: Duration::from_secs(2),
            hook_timeout: Duration::from_secs(5),
            revocation_lifetime: Duration::from_secs(30 * 24 * 3600),
            ice_server_timeout: Duration::from_secs(2),
            max_connections: None,
            node_lease: Duration::from_secs(15),
            node_renewal: Duration::from_millis(200),
            sweep_interval: Duration::from_secs(1),
            max_node_queue: 4096,
            max_node_queue_bytes: 8 * 1024 * 1024,
            event_capacity: 1024,
        }
    }
}

/// The longest queue that may be asked for: some have their memory from the start.
const MAX_QUEUE: usize = 1 << 20;
/// The longest time that may be asked for: clocks count on from now without overflow.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A setting that no relay could work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {problem}")]
pub struct ConfigError {
    /// The field of [`Config`].
    pub setting: &'static str,
    /// What is wrong with its value.
    pub problem: &'static str,
}

impl Config {
    /// Checks that the settings can work together.
    ///
    /// # Errors
    ///
    /// Names the first setting that is zero where it may not be, larger than any use of it (a time of
    /// over 365 days), or out of line with another.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("heartbeat_timeout", !self.heartbeat_timeout.is_zero()),
            ("ping_interval", !self.ping_interval.is_zero()),
            ("silence_timeout", !self.silence_timeout.is_zero()),
            ("max_frame_bytes", self.max_frame_bytes > 0),
            ("signal_burst", self.signal_burst > 0),
            ("signal_byte_burst", self.signal_byte_burst > 0),
            ("connect_burst", self.connect_burst > 0),
            ("max_malformed", self.max_malformed > 0),
            ("max_queued_messages", self.max_queued_messages > 0),
            ("max_queued_bytes", self.max_queued_bytes > 0),
            ("write_timeout", !self.write_timeout.is_zero()),
            ("max_sessions_per_user", self.max_sessions_per_user > 0),
            ("heartbeat_batch", !self.heartbeat_batch.is_zero()),
            ("hook_timeout", !self.hook_timeout.is_zero()),
            ("revocation_lifetime", !self.revocation_lifetime.is_zero()),
            ("ice_server_timeout", !self.ice_server_timeout.is_zero()),
            ("node_renewal", !self.node_renewal.is_zero()),
            ("sweep_interval", !self.sweep_interval.is_zero()),
            ("max_node_queue", self.max_node_queue > 0),
            ("event_capacity", self.event_capacity > 0),
        ];
        if let Some((setting, _)) = at_least_one.iter().find(|(_, ok)| !ok) {
            return Err(ConfigError { setting, problem: "may not be zero" });
        }
        let durations = [
            ("heartbeat_timeout", self.heartbeat_timeout),
            ("ping_interval", self.ping_interval),
            ("silence_timeout", self.silence_timeout),
            ("write_timeout", self.write_timeout),
            ("abandon_after", self.abandon_after),
            ("heartbeat_batch", self.heartbeat_batch),
            ("close_wait", self.close_wait),
            ("hook_timeout", self.hook_timeout),
            ("revocation_lifetime", self.revocation_lifetime),
            ("ice_server_timeout", self.ice_server_timeout),
            ("node_lease", self.node_lease),
            ("node_renewal", self.node_renewal),
            ("sweep_interval", self.sweep_interval),
        ];
        if let Some((setting, _)) = durations.iter().find(|(_, time)| *time > MAX_DURATION) {
            return Err(ConfigError { setting, problem: "may not be over 365 days" });
        }
        let bounded =
            [("max_node_queue", self.max_node_queue), ("event_capacity", self.event_capacity)];
        if let Some((setting, _)) = bounded.iter().find(|(_, length)| *length > MAX_QUEUE) {
            return Err(ConfigError { setting, problem: "may not be over 1048576" });
        }
        let hold_a_frame = [
            ("signal_byte_burst", self.signal_byte_burst as usize),
            ("max_node_queue_bytes", self.max_node_queue_bytes),
        ];
        if let Some((setting, _)) = hold_a_frame.iter().find(|(_, it)| *it < self.max_frame_bytes) {
            let problem = "must be at least max_frame_bytes, or the largest could never be relayed";
            return Err(ConfigError { setting, problem });
        }
        if self.ping_interval >= self.silence_timeout {
            let problem = "must be shorter than silence_timeout, or idle clients would be cut off";
            return Err(ConfigError { setting: "ping_interval", problem });
        }
        if self.node_renewal * 2 > self.node_lease {
            let problem = "must be at least twice node_renewal, or one late renewal loses it";
            return Err(ConfigError { setting: "node_lease", problem });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let named = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err().setting
        };
        assert_eq!(named(|c| c.heartbeat_timeout = Duration::ZERO), "heartbeat_timeout");
        assert_eq!(named(|c| c.ice_server_timeout = Duration::ZERO), "ice_server_timeout");
        assert_eq!(named(|c| c.max_queued_messages = 0), "max_queued_messages");
        assert_eq!(named(|c| c.event_capacity = usize::MAX), "event_capacity");
        assert_eq!(named(|c| c.signal_byte_burst = 1000), "signal_byte_burst");
        assert_eq!(named(|c| c.connect_burst = 0), "connect_burst");
        assert_eq!(named(|c| c.write_timeout = Duration::ZERO), "write_timeout");
        assert_eq!(named(|c| c.max_node_queue_bytes = 1000), "max_node_queue_bytes");
        assert_eq!(named(|c| c.write_timeout = Duration::MAX), "write_timeout");
        assert_eq!(named(|c| c.node_renewal = Duration::MAX), "node_renewal");
        assert_eq!(named(|c| c.abandon_after = MAX_DURATION * 2), "abandon_after");
        assert_eq!(named(|c| c.ping_interval = c.silence_timeout), "ping_interval");
        assert_eq!(named(|c| c.node_lease = Duration::from_millis(399)), "node_lease");
    }
}
