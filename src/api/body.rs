//! Reading a request's body: bounded in bytes and in time, and of a content type that the route names.

use super::error::ApiError;
use super::state::Api;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;

/// The content types that bodies come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Ndjson,
    Csv,
}

impl Format {
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/json" => Some(Self::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Self::Ndjson),
            "text/csv" => Some(Self::Csv),
            _ => None,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }
}

/// The body and its format, which is one of `formats`.
///
/// # Errors
/// 415 for another content type or none, 413 for a body beyond `limits.body_bytes`, 408 for one that comes too slowly.
pub(super) async fn read(api: &Api, request: Request, formats: &[Format]) -> Result<(Format, Bytes), ApiError> {
    let format = format(&request, formats)?;
    let bytes_max = api.shared().config.limits.body_bytes;
    let too_large = || {
        api.shared().metrics.limit("body_bytes", 1);
        let message =
            format!("the body is larger than {bytes_max} bytes ([limits] body_bytes): send it in several requests");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let body = tokio::time::timeout(api.patience(), Bytes::from_request(request, &())).await;
    let body = body.map_err(|_| {
        api.shared().metrics.limit("request_ms", 1);
        let message = format!("the body did not come within {} ms", api.patience().as_millis());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
    })?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        status => ApiError::refused(status, "the body could not be read to its end"),
    })?;
    Ok((format, body))
}

fn format(request: &Request, formats: &[Format]) -> Result<Format, ApiError> {
    let given = request.headers().get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let media_type =
        given.as_deref().and_then(|value| value.split(';').next()).map(|value| value.trim().to_ascii_lowercase());
    let found = media_type.as_deref().and_then(Format::of).filter(|format| formats.contains(format));
    found.ok_or_else(|| {
        let known = formats.iter().map(|format| format.media_type()).collect::<Vec<_>>().join(", ");
        let message = match given {
            Some(given) => format!("content type {given:?} is not read here: send {known}"),
            None => format!("the request names no content type: send {known}"),
        };
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    })
}
