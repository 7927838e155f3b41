//! Who may connect: the seam between a transport's credentials and a [`UserId`].

use std::fmt;

use async_trait::async_trait;

use crate::{
    id::UserId,
    protocol::{Continue, Dialect},
    time::Timestamp,
};

/// What a client brought to prove who it is. `Debug` never shows it.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Credentials {
    token: Option<String>,
}

impl Credentials {
    /// A bearer token: a JWT, or whatever the host's [`Authenticator`] understands.
    #[must_use]
    pub fn bearer(token: impl Into<String>) -> Self {
        Self { token: Some(token.into()) }
    }

    /// A client that brought nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The bearer token, when the client brought one.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "<hidden>");
        f.debug_struct("Credentials").field("token", &token).finish()
    }
}

/// An authenticated user, and how long its proof holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// Who it is.
    pub user: UserId,
    /// When a live connection of this identity is closed with 4401. None: never.
    pub expires_at: Option<Timestamp>,
    /// When its proof was issued, to be compared with a [revocation](crate::Relay::revoke). None: not known,
    /// and so before any revocation.
    pub issued_at: Option<Timestamp>,
}

impl Identity {
    /// `user`, for as long as it likes.
    #[must_use]
    pub fn new(user: UserId) -> Self {
        Self { user, expires_at: None, issued_at: None }
    }

    /// The same, until `at`.
    #[must_use]
    pub fn expiring(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// The same, issued `at`.
    #[must_use]
    pub fn issued(mut self, at: Timestamp) -> Self {
        self.issued_at = Some(at);
        self
    }
}

/// Who is on a connection, and what it understands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Client {
    /// Who it is.
    pub identity: Identity,
    /// What was negotiated with it.
    pub dialect: Dialect,
    /// The negotiations that it wants to continue on this connection; none from a base client.
    pub continuing: Vec<Continue>,
}

impl Client {
    /// A client that negotiated nothing.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { identity, dialect: Dialect::Base, continuing: Vec::new() }
    }

    /// The same, understanding `dialect`.
    #[must_use]
    pub fn speaking(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// The same, continuing these negotiations; for [`Dialect::V1`] only.
    #[must_use]
    pub fn continuing(mut self, continuing: Vec<Continue>) -> Self {
        self.continuing = continuing;
        self
    }
}

impl From<Identity> for Client {
    fn from(identity: Identity) -> Self {
        Self::new(identity)
    }
}

/// Why credentials were not accepted. Clients never see more of it than a close code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The client brought no token.
    #[error("no token was given")]
    Missing,
    /// The token was valid once.
    #[error("the token has expired")]
    Expired,
    /// The token was never valid here.
    #[error("the token is not valid")]
    Invalid(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Whoever must be asked did not answer; the client may try again.
    #[error("the authenticator is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why credentials were refused, for logs and
/// [`Event::CredentialsRefused`](crate::event::Event::CredentialsRefused). It holds nothing that the client
/// brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthRefusal {
    /// The client brought no token.
    Missing,
    /// The token was valid once.
    Expired,
    /// The token is too long, or not made as a JWT is.
    Malformed,
    /// The token names a key that is not known here, or none where there are several.
    UnknownKey,
    /// The token's algorithm is not that of its key.
    WrongAlgorithm,
    /// The signature is not that of the key.
    WrongSignature,
    /// A claim that must be there is not, such as `exp`.
    MissingClaim,
    /// A claim is of the wrong type or out of range.
    MalformedClaim,
    /// The token is not valid yet (`nbf`).
    NotYetValid,
    /// The token is from another issuer (`iss`).
    WrongIssuer,
    /// The token is for another audience (`aud`).
    WrongAudience,
    /// The token is for an audience (`aud`), and no audience was configured.
    UnexpectedAudience,
    /// The claim of the user id holds none.
    NoUser,
    /// The host's own [`Authenticator`] found it not valid.
    Invalid,
    /// Whoever must be asked did not answer.
    Unavailable,
}

impl AuthRefusal {
    /// Its name for logs and other programs: that of the variant in kebab-case, such as
    /// `wrong-signature`. It is stable: a later version may add names, and changes none.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Expired => "expired",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::WrongAlgorithm => "wrong-algorithm",
            Self::WrongSignature => "wrong-signature",
            Self::MissingClaim => "missing-claim",
            Self::MalformedClaim => "malformed-claim",
            Self::NotYetValid => "not-yet-valid",
            Self::WrongIssuer => "wrong-issuer",
            Self::WrongAudience => "wrong-audience",
            Self::UnexpectedAudience => "unexpected-audience",
            Self::NoUser => "no-user",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Shows [`AuthRefusal::as_str`].
impl fmt::Display for AuthRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AuthError {
    /// An invalid token; `cause` is for the logs and must not quote the token.
    pub fn invalid(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Invalid(cause.into())
    }
}

/// Turns credentials into an identity.
///
/// It is asked once for each connection, before anything else happens to it, and once for each `refresh` of a
/// client. It may take its time: it holds up nobody else. Dropping the future midway must be safe; that is what
/// happens when the client goes away.
///
/// A user whose tokens the host [revokes](crate::Relay::revoke) is kept out until [`Identity::issued_at`] says that
/// its token is a later one.
#[async_trait]
pub trait Authenticator: Send + Sync + fmt::Debug + 'static {
    /// Who brought these credentials.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unavailable`] lets the client try again later (close code 4503); anything
    /// else tells it to get a new token first (4401). No error may hold the token.
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, AuthError>;
}
