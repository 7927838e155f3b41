//! What is said of those that are not let in, to the log and to the host. Anybody can cause any number of
//! refusals, so both are limited, and what is left out is counted.

use std::{error::Error, fmt, time::Duration};

use crate::{
    auth::{AuthError, AuthRefusal},
    event::Event,
    frame::CloseReason,
    id::{ConnectionId, UserId},
    log::Throttle,
    reason::DisconnectReason,
};

/// Log lines at once for each reason, and how often one more.
const LINES: u32 = 5;
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Events at once for each reason, and how often one more: a flood of refusals does not push other events
/// out of a host's queue.
const EVENTS: u32 = 32;
const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// The most of an error's text that is logged, in characters.
const MAX_TEXT: usize = 200;

#[derive(Debug)]
pub(super) struct Refusals {
    credentials: Throttle,
    credentials_events: Throttle,
    connections: Throttle,
    connections_events: Throttle,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self {
            credentials: Throttle::new(LINES, LINE_INTERVAL),
            credentials_events: Throttle::new(EVENTS, EVENT_INTERVAL),
            connections: Throttle::new(LINES, LINE_INTERVAL),
            connections_events: Throttle::new(EVENTS, EVENT_INTERVAL),
        }
    }

    /// Logs how many lines were left out of a flood that is over.
    pub(super) fn report(&self) {
        for (reason, suppressed) in self.credentials.overdue() {
            tracing::warn!(reason, suppressed, "more credentials refused");
        }
        for (reason, suppressed) in self.connections.overdue() {
            tracing::info!(reason, suppressed, "more connections refused");
        }
    }

    /// Logs that credentials were refused. Returns the event for the host, unless there are too many.
    pub(super) fn credentials(&self, error: &AuthError) -> Option<Event> {
        let reason = reason(error);
        if let Some(suppressed) = self.credentials.pass(reason.as_str()) {
            let error = error.source().map(|cause| Short(cause.to_string()));
            let error = error.as_ref().map(tracing::field::display);
            tracing::warn!(%reason, error, suppressed, "credentials refused");
        }
        let suppressed = self.credentials_events.pass(reason.as_str())?;
        Some(Event::CredentialsRefused { reason, suppressed })
    }

    /// Logs that a connection is not admitted.
    pub(super) fn log_connection(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        reason: DisconnectReason,
        text: &CloseReason,
        error: Option<&(dyn Error + 'static)>,
    ) {
        let Some(suppressed) = self.connections.pass(reason.as_str()) else { return };
        let text = text.as_str();
        match error {
            Some(error) => {
                tracing::warn!(%user, %connection, %reason, error, suppressed, "connection refused");
            }
            None => {
                tracing::info!(%user, %connection, %reason, text, suppressed, "connection refused");
            }
        }
    }

    /// The event that tells the host of a connection that is not admitted, unless there are too many.
    pub(super) fn connection(
        &self,
        user: UserId,
        connection: ConnectionId,
        reason: DisconnectReason,
        text: CloseReason,
    ) -> Option<Event> {
        let suppressed = self.connections_events.pass(reason.as_str())?;
        Some(Event::ConnectionRefused { user, connection, reason, text, suppressed })
    }
}

fn reason(error: &AuthError) -> AuthRefusal {
    match error {
        AuthError::Missing => AuthRefusal::Missing,
        AuthError::Expired => AuthRefusal::Expired,
        AuthError::Invalid(cause) => invalid(&**cause),
        AuthError::Unavailable(_) => AuthRefusal::Unavailable,
    }
}

#[cfg(any(feature = "jwt", feature = "jwt-aws-lc"))]
fn invalid(cause: &(dyn Error + 'static)) -> AuthRefusal {
    let cause = cause.downcast_ref::<crate::jwt::TokenError>();
    cause.map_or(AuthRefusal::Invalid, AuthRefusal::from)
}

#[cfg(not(any(feature = "jwt", feature = "jwt-aws-lc")))]
fn invalid(_: &(dyn Error + 'static)) -> AuthRefusal {
    AuthRefusal::Invalid
}

/// A text of the host's authenticator, in one line of limited length.
struct Short(String);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(MAX_TEXT) {
            write!(f, "{}", c.escape_debug())?;
        }
        match chars.next() {
            Some(_) => f.write_str("…"),
            None => Ok(()),
        }
    }
}
