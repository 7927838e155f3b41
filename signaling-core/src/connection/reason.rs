//! What participants are told of why their partner is gone.

use super::DisconnectReason;
use crate::{protocol::PartnerReason, session::EndReason};

impl From<DisconnectReason> for PartnerReason {
    /// What the partner of a connection that ended for `reason` is told.
    fn from(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::Left => Self::Left,
            DisconnectReason::HeartbeatTimeout | DisconnectReason::Silent => Self::Timeout,
            DisconnectReason::Replaced => Self::Replaced,
            DisconnectReason::ByHost => Self::Ended,
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
