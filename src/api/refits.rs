//! Refits and versions of one model that learns from labels: `POST /v1/models/{name}/retrain`, `/promote`, `/rollback`, and `GET` `/versions`, `/export`.

use super::body::{self, Format};
use super::error::{ApiError, ErrorBody, Failures};
use super::models;
use super::state::Api;
use super::tasks::TaskJson;
use crate::kafka::Produced;
use crate::learn::{Fitted, ONLINE};
use crate::model::Model;
use crate::service::{ModelVersion, Retrain, Work, learner_place};
use crate::telemetry;
use crate::wire;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::PoisonError;
use utoipa::{IntoParams, ToSchema};

/// How a model is refitted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RetrainParameters {
    /// Compare only: whatever comes out, the model that scores stays.
    #[serde(default)]
    dry_run: bool,
}

/// The kept versions of one model, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelVersions)]
pub(super) struct VersionsJson {
    model: String,
    versions: Vec<VersionJson>,
}

/// One version. All that are kept go on learning from labels.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelVersion)]
struct VersionJson {
    /// The label-log offset of its promotion; 0 is the online one, which was never refitted.
    version: i64,
    /// Whether it scores.
    active: bool,
    /// Labels that came since it is there.
    labels: u64,
    /// Its mean log loss on these labels, before it learned each; null without one. Lower is better.
    log_loss: Option<f64>,
    /// Null for the online one.
    #[schema(format = "date-time")]
    promoted_at: Option<String>,
}

impl From<&ModelVersion> for VersionJson {
    fn from(known: &ModelVersion) -> Self {
        Self {
            version: known.version,
            active: known.active,
            labels: known.labels,
            log_loss: known.log_loss,
            promoted_at: known.promoted_ms.map(wire::rfc3339),
        }
    }
}

/// Which version is to score.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VersionChoice {
    version: i64,
}

/// The version that scores, as soon as the label log has been read so far.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Activated {
    model: String,
    version: i64,
    /// The one that scored until then.
    before: i64,
}

/// Refit a model to all labels at once
///
/// A task fits a challenger to the older labels, compares it with the model that scores on the newest fifth, and promotes it, fitted to all labels, if
/// its log loss is lower with 95 % confidence and it ranks them no worse.
#[utoipa::path(
    post, path = "/v1/models/{name}/retrain", operation_id = "retrain_model", tag = "models",
    params(("name" = String, Path, description = "As configured"), RetrainParameters),
    responses(
        (status = 202, description = "Taken: the header `location` names the task. Its result is a `Retrained`.", body = TaskJson, headers(("location" = String))),
        (status = 400, description = "A parameter that is not known.", body = ErrorBody),
        (status = 404, description = "No model has this name.", body = ErrorBody),
        (status = 409, description = "It learns from events, not from labels.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn retrain(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    parameters: Result<Query<RetrainParameters>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let name = models::name(path)?;
    let Query(parameters) = parameters.map_err(|rejection| ApiError::parameter(rejection.body_text()))?;
    let shared = api.shared();
    let place = models::place(&api, &name)?;
    let retrain = Retrain::new(&shared.blueprint, place, parameters.dry_run).ok_or_else(|| detector(&name))?;
    let task = shared.tasks.add(Work::Retrain(retrain));
    let task = task.map_err(|error| ApiError::unavailable("busy", error.to_string()))?;
    let location = format!("/v1/tasks/{}", task.id);
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(TaskJson::from(task))))
}

