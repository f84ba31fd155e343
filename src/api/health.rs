//! Liveness, readiness, metrics, and the description of the API itself.

use super::error::{ApiError, ErrorBody};
use super::router::openapi_text;
use super::state::Api;
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(example = "ready")]
    status: &'static str,
}

/// Whether the process answers
///
/// It never depends on Kafka: restarting larum does not mend a broker.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, description = "It does.", body = Health)))]
pub(super) async fn livez() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Whether the service does its work
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "The label log is folded, the group has assigned partitions, and what is scored is committed.", body = Health),
        (status = 503, description = "Not yet, or not any more; the message says what it waits for.", body = ErrorBody),
    )
)]
pub(super) async fn readyz(State(api): State<Api>) -> Result<Json<Health>, ApiError> {
    let shared = api.shared();
    let status = shared.status();
    let waits_for = if shared.stopping() {
        "larum is stopping".to_owned()
    } else if !status.trained {
        "the label log is being folded".to_owned()
    } else if !status.assigned_once {
        "no partition has been assigned yet".to_owned()
    } else if let Some(waited) = shared.late_commit() {
        format!("the brokers (or the store) have not taken what was scored for {} s", waited.as_secs())
    } else {
        return Ok(Json(Health { status: "ready" }));
    };
    Err(ApiError::unavailable("not_ready", waits_for))
}

/// Metrics for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "OpenMetrics text.", body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let shared = api.shared();
    let states: Vec<_> = shared.tasks.list().into_iter().map(|task| task.state).collect();
    shared.metrics.tasks(&states);
    (headers, shared.metrics.encode())
}

/// This description
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "describe_api", tag = "health",
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = Object))
)]
pub(super) async fn description() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi_text())
}
