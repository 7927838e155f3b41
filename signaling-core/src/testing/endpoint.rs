//! The suite that every adapter must pass: real WebSocket clients over loopback against an
//! endpoint that its author starts.
//!
//! An adapter's test is one function that starts the adapter, and one line. With the feature
//! `test-util` among the development dependencies:
//!
//! ```ignore
//! use signaling_core::testing::endpoint::{Endpoint, Hosted, Setup, Unsupported};
//!
//! async fn start(setup: Setup) -> Result<Box<dyn Endpoint>, Unsupported> {
//!     setup.relay_only()?;
//!     let relay = setup.relay().await;
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
//!     let address = listener.local_addr().expect("it is bound");
//!     tokio::spawn(my_adapter::serve(listener, relay.clone()));
//!     Ok(Box::new(Hosted::new(relay, format!("ws://{address}/ws/signaling"))))
//! }
//!
//! signaling_core::endpoint_tests!(start);
//! ```
//!
//! A [`Setup`] may ask for more than a relay. What the adapter has of [`Setup::allowed_origins`] and
//! the fields below it, `start` sets up; what it does not have, it refuses with [`Unsupported`], and
//! the case is skipped. [`Setup::relay_only`] refuses all of it. A handler of the host's own that
//! panics shows that nobody else notices: [`Hosted::panicking_at`].
//!
//! Each case becomes a test of its own, with an endpoint of its own, and ends with a check that two
//! fresh clients can still talk and that no task of the endpoint panicked. A server that is another
//! process implements [`Endpoint`] itself, sets the limits of [`Setup::config`] and accepts tokens
//! signed by HS256 with [`SECRET`], of [`ISSUER`] and for [`AUDIENCE`].

mod absence;
mod admission;
mod alive;
mod case;
mod closes;
mod continuing;
mod crowd;
mod errors;
mod faulty;
mod frames;
mod handshake;
mod ice;
mod malformed;
mod messages;
mod panics;
mod reasons;
mod relaying;
mod sessions;
mod setup;
mod stage;
mod tokens;

use std::{fmt, time::Duration};

use async_trait::async_trait;

pub use case::run;
pub use setup::{Setup, Unsupported};

use crate::{
    frame::CloseReason,
    id::{SessionId, UserId},
    relay::{NewSession, OpenError, Opened, Relay},
    session::{SessionRecord, Status},
    time::Timestamp,
};

/// The key of the suite's tokens, for HS256.
pub const SECRET: &str = "not a secret: every test of an endpoint knows it";
/// The issuer (`iss`) of the suite's tokens; an endpoint must refuse any other.
pub const ISSUER: &str = "https://issuer.test";
/// The audience (`aud`) of the suite's tokens; an endpoint must refuse any other.
pub const AUDIENCE: &str = "signaling.test";

/// With what a handler of the host's panics, where a case wants one that does.
pub const PANIC: &str = "the host's own handler panics, as a case wants it to";

/// What became of [`Endpoint::open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The session of this id is open now.
    New(String),
    /// That very session was open already.
    Existing(String),
    /// The id is taken by other users, or by the same in other roles.
    Conflict,
    /// These two cannot be matched: they are one, one of them is in too many sessions, or a hook
    /// refused it.
    Refused,
}

/// A session as an endpoint's host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// Whether both are there.
    pub status: Status,
    /// The initiator, then the responder.
    pub participants: [ParticipantState; 2],
}

/// A participant as an endpoint's host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParticipantState {
    /// Who it is.
    pub user: String,
    /// Whether it is attached.
    pub connected: bool,
    /// When its last heartbeat arrived.
    pub last_heartbeat: Option<Timestamp>,
}

impl From<&SessionRecord> for SessionState {
    fn from(record: &SessionRecord) -> Self {
        Self {
            status: record.status(),
            participants: record.participants.each_ref().map(|one| ParticipantState {
                user: one.user.to_string(),
                connected: one.connection().is_some(),
                last_heartbeat: one.last_heartbeat,
            }),
        }
    }
}

/// A running server: where clients connect, and what its host can do. It ends when it is dropped.
#[async_trait]
pub trait Endpoint: Send + Sync {
    /// Where clients connect: `ws://127.0.0.1:port/path`.
    fn url(&self) -> String;

    /// Opens a session, under a new id where none is given.
    async fn open(&self, session: Option<&str>, initiator: &str, responder: &str) -> Opening;

    /// Ends a session; false when there is none.
    async fn close(&self, session: &str) -> bool;

    /// Disconnects a user; false when it has no connection.
    async fn disconnect(&self, user: &str) -> bool;

