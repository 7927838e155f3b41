//! The token of a connection's client, pure: when it expires, when the client is told so, and whether
//! another one takes its place.

use std::time::{Duration, Instant};

use super::Refresh;
use crate::{
    protocol::{Dialect, ErrorCode, ServerMessage},
    time::Timestamp,
};

/// The share of a token's life after which its client is told that it expires, in fifths.
const TOLD_AFTER_FIFTHS: u32 = 4;

#[derive(Debug)]
pub(super) struct Token {
    dialect: Dialect,
    /// None: not known.
    issued_at: Option<Timestamp>,
    /// None: never.
    expires: Option<Expiry>,
    /// When the client is to be told; none once it was, and for who would not understand it.
    tell_at: Option<Instant>,
    /// Another one is being judged.
    is_judging: bool,
}

#[derive(Debug, Clone, Copy)]
struct Expiry {
    /// By the host's clock, as the token says it.
    at: Timestamp,
    due: Instant,
}

impl Token {
    /// One that was issued at `issued_at` and expires at the time `expires`, which comes after so long.
    pub(super) fn new(
        dialect: Dialect,
        issued_at: Option<Timestamp>,
        expires: Option<(Timestamp, Duration)>,
        now: Instant,
    ) -> Self {
        // A token for longer than the clock can tell is one for ever.
        let expiry = |(at, life)| Some((Expiry { at, due: now.checked_add(life)? }, life));
        let expires = expires.and_then(expiry);
        let told = expires.filter(|_| dialect == Dialect::V1);
        Self {
            dialect,
            issued_at,
            tell_at: told.map(|(_, life)| now + life / 5 * TOLD_AFTER_FIFTHS),
            expires: expires.map(|(expiry, _)| expiry),
            is_judging: false,
        }
    }

    pub(super) fn issued_at(&self) -> Option<Timestamp> {
        self.issued_at
    }

    pub(super) fn set_issued_at(&mut self, issued_at: Option<Timestamp>) {
        self.issued_at = issued_at;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.expires.map(|expiry| expiry.due), self.tell_at].into_iter().flatten().min()
    }

    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expiry| now >= expiry.due)
    }

    /// Time has passed: what the client is to be told.
    pub(super) fn on_deadline(&mut self, now: Instant) -> Option<ServerMessage<'static>> {
        self.tell_at.take_if(|at| now >= *at)?;
        self.expires_in_ms(now).map(|in_ms| ServerMessage::TokenExpiring { in_ms })
    }

    fn expires_in_ms(&self, now: Instant) -> Option<u64> {
        let left = self.expires?.due.saturating_duration_since(now).as_millis();
        Some(u64::try_from(left).unwrap_or(u64::MAX))
    }

    /// Whether another token is to be judged now: one at a time.
    pub(super) fn begin_refresh(&mut self) -> bool {
        !std::mem::replace(&mut self.is_judging, true)
    }

    /// What became of the other token, and what the client is told of it.
    pub(super) fn on_refresh(&mut self, refresh: Refresh, now: Instant) -> ServerMessage<'static> {
        self.is_judging = false;
        let (issued_at, expires) = match refresh {
            Refresh::Valid { issued_at, expires } => (issued_at, expires),
            Refresh::Invalid => return ServerMessage::error(ErrorCode::TokenRefused, None),
            Refresh::Unavailable => return ServerMessage::error(ErrorCode::Unavailable, None),
        };
        let is_later = match (self.expires, expires) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(before), Some((at, _))) => at > before.at,
        };
        if !is_later {
            return ServerMessage::error(ErrorCode::TokenRefused, None);
        }
        *self = Self::new(self.dialect, issued_at, expires, now);
        ServerMessage::Refreshed { expires_in_ms: self.expires_in_ms(now) }
    }
}
