//! `POST /v1/labels`: verdicts go to the labels topic, and only from there to the models.

use super::body::{self, Format};
use super::error::{ApiError, ErrorBody, Failures};
use super::label_lines::{self, Line};
use super::state::Api;
use crate::kafka::Produced;
use crate::telemetry;
use crate::wire::{self, LabelRecord};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use std::sync::PoisonError;
use utoipa::ToSchema;

/// What became of an upload.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Upload {
    accepted: usize,
    rejected: usize,
    lines: Vec<LineAnswer>,
}

/// What became of one line: `event` where it was accepted, `reason` where it was not.
#[derive(Debug, Serialize, ToSchema)]
struct LineAnswer {
    /// From 1: the line of the text, or the place in a JSON array.
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    status: LineStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum LineStatus {
    Accepted,
    Rejected,
}

/// Whether the store has the event. A label of one that it has not seen yet waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
enum EventStatus {
    #[serde(rename = "known")]
    Known,
    #[serde(rename = "not yet seen")]
    NotYetSeen,
}

/// Say what events were
///
/// A JSON array (or one object), NDJSON, or CSV with the header `event_id,label[,who,note,at]`; at most 10,000 labels. A later label of the
/// same event corrects the earlier one; sending one again does no harm.
#[utoipa::path(
    post, path = "/v1/labels", operation_id = "upload_labels", tag = "labels",
    request_body(content(
        (Vec<LabelRecord> = "application/json"),
        (LabelRecord = "application/x-ndjson"),
        (String = "text/csv", example = "event_id,label,who\nr-17,anomaly,ann\n"),
    )),
    responses(
        (status = 202, description = "The labels topic has every accepted label; the models learn them from there.", body = Upload),
        (status = 400, description = "Not JSON.", body = ErrorBody),
        (status = 408, description = "The body came too slowly.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 415, description = "None of the three formats.", body = ErrorBody),
        (status = 422, description = "No label among the lines: `details.lines` says why, line by line.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn upload(State(api): State<Api>, request: Request) -> Result<impl IntoResponse, ApiError> {
    let (format, body) = body::read(&api, request, &[Format::Json, Format::Ndjson, Format::Csv]).await?;
    let lines = label_lines::parse(format, &body)?;
    let rejected = lines.iter().filter(|line| line.verdict.is_err()).count();
    let accepted = lines.len() - rejected;
    if accepted == 0 {
        let message = format!("none of {rejected} lines is a label: details.lines says why");
        let lines = lines.into_iter().map(|line| answered(line, None)).collect();
        let details =
            serde_json::to_value(Upload { accepted, rejected, lines }).expect("sentences are written to memory");
        return Err(ApiError::unprocessable("no_labels", message).with_details(details));
    }
    let (lines, known) = api.blocking(move |api| known(api, &lines).map(|known| (lines, known))).await?;
    let lines = api.upload(move |api| send(api, &lines).map(|()| lines)).await?;
    let lines = lines.into_iter().zip(known).map(|(line, known)| answered(line, Some(known))).collect();
    Ok((StatusCode::ACCEPTED, Json(Upload { accepted, rejected, lines })))
}

/// Whether the event of each line is stored.
fn known(api: &Api, lines: &[Line]) -> Result<Vec<bool>, ApiError> {
    let known = api.shared().store.read(|reader| {
        let known = |line: &Line| match &line.verdict {
            Ok(record) => Ok(reader.prediction(&record.event_id)?.is_some()),
            Err(_) => Ok(false),
        };
        lines.iter().map(known).collect()
    })?;
    Ok(known)
}

/// Returns once Kafka has acknowledged every accepted line.
fn send(api: &Api, lines: &[Line]) -> Result<(), ApiError> {
    let shared = api.shared();
    let now_ms = telemetry::now_ms();
    let failed = |error: anyhow::Error| {
        tracing::warn!(error = format!("{error:#}"), "labels could not be sent");
        ApiError::unavailable(
            "not_acknowledged",
            "Kafka has not acknowledged the labels; send them again: one that comes twice does no harm",
        )
    };
    let ticket = {
        let mut labels = api.sender().lock().unwrap_or_else(PoisonError::into_inner);
        for record in lines.iter().flat_map(|line| &line.verdict) {
            let at = record.at.clone().unwrap_or_else(|| wire::rfc3339(now_ms));
            let payload = serde_json::to_vec(&LabelRecord { at: Some(at), ..record.clone() })
                .expect("texts are written to memory");
            let produced = Produced {
                topic: &shared.config.kafka.labels,
                key: Some(record.event_id.as_bytes()),
                payload: Some(&payload),
                timestamp_ms: now_ms,
                headers: None,
            };
            labels.send(produced).map_err(failed)?;
        }
        labels.close()
    };
    let timer = telemetry::stopwatch();
    ticket.wait(|| shared.given_up() || timer.elapsed() > api.patience()).map_err(failed)
}

fn answered(line: Line, known: Option<bool>) -> LineAnswer {
    let (status, reason) = match line.verdict {
        Ok(_) => (LineStatus::Accepted, None),
        Err(reason) => (LineStatus::Rejected, Some(reason)),
    };
    let event = known.filter(|_| status == LineStatus::Accepted);
    let event = event.map(|is_known| if is_known { EventStatus::Known } else { EventStatus::NotYetSeen });
    LineAnswer { line: line.number, event_id: line.event_id, status, event, reason }
}
