//! The routes, their description, and what holds for all of them: a time limit, a body limit, and errors in one shape.

use super::error::ApiError;
use super::state::Api;
use super::{health, labels, models, predict, predictions, refits, tasks, training_data};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::sync::OnceLock;
use tokio::task::JoinSet;
use utoipa::OpenApi;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOf, Schema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(
    info(title = "larum", description = "Online anomaly detection for Kafka that learns from labels."),
    components(schemas(crate::service::Uploaded, crate::service::Retrained)),
    tags(
        (name = "predictions", description = "Scored events, and scores on request"),
        (name = "labels", description = "Verdicts on events"),
        (name = "models", description = "What has been learned"),
        (name = "tasks", description = "Long work"),
        (name = "health", description = "For those who operate larum"),
    )
)]
struct Described;

fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(predict::predict))
        .routes(routes!(predictions::list))
        .routes(routes!(predictions::one))
        .routes(routes!(labels::upload))
        .routes(routes!(training_data::upload))
        .routes(routes!(models::list))
        .routes(routes!(models::one))
        .routes(routes!(refits::retrain))
        .routes(routes!(refits::versions))
        .routes(routes!(refits::promote))
        .routes(routes!(refits::rollback))
        .routes(routes!(refits::export))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::one, tasks::cancel))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(health::description))
}

/// The OpenAPI 3.1 description of every route.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = routes().into_openapi();
    // What is `untagged` becomes "exactly one of", but {"events": [...]} is also an object, as every raw event is: "any of" is true.
    let schemas = document.components.as_mut().map(|components| &mut components.schemas);
    if let Some(RefOr::T(schema)) = schemas.and_then(|schemas| schemas.get_mut("PredictRequest"))
        && let Schema::OneOf(one) = schema
    {
        let one = std::mem::take(one);
        *schema = Schema::AnyOf(AnyOf { items: one.items, description: one.description, ..AnyOf::default() });
    }
    document
}

/// The same as text, built once.
pub(super) fn openapi_text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| openapi().to_json().expect("names and sentences: writing them to memory cannot fail"))
}

/// The service behind every connection.
pub(super) fn router(api: &Api) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(api.clone(), guard))
        .layer(DefaultBodyLimit::max(api.shared().config.limits.body_bytes))
        .with_state(api.clone())
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}; /openapi.json describes what there is", uri.path()))
}

async fn unknown_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{method} is not possible at {}; the header `allow` names what is", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Ends a request that takes too long, and turns a panic into an answer. A client that leaves takes its request along.
async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let mut task = JoinSet::new();
    // A file of training data may take long to come: its handler bounds each wait instead.
    let is_file = request.uri().path() == training_data::PATH && request.method() == Method::POST;
    task.spawn(next.run(request));
    let answered = if is_file {
        Ok(task.join_next().await)
    } else {
        tokio::time::timeout(api.request_max(), task.join_next()).await
    };
    match answered {
        Ok(Some(Ok(response))) => response,
        Ok(Some(Err(error))) => ApiError::internal("a request ended in a defect", &error).into_response(),
        Ok(None) => unreachable!("one task was spawned, and nobody else takes it"),
        Err(_) => {
            api.shared().metrics.limit("request_ms", 1);
            let message = format!(
                "no answer within {} ms ([limits] request_ms): try again, or ask for less",
                api.request_max().as_millis()
            );
            ApiError::unavailable("timed_out", message).into_response()
        }
    }
}
