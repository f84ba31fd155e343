//! The one shape of every error: `{"error": {"code", "message", "details"}}`, with nothing internal in it.

use crate::store::StoreError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// The body of every answer that is an error.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: Failure,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Failure {
    /// Stable, for programs.
    #[schema(example = "not_found")]
    code: &'static str,
    /// One sentence, for people.
    message: String,
    /// What the code says more about, or null.
    #[schema(value_type = Option<Object>)]
    details: Value,
}

/// What any route may answer beside its own errors.
#[derive(Debug, utoipa::IntoResponses)]
#[expect(dead_code, reason = "it documents answers that are built from `ApiError`")]
pub(super) enum Failures {
    /// A defect in larum or in its store; the log says more.
    #[response(status = 500)]
    Internal(ErrorBody),
    /// Busy, stopping, not answered in time, or without a partition: try again.
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// An error on its way to the client.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    status: StatusCode,
    failure: Failure,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, failure: Failure { code, message: message.into(), details: Value::Null } }
    }

    pub(super) fn with_details(mut self, details: Value) -> Self {
        self.failure.details = details;
        self
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", message)
    }

    /// The body can be read, but it does not say what this route needs.
    pub(super) fn unprocessable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    pub(super) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// Something that should not be: the log has it, the client only learns that.
    pub(super) fn internal(what: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(what, %error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("{what}; the log says more"))
    }

    /// A refusal by one of axum's own extractors.
    pub(super) fn refused(status: StatusCode, message: impl Into<String>) -> Self {
        let code = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
            StatusCode::INTERNAL_SERVER_ERROR => "internal",
            _ => "bad_request",
        };
        Self::new(status, code, message)
    }

    /// The failure alone: what a refused line of an upload carries.
    pub(super) fn into_failure(self) -> ErrorBody {
        ErrorBody { error: self.failure }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cursor { .. } => Self::new(StatusCode::BAD_REQUEST, "invalid_cursor", error.to_string()),
            other => Self::internal("the store could not be read", &other),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.into_failure())).into_response()
    }
}
