//! Why a connection or a session ended, and what a participant is told of its partner's absence.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::frame::{CloseCode, TransportError};

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The client closed it.
    Left,
    /// The transport broke.
    Lost,
    /// No heartbeat came in time.
    HeartbeatTimeout,
    /// Nothing at all came in time, not even a pong.
    Silent,
    /// A newer connection of the same user is there.
    Replaced,
    /// Another connection of the same user was there, and stays.
    AlreadyConnected,
    /// The host did not let it in.
    Refused,
    /// The host wanted it gone.
    ByHost,
    /// The token expired.
    TokenExpired,
    /// The host revoked the token.
    Revoked,
    /// The client did not read what was sent to it.
    ReadsTooSlowly,
    /// Too many malformed messages came in a row.
    Malformed,
    /// Too many signals came.
    RateLimited,
    /// A frame was larger than is accepted.
    FrameTooLarge,
    /// A text was not UTF-8.
    InvalidText,
    /// The peer broke the transport's rules.
    ProtocolError,
    /// The node shuts down.
    ShuttingDown,
    /// The node has as many connections as it may.
    NodeFull,
    /// The store was not there to admit it.
    StoreUnavailable,
    /// The host did not say in time whether it may be admitted.
    HookTimeout,
    /// A fault of this server.
    Internal,
    /// Its node died, or could not be told from a dead one.
    NodeLost,
}

impl DisconnectReason {
    /// Its name for logs and other programs: that of the variant in kebab-case, such as
    /// `heartbeat-timeout`. It is stable: a later version may add names, and changes none.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Lost => "lost",
            Self::HeartbeatTimeout => "heartbeat-timeout",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
            Self::AlreadyConnected => "already-connected",
            Self::Refused => "refused",
            Self::ByHost => "by-host",
            Self::TokenExpired => "token-expired",
            Self::Revoked => "revoked",
            Self::ReadsTooSlowly => "reads-too-slowly",
            Self::Malformed => "malformed",
            Self::RateLimited => "rate-limited",
            Self::FrameTooLarge => "frame-too-large",
            Self::InvalidText => "invalid-text",
            Self::ProtocolError => "protocol-error",
            Self::ShuttingDown => "shutting-down",
            Self::NodeFull => "node-full",
            Self::StoreUnavailable => "store-unavailable",
            Self::HookTimeout => "hook-timeout",
            Self::Internal => "internal",
            Self::NodeLost => "node-lost",
        }
    }

    /// With which code to close; none where there is nobody to tell.
    #[must_use]
    pub const fn close_code(self) -> Option<CloseCode> {
        match self {
            Self::Lost | Self::NodeLost => None,
            Self::Left | Self::ByHost => Some(CloseCode::Normal),
            Self::HeartbeatTimeout | Self::Silent => Some(CloseCode::HeartbeatTimeout),
            Self::Replaced => Some(CloseCode::Replaced),
            Self::AlreadyConnected => Some(CloseCode::AlreadyConnected),
            Self::Refused => Some(CloseCode::Refused),
            Self::TokenExpired => Some(CloseCode::Unauthorized),
            Self::Revoked => Some(CloseCode::Revoked),
            Self::ReadsTooSlowly => Some(CloseCode::TooSlow),
            Self::Malformed => Some(CloseCode::Malformed),
            Self::RateLimited => Some(CloseCode::RateLimited),
            Self::FrameTooLarge => Some(CloseCode::TooLarge),
            Self::InvalidText => Some(CloseCode::InvalidText),
            Self::ProtocolError => Some(CloseCode::ProtocolError),
            Self::ShuttingDown => Some(CloseCode::GoingAway),
            Self::NodeFull | Self::StoreUnavailable | Self::HookTimeout => {
                Some(CloseCode::Unavailable)
            }
            Self::Internal => Some(CloseCode::Internal),
        }
    }
}