    /// Revokes a user's tokens that were issued before this second since the Unix epoch.
    async fn revoke(&self, user: &str, issued_before: u64);

    /// A session as it is now; none when it is over.
    async fn session(&self, session: &str) -> Option<SessionState>;

    /// Begins an orderly shutdown, and returns when it is over.
    async fn shutdown(&self);

    /// The path of a handler of the host's own that panics with [`PANIC`], where there is one.
    fn panicking_path(&self) -> Option<String> {
        None
    }

    /// What went wrong in the server without a client seeing it, such as panics in its log. Those
    /// of tasks that the case's own runtime runs are noticed without this.
    async fn faults(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An endpoint whose relay is in this process.
#[derive(Debug)]
pub struct Hosted {
    relay: Relay,
    url: String,
    panicking_path: Option<String>,
}

impl Hosted {
    /// The endpoint at `url` that serves `relay`.
    #[must_use]
    pub fn new(relay: Relay, url: impl Into<String>) -> Self {
        let url = url.into();
        Self { relay, url, panicking_path: None }
    }

    /// The same, where the host's own handler at `path` panics with [`PANIC`].
    #[must_use]
    pub fn panicking_at(mut self, path: impl Into<String>) -> Self {
        self.panicking_path = Some(path.into());
        self
    }
}

fn parsed<T>(text: &str) -> T
where
    T: std::str::FromStr<Err: fmt::Display>,
{
    text.parse().unwrap_or_else(|error| panic!("the case has a bad id {text:?}: {error}"))
}

fn answered<T, E: fmt::Debug>(answer: Result<T, E>) -> T {
    answer.unwrap_or_else(|error| panic!("the store did not answer the host: {error:?}"))
}

#[async_trait]
impl Endpoint for Hosted {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn panicking_path(&self) -> Option<String> {
        self.panicking_path.clone()
    }

    async fn open(&self, session: Option<&str>, initiator: &str, responder: &str) -> Opening {
        let (initiator, responder): (UserId, UserId) = (parsed(initiator), parsed(responder));
        let opened = match session {
            None => {
                let opened = self.relay.open_session(&initiator, &responder).await;
                opened.map(|session| Opening::New(session.to_string()))
            }
            Some(session) => {
                let id: SessionId = parsed(session);
                let opened = self.relay.open(NewSession::between(&initiator, &responder).id(&id));
                opened.await.map(|(_, opened)| match opened {
                    Opened::New => Opening::New(session.to_owned()),
                    Opened::Existing => Opening::Existing(session.to_owned()),
                })
            }
        };
        match opened {
            Ok(opening) => opening,
            Err(OpenError::Conflict) => Opening::Conflict,
            Err(OpenError::SameUser(_) | OpenError::TooManySessions(_) | OpenError::Refused(_)) => {
                Opening::Refused
            }
            Err(OpenError::Hook(error)) => panic!("the case's own hook failed: {error}"),
            Err(OpenError::Store { source, .. }) => answered(Err(source)),
            Err(OpenError::Id(error)) => panic!("no id could be made: {error}"),
        }
    }

    async fn close(&self, session: &str) -> bool {
        answered(self.relay.close_session(&parsed(session), CloseReason::default()).await)
    }

    async fn disconnect(&self, user: &str) -> bool {
        answered(self.relay.disconnect(&parsed(user), CloseReason::default()).await)
    }

    async fn revoke(&self, user: &str, issued_before: u64) {
        let issued_before = Timestamp::from_millis(issued_before * 1000);
        answered(self.relay.revoke(&parsed(user), issued_before).await);
    }

    async fn session(&self, session: &str) -> Option<SessionState> {
        let record = answered(self.relay.session(&parsed(session)).await);
        record.as_ref().map(SessionState::from)
    }

    async fn shutdown(&self) {
        let outcome = self.relay.shutdown(Duration::from_secs(10)).await;
        assert_eq!(outcome, crate::relay::Shutdown::Complete);
    }
}

/// Makes each case of the suite a test. Takes the function that starts the endpoint:
/// `async fn(Setup) -> Result<Box<dyn Endpoint>, Unsupported>`.
///
/// See [`testing::endpoint`](crate::testing::endpoint).
#[macro_export]
macro_rules! endpoint_tests {
    ($start:path) => {
        $crate::__endpoint_cases!($crate::__endpoint_tests, $start);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __endpoint_tests {
    ($start:path; $($subject:ident { $($case:ident)* })*) => {
        $(mod $subject {
            #[allow(unused_imports, reason = "the path may begin at the crate's root")]
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::testing::endpoint::run(
                        concat!(stringify!($subject), "::", stringify!($case)),
                        $start,
                    );
                }
            )*
        })*
    };
}
