//! The token of a connection's client, pure: when it expires, when the client is told so, and whether
//! another one takes its place.

use std::time::{Duration, Instant};

use super::{Refresh, TokenTimes};
use crate::{
    protocol::{Dialect, ErrorCode, ServerMessage},
    time::Timestamp,
};

/// Which part of a token's life is left when its client is told that it expires: a fifth.
const TOLD_BEFORE: u32 = 5;

/// Each idle connection has one, so it is small.
#[derive(Debug)]
pub(super) struct Token {
    /// 0 if the token does not say it.
    issued_at: Timestamp,
    /// By the host's clock, as the token says it.
    expires_at: Timestamp,
    /// The same by ours; none for a token that does not expire.
    expires: Option<Instant>,
    /// How many milliseconds before that the client is to be told; 0 after it was, and for base clients.
    tell_before: u64,
    /// Another one is being validated.
    is_validating: bool,
}

impl Token {
    pub(super) fn new(dialect: Dialect, times: TokenTimes, now: Instant) -> Self {
        let TokenTimes { issued_at, expires } = times;
        let (expires_at, life) = expires.unwrap_or((Timestamp::default(), Duration::MAX));
        // An expiry beyond the range of `Instant` counts as none.
        let expires = now.checked_add(life);
        let tell_before = match dialect {
            Dialect::Base => 0,
            Dialect::V1 => u64::try_from((life / TOLD_BEFORE).as_millis()).unwrap_or(u64::MAX),
        };
        let issued_at = issued_at.unwrap_or_default();
        Self { issued_at, expires_at, expires, tell_before, is_validating: false }
    }

    /// 0 if the token does not say it.
    pub(super) fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    fn tell_at(&self) -> Option<Instant> {
        let before = Duration::from_millis(self.tell_before);
        self.expires.filter(|_| !before.is_zero()).and_then(|expires| expires.checked_sub(before))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.tell_at().or(self.expires)
    }

    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// Time has passed: what the client is to be told.
    pub(super) fn on_deadline(&mut self, now: Instant) -> Option<ServerMessage<'static>> {
        self.tell_at().filter(|at| now >= *at)?;
        self.tell_before = 0;
        self.expires_in_ms(now).map(|in_ms| ServerMessage::TokenExpiring { in_ms })
    }

    fn expires_in_ms(&self, now: Instant) -> Option<u64> {
        let left = self.expires?.saturating_duration_since(now).as_millis();
        Some(u64::try_from(left).unwrap_or(u64::MAX))
    }

    /// Whether another token is to be validated now: one at a time.
    pub(super) fn begin_refresh(&mut self) -> bool {
        !std::mem::replace(&mut self.is_validating, true)
    }

    /// What became of the other token, and what the client, which speaks [`Dialect::V1`], is told of it.
    pub(super) fn on_refresh(&mut self, refresh: Refresh, now: Instant) -> ServerMessage<'static> {
        self.is_validating = false;
        let times = match refresh {
            Refresh::Valid(times) => times,
            Refresh::Invalid => return ServerMessage::error(ErrorCode::TokenRefused, None),
            Refresh::Unavailable => return ServerMessage::error(ErrorCode::Unavailable, None),
        };
        let is_later = match (self.expires, times.expires) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(_), Some((at, _))) => at > self.expires_at,
        };
        // One that was issued earlier may be revoked where this one is not.
        if !is_later || times.issued_at.unwrap_or_default() < self.issued_at {
            return ServerMessage::error(ErrorCode::TokenRefused, None);
        }
        *self = Self::new(Dialect::V1, times, now);
        ServerMessage::Refreshed { expires_in_ms: self.expires_in_ms(now) }
    }
}