/// Shows [`DisconnectReason::as_str`].
impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&TransportError> for DisconnectReason {
    fn from(error: &TransportError) -> Self {
        match error {
            TransportError::TooLarge => Self::FrameTooLarge,
            TransportError::InvalidText => Self::InvalidText,
            TransportError::Protocol(_) => Self::ProtocolError,
            TransportError::TooManyFrames => Self::RateLimited,
            TransportError::Lost(_) => Self::Lost,
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// A participant hung up.
    Left,
    /// The host ended it.
    ByHost,
    /// A participant stayed away too long.
    Abandoned,
}

impl EndReason {
    /// Its name for logs and other programs: `left`, `by-host` or `abandoned`. It is stable: a later
    /// version may add names, and changes none.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::ByHost => "by-host",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Shows [`EndReason::as_str`].
impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a participant's partner is gone, as the participant is told.
///
/// It is the reason of what the participant is told of, the newest where several came at once: one
/// that hears nothing of a loss before its partner is back on another connection is told why that
/// partner's last connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PartnerReason {
    /// It sent `leave`, or closed its connection by a close frame.
    Left,
    /// Its connection broke, its node died, or its server closed it for another reason than those
    /// below.
    Lost,
    /// It sent no heartbeat, or nothing at all, in time; or it stayed away for too long.
    Timeout,
    /// A newer connection of the same user took over.
    Replaced,
    /// The host ended the session or disconnected the user; also where all that is known is that the
    /// session has ended, and for a user that left it itself, on a connection before this one.
    Ended,
}

impl PartnerReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Left, Self::Lost, Self::Timeout, Self::Replaced, Self::Ended];

    /// Its name on the wire and in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
            Self::Replaced => "replaced",
            Self::Ended => "ended",
        }
    }
}

impl From<DisconnectReason> for PartnerReason {
    /// What the partner of a connection that ended for `reason` is told.
    fn from(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::Left => Self::Left,
            DisconnectReason::HeartbeatTimeout | DisconnectReason::Silent => Self::Timeout,
            DisconnectReason::Replaced => Self::Replaced,
            DisconnectReason::ByHost | DisconnectReason::Revoked => Self::Ended,
            DisconnectReason::Lost
            | DisconnectReason::AlreadyConnected
            | DisconnectReason::Refused
            | DisconnectReason::HookTimeout
            | DisconnectReason::TokenExpired
            | DisconnectReason::ReadsTooSlowly
            | DisconnectReason::Malformed
            | DisconnectReason::RateLimited
            | DisconnectReason::FrameTooLarge
            | DisconnectReason::InvalidText
            | DisconnectReason::ProtocolError
            | DisconnectReason::ShuttingDown
            | DisconnectReason::NodeFull
            | DisconnectReason::StoreUnavailable
            | DisconnectReason::Internal
            | DisconnectReason::NodeLost => Self::Lost,
        }
    }
}

impl From<EndReason> for PartnerReason {
    /// What a participant of a session that ended for `reason` is told, unless it was told of an
    /// absence before.
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Left => Self::Left,
            EndReason::ByHost => Self::Ended,
            EndReason::Abandoned => Self::Timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_variants_in_kebab_case() {
        use DisconnectReason as D;
        let reasons = [
            D::Left,
            D::HeartbeatTimeout,
            D::AlreadyConnected,
            D::ByHost,
            D::ReadsTooSlowly,
            D::StoreUnavailable,
            D::NodeLost,
        ];
        let reasons = reasons.map(|reason| (format!("{reason:?}"), reason.to_string()));
        let ends = [EndReason::Left, EndReason::ByHost, EndReason::Abandoned];
        let ends = ends.map(|reason| (format!("{reason:?}"), reason.to_string()));
        for (variant, name) in reasons.into_iter().chain(ends) {
            let mut kebab = String::new();
            for c in variant.chars() {
                if c.is_uppercase() && !kebab.is_empty() {
                    kebab.push('-');
                }
                kebab.extend(c.to_lowercase());
            }
            assert_eq!(name, kebab);
        }
    }

    #[test]
    fn what_partners_are_told_follows_from_what_happened() {
        use PartnerReason::{Ended, Left, Lost, Replaced, Timeout};
        for (reason, told) in [
            (DisconnectReason::Left, Left),
            (DisconnectReason::Lost, Lost),
            (DisconnectReason::NodeLost, Lost),
            (DisconnectReason::ShuttingDown, Lost),
            (DisconnectReason::TokenExpired, Lost),
            (DisconnectReason::ReadsTooSlowly, Lost),
            (DisconnectReason::HeartbeatTimeout, Timeout),
            (DisconnectReason::Silent, Timeout),
            (DisconnectReason::Replaced, Replaced),
            (DisconnectReason::ByHost, Ended),
        ] {
            assert_eq!(PartnerReason::from(reason), told, "{reason:?}");
        }
        for (reason, told) in
            [(EndReason::Left, Left), (EndReason::Abandoned, Timeout), (EndReason::ByHost, Ended)]
        {
            assert_eq!(PartnerReason::from(reason), told, "{reason:?}");
        }
    }
}
