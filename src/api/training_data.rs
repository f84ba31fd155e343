//! `POST /v1/training-data`: a file of labelled events is taken in as it comes, and a task brings it to the label log.

use super::error::{ApiError, ErrorBody, Failures};
use super::state::Api;
use super::tasks::TaskJson;
use crate::replay::Source;
use crate::service::{Columns, ContentKey, Upload, UploadKey, Work};
use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use std::fs::File;
use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

/// The one route whose requests take as long as their body takes to come.
pub(super) const PATH: &str = "/v1/training-data";
/// Pieces of a body that wait to be written.
const PIECES_MAX: usize = 16;
/// Formats are told apart by how a file begins; types that name something else are refused.
const CONTENT_TYPES: [&str; 6] = [
    "text/csv",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/gzip",
    "application/x-gzip",
];

/// What the file is.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Rows of the same key are learned once. Without one it is a hash of the body.
    key: Option<String>,
    /// The column with the truth: 0 or 1, false or true, normal or anomaly. `label` if none is named.
    label: Option<String>,
    /// The column with the event time, where it has not the name of the field.
    time: Option<String>,
    /// The column with the entity, where it has not the name of the field.
    entity: Option<String>,
    /// The column with the event id, where it has not the name of the field. It is read only where the feature query reads it.
    id: Option<String>,
}

/// Teach with labelled events that never went through Kafka
///
/// CSV with a header, or NDJSON, either also gzipped: raw events with a `label`, in the order in which they happened. They have windows of their own.
/// A task makes features of them and sends them to the label log, from which the models learn. A row that cannot be used is named in the
/// task's result and ends nothing. Sending a file again does no harm: a row is learned once for its key and its place in the file.
#[utoipa::path(
    post, path = "/v1/training-data", operation_id = "upload_training_data", tag = "labels", params(Parameters),
    request_body(content(
        (String = "text/csv", example = "ts,host,latency_ms,label\n2026-01-31T08:00:00Z,web-1,912.5,1\n"),
        (String = "application/x-ndjson"),
        (String = "application/gzip"),
    )),
    responses(
        (status = 202, description = "Taken in: the header `location` names the task. Its result is an `Uploaded`.", body = TaskJson, headers(("location" = String))),
        (status = 400, description = "A parameter that is not known, or a body that breaks off.", body = ErrorBody),
        (status = 408, description = "The next piece of the body came too slowly.", body = ErrorBody),
        (status = 413, description = "Larger than `limits.upload_bytes`.", body = ErrorBody),
        (status = 415, description = "Neither CSV nor NDJSON.", body = ErrorBody),
        (status = 422, description = "Empty, or without a column that was named.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn upload(
    State(api): State<Api>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let Query(parameters) = parameters.map_err(|rejection| ApiError::parameter(rejection.body_text()))?;
    check_type(request.headers())?;
    let key = parameters.key.map(|key| UploadKey::parse(&key)).transpose();
    let key = key.map_err(|expected| ApiError::parameter(format!("key: {expected}")))?;
    let columns = Columns {
        label: parameters.label.unwrap_or_else(|| "label".into()),
        time: parameters.time,
        entity: parameters.entity,
        id: parameters.id,
    };
    let _turn = api.file_turn().ok_or_else(|| {
        ApiError::unavailable("busy", "as many files as possible are being taken in: try again when one has come")
    })?;
    let (file, hash) = receive(&api, request.into_body()).await?;
    let work = move |api: &Api| {
        let shared = api.shared();
        let key = key.unwrap_or_else(|| hash.finish(&columns));
        let source = Source::of(file, "the upload");
        let upload = Upload::open(&source, &columns, key, &shared.config, &shared.blueprint);
        let upload = upload.map_err(|error| ApiError::unprocessable("not_training_data", format!("{error:#}")))?;
        let added = shared.tasks.add(Work::TrainingData(Box::new(upload)));
        added.map_err(|error| ApiError::unavailable("busy", error.to_string()))
    };
    let task = api.blocking(work).await?;
    let location = format!("/v1/tasks/{}", task.id);
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(TaskJson::from(task))))
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    let unsupported = |message| ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    let given = value(CONTENT_TYPE).unwrap_or_default();
    if !CONTENT_TYPES.contains(&given.split(';').next().unwrap_or_default().trim()) {
        let known = "text/csv, application/x-ndjson or application/gzip";
        return Err(unsupported(format!("content type {given:?} is not read here: send {known}")));
    }
    match value(CONTENT_ENCODING).as_deref().map(str::trim) {
        None | Some("identity" | "gzip" | "x-gzip") => Ok(()),
        Some(other) => Err(unsupported(format!("content encoding {other:?} is not read here: send gzip or none"))),
    }
}

/// Writes the body to a temporary file, piece by piece.
async fn receive(api: &Api, mut body: Body) -> Result<(File, ContentKey), ApiError> {
    let metrics = &api.shared().metrics;
    let bytes_max = api.shared().config.limits.upload_bytes;
    let check = |bytes: u64| {
        if bytes <= bytes_max {
            return Ok(());
        }
        metrics.limit("upload_bytes", 1);
        let message =
            format!("the file is larger than {bytes_max} bytes ([limits] upload_bytes): send it in parts, or gzipped");
        Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message))
    };
    check(HttpBody::size_hint(&body).lower())?;
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    let written = spawn_blocking(move || write(received));
    let mut bytes = 0;
    loop {
        // Only the wait for one piece is bounded: how long a file takes is the line's affair.
        let piece = tokio::time::timeout(api.request_max(), next(&mut body)).await.map_err(|_| {
            metrics.limit("request_ms", 1);
            let message =
                format!("nothing of the body came for {} ms ([limits] request_ms)", api.request_max().as_millis());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
        })?;
        let Some(piece) = piece? else { break };
        bytes += piece.len() as u64;
        check(bytes)?;
        if api.shared().stopping() {
            return Err(ApiError::unavailable("stopping", "larum is stopping"));
        }
        if pieces.send(piece).await.is_err() {
            break; // writing has failed, and says why
        }
    }
    drop(pieces);
    let written = written.await.map_err(|error| ApiError::internal("an upload ended in a defect", &error))?;
    written.map_err(|error| ApiError::internal("the file could not be kept", &error))
}

fn write(mut pieces: mpsc::Receiver<Bytes>) -> std::io::Result<(File, ContentKey)> {
    let mut file = tempfile::tempfile()?;
    let mut key = ContentKey::default();
    while let Some(piece) = pieces.blocking_recv() {
        key.update(&piece);
        file.write_all(&piece)?;
    }
    Ok((file, key))
}

/// The next piece of data; `None` at the end.
async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            None => return Ok(None),
            Some(Err(_)) => {
                return Err(ApiError::refused(StatusCode::BAD_REQUEST, "the body could not be read to its end"));
            }
            // What is no data is a trailer.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