/// List the versions of a model
#[utoipa::path(
    get, path = "/v1/models/{name}/versions", operation_id = "list_model_versions", tag = "models", params(("name" = String, Path, description = "As configured")),
    responses(
        (status = 200, description = "Those that are kept, the newest first: the online one, the one that scores, and the newest refits.", body = VersionsJson),
        (status = 404, description = "No model has this name.", body = ErrorBody),
        (status = 409, description = "It learns from events, not from labels.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn versions(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<VersionsJson>, ApiError> {
    let model = models::name(path)?;
    let work = move |api: &Api| {
        let versions = kept(api, &model)?.iter().rev().map(VersionJson::from).collect();
        Ok(VersionsJson { model, versions })
    };
    api.blocking(work).await.map(Json)
}

/// Let a kept version score
///
/// The label log has it when this is answered; partitions adopt it with their next commit.
#[utoipa::path(
    post, path = "/v1/models/{name}/promote", operation_id = "promote_model_version", tag = "models", params(("name" = String, Path, description = "As configured")),
    request_body(content = VersionChoice, content_type = "application/json"),
    responses(
        (status = 202, description = "The label log has it.", body = Activated),
        (status = 400, description = "Not JSON.", body = ErrorBody),
        (status = 404, description = "No model has this name, or the version is not kept: `details.versions` are.", body = ErrorBody),
        (status = 409, description = "It learns from events, not from labels.", body = ErrorBody),
        (status = 415, description = "Not application/json.", body = ErrorBody),
        (status = 422, description = "No version is named.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn promote(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let model = models::name(path)?;
    let (_, body) = body::read(&api, request, &[Format::Json]).await?;
    let VersionChoice { version } = choice(&body)?;
    let work = move |api: &Api| activate(api, model, Some(version));
    Ok((StatusCode::ACCEPTED, Json(api.upload(work).await?)))
}

/// Let an earlier version score again
///
/// Without a body the one before the version that scores. It has learned every label meanwhile.
#[utoipa::path(
    post, path = "/v1/models/{name}/rollback", operation_id = "rollback_model", tag = "models", params(("name" = String, Path, description = "As configured")),
    request_body(content = Option<VersionChoice>, content_type = "application/json"),
    responses(
        (status = 202, description = "The label log has it.", body = Activated),
        (status = 400, description = "Not JSON.", body = ErrorBody),
        (status = 404, description = "No model has this name, or the version is not kept: `details.versions` are.", body = ErrorBody),
        (status = 409, description = "The online version scores: there is none before it. Or the model learns from events.", body = ErrorBody),
        (status = 415, description = "Not application/json.", body = ErrorBody),
        (status = 422, description = "No version is named in the body.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn rollback(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let model = models::name(path)?;
    let version = if request.headers().contains_key(CONTENT_TYPE) {
        let (_, body) = body::read(&api, request, &[Format::Json]).await?;
        if body.trim_ascii().is_empty() { None } else { Some(choice(&body)?.version) }
    } else {
        None
    };
    let work = move |api: &Api| activate(api, model, version);
    Ok((StatusCode::ACCEPTED, Json(api.upload(work).await?)))
}

/// Export the version that scores
///
/// Its parameters as JSON, with the columns that they belong to and the calibration to a probability.
#[utoipa::path(
    get, path = "/v1/models/{name}/export", operation_id = "export_model", tag = "models", params(("name" = String, Path, description = "As configured")),
    responses(
        (status = 200, description = "A model file.", body = Object, headers(("content-disposition" = String))),
        (status = 404, description = "No model has this name.", body = ErrorBody),
        (status = 409, description = "It is not fitted yet, or learns from events.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn export(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let name = models::name(path)?;
    let shared = api.shared();
    let place = models::place(&api, &name)?;
    let learner = learner_place(&shared.blueprint, place).ok_or_else(|| detector(&name))?;
    let globals = shared.globals.load();
    // What has seen one class only says nothing yet.
    let learner = globals.models.get(learner).filter(|model| model.votes()).and_then(Model::learner);
    let fitted =
        learner.map(|learner| Fitted { form: learner.form().clone(), calibration: learner.calibration().clone() });
    let kind = shared.blueprint.models[place].kind.name();
    let artifact = fitted.and_then(|fitted| wire::artifact_to_json(&shared.names, kind, &fitted)).ok_or_else(|| {
        let message =
            format!("{name:?} is not fitted yet: it needs labels of both classes, and trees need a refit beside");
        ApiError::new(StatusCode::CONFLICT, "not_fitted", message)
    })?;
    let disposition = format!("attachment; filename=\"{name}.json\"");
    Ok(([(CONTENT_TYPE, "application/json".to_owned()), (CONTENT_DISPOSITION, disposition)], artifact))
}

fn detector(name: &str) -> ApiError {
    let message =
        format!("{name:?} learns from every event, not from labels: it is never refitted and has no versions");
    ApiError::new(StatusCode::CONFLICT, "learns_from_events", message)
}

fn choice(body: &[u8]) -> Result<VersionChoice, ApiError> {
    let value: serde_json::Value = serde_json::from_slice(body).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "not_json", format!("the body is not JSON: {error}"))
    })?;
    serde_json::from_value(value)
        .map_err(|error| ApiError::unprocessable("no_version", format!("{{\"version\": N}} is expected: {error}")))
}

/// The kept versions of a model, the oldest first.
fn kept(api: &Api, model: &str) -> Result<Vec<ModelVersion>, ApiError> {
    let shared = api.shared();
    let place = models::place(api, model)?;
    let learner = learner_place(&shared.blueprint, place).ok_or_else(|| detector(model))?;
    let mut all = shared.versions(api.patience()).map_err(|error| ApiError::unavailable("busy", error.to_string()))?;
    Ok(all.swap_remove(learner))
}

/// Puts a version in charge, or without one the version before the one that scores. Returns once the label log has it.
fn activate(api: &Api, model: String, version: Option<i64>) -> Result<Activated, ApiError> {
    let kept = kept(api, &model)?;
    let active = kept.iter().position(|known| known.active).unwrap_or(0);
    let before = kept[active].version;
    let version = match version {
        Some(version) => version,
        None if active > 0 => kept[active - 1].version,
        None => {
            let message = format!("version {ONLINE} of {model:?}, the online one, scores: there is none before it");
            return Err(ApiError::new(StatusCode::CONFLICT, "no_earlier_version", message));
        }
    };
    if !kept.iter().any(|known| known.version == version) {
        let there: Vec<i64> = kept.iter().rev().map(|known| known.version).collect();
        let listed = there.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("version {version} of {model:?} is not kept: there are {listed}");
        return Err(ApiError::not_found(message).with_details(json!({ "versions": there })));
    }
    send(api, &wire::activation_to_label_log(&model, version))?;
    tracing::info!(model, version, before, "another version was put in charge");
    Ok(Activated { model, version, before })
}

/// Returns once Kafka has acknowledged the record.
fn send(api: &Api, record: &[u8]) -> Result<(), ApiError> {
    let shared = api.shared();
    let failed = |error: anyhow::Error| {
        tracing::warn!(error = format!("{error:#}"), "an activation could not be sent");
        ApiError::unavailable("not_acknowledged", "Kafka has not acknowledged it; send it again: twice does no harm")
    };
    let ticket = {
        let mut sender = api.sender().lock().unwrap_or_else(PoisonError::into_inner);
        let topic = &shared.config.kafka.label_log;
        let timestamp_ms = telemetry::now_ms();
        sender
            .send(Produced { topic, key: None, payload: Some(record), timestamp_ms, headers: None })
            .map_err(failed)?;
        sender.close()
    };
    let timer = telemetry::stopwatch();
    ticket.wait(|| shared.given_up() || timer.elapsed() > api.patience()).map_err(failed)
}
