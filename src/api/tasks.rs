//! `GET /v1/tasks` and `GET` and `DELETE /v1/tasks/{id}`: long work, while it is under way and after.

use super::error::{ApiError, ErrorBody};
use super::state::Api;
use crate::service::{State as TaskState, Task};
use crate::wire::rfc3339;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Tasks of this process, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskList {
    tasks: Vec<TaskJson>,
}

/// Long work. It ends with the process, and is not taken up again by the next.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(super) struct TaskJson {
    #[schema(example = "19a3f0c2b11-1")]
    id: String,
    #[schema(example = "training_data")]
    kind: &'static str,
    #[schema(inline)]
    state: TaskState,
    progress: ProgressJson,
    #[schema(format = "date-time")]
    created: String,
    #[schema(format = "date-time")]
    started: Option<String>,
    #[schema(format = "date-time")]
    ended: Option<String>,
    /// What was done, once it has ended, also where it was cut short; of training data an `Uploaded`, of a refit a `Retrained`. Only where one task is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// Why it did not do all of it.
    error: Option<String>,
}

/// How far a task is; of training data in bytes of the file, of a refit in thousandths.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskProgress)]
struct ProgressJson {
    done: u64,
    total: u64,
}

impl From<Task> for TaskJson {
    fn from(task: Task) -> Self {
        let (done, total) = task.progress.get();
        Self {
            id: task.id,
            kind: task.kind,
            state: task.state,
            progress: ProgressJson { done, total },
            created: rfc3339(task.created_ms),
            started: task.started_ms.map(rfc3339),
            ended: task.ended_ms.map(rfc3339),
            result: task.result,
            error: task.error,
        }
    }
}

/// List the tasks
#[utoipa::path(
    get, path = "/v1/tasks", operation_id = "list_tasks", tag = "tasks",
    responses((status = 200, description = "The last 100, without their results.", body = TaskList))
)]
pub(super) async fn list(State(api): State<Api>) -> Json<TaskList> {
    Json(TaskList { tasks: api.shared().tasks.list().into_iter().map(TaskJson::from).collect() })
}

/// Show one task
#[utoipa::path(
    get, path = "/v1/tasks/{id}", operation_id = "show_task", tag = "tasks", params(("id" = String, Path, description = "As it was answered")),
    responses(
        (status = 200, description = "With its result, once it has ended.", body = TaskJson),
        (status = 404, description = "Not a task of this process.", body = ErrorBody),
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskJson>, ApiError> {
    let id = id(path)?;
    api.shared().tasks.get(&id).map(|task| Json(task.into())).ok_or_else(|| unknown(&id))
}

/// Cancel a task
///
/// One that waits ends at once, one that runs soon after; what it wrote before stays. A task that has ended is left as it is.
#[utoipa::path(
    delete, path = "/v1/tasks/{id}", operation_id = "cancel_task", tag = "tasks", params(("id" = String, Path, description = "As it was answered")),
    responses(
        (status = 200, description = "As it is now.", body = TaskJson),
        (status = 404, description = "Not a task of this process.", body = ErrorBody),
    )
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskJson>, ApiError> {
    let id = id(path)?;
    api.shared().tasks.cancel(&id).map(|task| Json(task.into())).ok_or_else(|| unknown(&id))
}

fn id(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    let Path(id) = path.map_err(|rejection| ApiError::refused(rejection.status(), rejection.body_text()))?;
    Ok(id)
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!(
        "there is no task {id:?}: tasks end with the process, and the last 100 are remembered; an upload can simply be sent again, \
         for a row that comes twice is learned once"
    ))
}
