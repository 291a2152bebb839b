//! How the API refuses.

use apportion_master_core::OperatorError;
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::ask::AskError;

/// A refusal, as every page of the API gives it.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    /// What is wrong, and the remedy.
    pub(super) error: String,
    /// What there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pages: Vec<&'static str>,
}

/// A refusal with this status.
pub(super) fn refuse(status: StatusCode, error: impl std::fmt::Display) -> Response {
    (status, Json(Refusal { error: error.to_string(), pages: Vec::new() })).into_response()
}

/// What was sent makes no sense.
pub(super) fn invalid(error: impl std::fmt::Display) -> Response {
    refuse(StatusCode::BAD_REQUEST, error)
}

/// An operator has no answer.
pub(super) fn ask(error: &AskError) -> Response {
    let status = match error {
        AskError::Ending => StatusCode::SERVICE_UNAVAILABLE,
        AskError::Refused(OperatorError::NotFound { .. }) => StatusCode::NOT_FOUND,
        AskError::Refused(OperatorError::Invalid { .. } | OperatorError::Ambiguous { .. }) => {
            StatusCode::BAD_REQUEST
        }
        AskError::Refused(_) => StatusCode::CONFLICT,
    };
    refuse(status, error)
}
