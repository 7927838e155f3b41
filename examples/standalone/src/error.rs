//! What a caller of the HTTP API is told when something is wrong:
//! `{"error":{"code":"…","message":"…"}}`.

use std::borrow::Cow;

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection},
    http::{StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use serde_json::json;
use signaling_core::{relay::OpenError, store::StoreError};

use crate::{matchmaker::MatchError, queue::QueueError};

/// An answer that is no success. Causes are logged, never told.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(crate) fn unauthorized(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(crate) fn not_found(message: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    pub(crate) fn unavailable(message: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    pub(crate) fn timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request took too long")
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here")
    }

    /// What axum refused before a handler saw it.
    fn refused(status: StatusCode, message: String) -> Self {
        let code = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "too-large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported-media-type",
            StatusCode::UNPROCESSABLE_ENTITY => "invalid",
            _ => "malformed",
        };
        Self::new(status, code, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let value = axum::http::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::refused(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::refused(rejection.status(), rejection.body_text())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let cause = &error as &dyn std::error::Error;
        tracing::warn!(error = cause, "a request failed");
        match error {
            StoreError::Unavailable(_) | StoreError::Refused(_) => {
                Self::unavailable("the store is unavailable, try again")
            }
            _ => Self::internal(),
        }
    }
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::SameUser(_) => Self::invalid("a user cannot be matched with itself"),
            OpenError::Conflict => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                "the session id is taken by other users",
            ),
            OpenError::TooManySessions(_) => {
                Self::new(StatusCode::CONFLICT, "too-many-sessions", error.to_string())
            }
            OpenError::Store { source, .. } => source.into(),
            error => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "a request failed");
                Self::internal()
            }
        }
    }
}

impl From<MatchError> for ApiError {
    fn from(error: MatchError) -> Self {
        match error {
            MatchError::Queue(QueueError::Full) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "queue-full",
                "too many users wait, try again",
            ),
            MatchError::Queue(QueueError::Store(error)) => error.into(),
            MatchError::Queue(QueueError::Id(error)) => OpenError::from(error).into(),
            MatchError::Open(error) => error.into(),
            MatchError::Store(error) => error.into(),
            MatchError::NotConnected => Self::new(
                StatusCode::CONFLICT,
                "not-connected",
                "the user is not connected, and does not wait",
            ),
            MatchError::Ended => Self::unavailable("the server is ending, try another"),
        }
    }
}

#[cfg(test)]
mod tests {
    use signaling_core::id::SessionId;

    use super::*;

    #[test]
    fn a_store_that_does_not_answer_is_worth_another_try() {
        let away = || StoreError::unavailable("a cause that nobody is told");
        let session = SessionId::generate().unwrap();
        let not_known = || OpenError::Store { session: session.clone(), source: away() };
        for error in [
            ApiError::from(away()),
            ApiError::from(not_known()),
            ApiError::from(MatchError::Open(not_known())),
            ApiError::from(MatchError::Store(away())),
            ApiError::from(MatchError::Queue(QueueError::Store(away()))),
        ] {
            assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(error.code, "unavailable");
            assert!(!error.message.contains("cause"));
        }
        let corrupt = ApiError::from(StoreError::Corrupt("a cause".into()));
        assert_eq!(corrupt.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
