//! What connections tell each other, on one node or between nodes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    frame::{CloseReason, Text},
    id::{ConnectionId, SessionId, UserId},
    protocol::{ErrorCode, SignalKind},
    reason::PartnerReason,
    session::SessionRecord,
    time::Timestamp,
};

/// What one connection, or a node on behalf of the host, tells another connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "kebab-case")]
pub(crate) enum Notice {
    /// A session was opened for the connection's user.
    Opened(Arc<SessionRecord>),
    /// This is the session now, as far as the sender knows.
    Changed(Arc<SessionRecord>),
    /// The partner's connection has ended; the record that says so may follow.
    Detached {
        /// In which session.
        session: SessionId,
        /// The connection that has ended.
        connection: ConnectionId,
        /// Why.
        reason: PartnerReason,
    },
    /// The session has ended.
    Ended {
        /// Which one.
        session: SessionId,
        /// Its [`first_opening`](SessionRecord::first_opening).
        first_opening: u64,
        /// Why, for who has not been told of an absence.
        reason: PartnerReason,
    },
    /// A signal of the partner.
    Signal(RelayedSignal),
    /// How far the connection's signals came, and so that later ones are missing if there are any.
    Received {
        /// In which session.
        session: SessionId,
        /// In which negotiation.
        negotiation: u64,
        /// The number of the last that arrived without a gap.
        seq: u64,
        /// The number of the next that did; none where that is not known.
        before: Option<u64>,
        /// Why later ones are missing.
        reason: LossReason,
        /// The sender wants to know the same of its own signals.
        answer: bool,
    },
    /// A newer connection of the same user is there.
    Replaced,
    /// A newer connection of the user was refused because of this one, or replaced it and failed before its
    /// admission. If this one lives, it looks up whether it is still the user's. If it has ended, its node
    /// removes it from the store.
    Contested {
        /// Whose connection it is.
        user: UserId,
    },
    /// Tokens of the connection's user that were issued before this are revoked.
    Revoked {
        /// When.
        issued_before: Timestamp,
    },
    /// The host wants the connection gone.
    Disconnect {
        /// What it says of it.
        text: CloseReason,
    },
}

impl Notice {
    /// The record that it brings, where `connection` is attached in it.
    pub(crate) fn attaching(&self, connection: &ConnectionId) -> Option<&Arc<SessionRecord>> {
        match self {
            Self::Opened(record) | Self::Changed(record) => {
                Some(record).filter(|record| record.attached_as(connection).is_some())
            }
            Self::Detached { .. }
            | Self::Ended { .. }
            | Self::Signal(_)
            | Self::Received { .. }
            | Self::Replaced
            | Self::Contested { .. }
            | Self::Revoked { .. }
            | Self::Disconnect { .. } => None,
        }
    }
}

/// Why signals did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LossReason {
    /// They were lost on the way.
    Lost,
    /// A queue on the way had no room for more of this session.
    QueueFull,
}

impl From<LossReason> for ErrorCode {
    /// What the sender's client is told.
    fn from(reason: LossReason) -> Self {
        match reason {
            LossReason::Lost => Self::Unavailable,
            LossReason::QueueFull => Self::RateLimited,
        }
    }
}

/// A signal between two nodes' connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayedSignal {
    /// In which session.
    pub(crate) session: SessionId,
    /// Its [`first_opening`](SessionRecord::first_opening): a short name for the session, to which queues
    /// charge the signal.
    pub(crate) first_opening: u64,
    /// In which negotiation.
    pub(crate) negotiation: u64,
    /// Its number among the sender's signals in that negotiation, from 1.
    pub(crate) number: u64,
    /// Whether the sender's client gave it that number, and sends it again if it is lost.
    pub(crate) numbered: bool,
    /// Which of the three kinds it is.
    pub(crate) kind: SignalKind,
    /// The message for the partner's client, if that understands what the sender's does.
    pub(crate) text: Text,
}
