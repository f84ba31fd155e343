//! `GET /v1/models` and `/{name}`: what is configured, and how far it has learned. Refits and versions are in `refits`.

use super::error::{ApiError, ErrorBody, Failures};
use super::state::Api;
use crate::model::LearnsFrom;
use crate::service::Described;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// Every configured model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Models {
    models: Vec<ModelJson>,
}

/// One model. A label learner is one for all partitions; of a detector, which learns from every event, each partition has its own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Model)]
pub(super) struct ModelJson {
    name: String,
    kind: &'static str,
    learns_from: LearnsFromJson,
    /// The label-log offset up to which it has learned; null for a detector.
    version: Option<i64>,
    /// The events that it has learned labels of; null for a detector.
    labels: Option<Labels>,
    /// Whether its scores count: both classes are labelled, or every partition's detector has warmed up.
    ready: bool,
    /// Those assigned to this larum.
    partitions: Vec<PartitionJson>,
    /// Weights by feature, per standard deviation. Only where one label learner is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, f64>>)]
    parameters: Option<Parameters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = LearnsFrom)]
enum LearnsFromJson {
    Events,
    Labels,
}

/// Labelled events, by their current label.
#[derive(Debug, Serialize, ToSchema)]
struct Labels {
    anomalies: u64,
    normals: u64,
}

/// One model in one partition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelPartition)]
struct PartitionJson {
    partition: i32,
    /// Scored through this offset.
    offset: i64,
    /// The version of the label learners that it has adopted.
    model_version: i64,
    ready: bool,
    /// How much of its warm-up the detector has seen; absent for a label learner.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needed: Option<u64>,
    /// Of a regression: mean and deviation by feature; other detectors have none. Only where one detector is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, f64>>)]
    parameters: Option<Parameters>,
}

/// Names and values, in the order of the query.
#[derive(Debug)]
struct Parameters(Vec<(String, f64)>);

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// List the models
#[utoipa::path(
    get, path = "/v1/models", operation_id = "list_models", tag = "models",
    responses((status = 200, description = "In the order of the configuration.", body = Models), Failures)
)]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Models>, ApiError> {
    let work = |api: &Api| {
        let partitions = described(api)?;
        let models = &api.shared().blueprint.models;
        Ok(Models { models: (0..models.len()).map(|place| model(api, place, &partitions, false)).collect() })
    };
    api.blocking(work).await.map(Json)
}

/// Show one model, with its parameters
#[utoipa::path(
    get, path = "/v1/models/{name}", operation_id = "show_model", tag = "models", params(("name" = String, Path, description = "As configured")),
    responses(
        (status = 200, description = "With its parameters by feature.", body = ModelJson),
        (status = 404, description = "No model has this name.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelJson>, ApiError> {
    let name = name(path)?;
    let work = move |api: &Api| {
        let place = place(api, &name)?;
        Ok(model(api, place, &described(api)?, true))
    };
    api.blocking(work).await.map(Json)
}

/// The name in the path.
pub(super) fn name(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    let Path(name) = path.map_err(|rejection| ApiError::refused(rejection.status(), rejection.body_text()))?;
    Ok(name)
}

/// The place of a model in the configuration.
pub(super) fn place(api: &Api, name: &str) -> Result<usize, ApiError> {
    let names = &api.shared().names.models;
    let place = names.iter().position(|known| known == name);
    place.ok_or_else(|| ApiError::not_found(format!("there is no model {name:?}: there are {}", names.join(", "))))
}

/// The assigned partitions, lowest first.
fn described(api: &Api) -> Result<Vec<Described>, ApiError> {
    let answers =
        api.shared().describe(api.patience()).map_err(|error| ApiError::unavailable("busy", error.to_string()))?;
    let mut partitions: Vec<Described> = answers.into_iter().flatten().collect();
    partitions.sort_by_key(|described| described.partition);
    Ok(partitions)
}

/// The model at `place` in the configuration.
fn model(api: &Api, place: usize, partitions: &[Described], with_parameters: bool) -> ModelJson {
    let shared = api.shared();
    let spec = &shared.blueprint.models[place];
    let parts = shared.blueprint.parts();
    // Detectors and label learners are kept apart: its place among its own.
    let learns_from = parts[place].learns_from;
    let among = parts[..place].iter().filter(|part| part.learns_from == learns_from).count();
    match learns_from {
        LearnsFrom::Labels => {
            let globals = shared.globals.load();
            let model = &globals.models[among];
            let partition = |described: &Described| PartitionJson {
                partition: described.partition,
                offset: described.offset,
                model_version: described.model_version,
                ready: described.learners_voting[among],
                seen: None,
                needed: None,
                parameters: None,
            };
            ModelJson {
                name: spec.name.clone(),
                kind: spec.kind.name(),
                learns_from: LearnsFromJson::Labels,
                version: Some(globals.version),
                labels: Some(Labels { anomalies: globals.anomalies, normals: globals.normals }),
                ready: model.votes(),
                partitions: partitions.iter().map(partition).collect(),
                parameters: with_parameters.then(|| Parameters(model.parameters())),
            }
        }
        LearnsFrom::Events => {
            let partition = |described: &Described| {
                let detector = &described.detectors[among];
                PartitionJson {
                    partition: described.partition,
                    offset: described.offset,
                    model_version: described.model_version,
                    ready: detector.progress.ready(),
                    seen: Some(detector.progress.seen),
                    needed: Some(detector.progress.needed),
                    parameters: with_parameters.then(|| Parameters(detector.parameters.clone())),
                }
            };
            let partitions: Vec<PartitionJson> = partitions.iter().map(partition).collect();
            ModelJson {
                name: spec.name.clone(),
                kind: spec.kind.name(),
                learns_from: LearnsFromJson::Events,
                version: None,
                labels: None,
                ready: !partitions.is_empty() && partitions.iter().all(|partition| partition.ready),
                partitions,
                parameters: None,
            }
        }
    }
}
