//! `POST /v1/predict`: scores on request, answered by the owner of the entity's partition on its loop.

use super::body::{self, Format};
use super::error::{ApiError, ErrorBody, Failures};
use super::predict_lines::{self, Line};
use super::schema;
use super::state::Api;
use crate::engine::Prediction;
use crate::service::Predicted;
use crate::wire::{Names, PredictionJson, WarmupJson};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use std::cmp::Reverse;
use std::sync::Arc;
use utoipa::ToSchema;

/// One answer per line of the request, in its order.
#[derive(Serialize, ToSchema)]
pub(super) struct Answer<'a> {
    #[schema(value_type = Vec<schema::PredictedLine>)]
    predictions: Vec<Answered<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answered<'a> {
    Predicted(Box<PredictedJson<'a>>),
    Refused(ErrorBody),
}

#[derive(Serialize)]
struct PredictedJson<'a> {
    partition: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_known: Option<bool>,
    #[serde(flatten)]
    prediction: PredictionJson<'a>,
}

/// Score events without learning from them
///
/// Takes one raw event or a list of them, bare or as `{"events": [...]}`, or features by name as `{"features": {...}}` or
/// `{"features": [{...}]}`; at most 1,000. Features by name are those of an entity not seen before: a
/// model whose scope is the entity measures them by all. No window moves and nothing is stored.
#[utoipa::path(
    post, path = "/v1/predict", tag = "predictions",
    request_body(content = schema::PredictRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "An answer per line: a score, or why there is none.", body = Answer),
        (status = 400, description = "Not JSON.", body = ErrorBody),
        (status = 408, description = "The body came too slowly.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 415, description = "Not application/json.", body = ErrorBody),
        (status = 422, description = "No line can be scored: `details.predictions` says why, line by line.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn predict(State(api): State<Api>, request: Request) -> Result<impl IntoResponse, ApiError> {
    let (_, body) = body::read(&api, request, &[Format::Json]).await?;
    let answer = api.blocking(move |api| answer(api, &body)).await?;
    Ok(([(CONTENT_TYPE, "application/json")], answer))
}

fn answer(api: &Api, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let shared = api.shared();
    let lines = predict_lines::parse(&shared.blueprint, &shared.config.kafka.events, crate::telemetry::now_ms(), body)?;
    let queries = Arc::new(lines.iter().flatten().map(|line| line.query.clone()).collect::<Vec<_>>());
    if queries.is_empty() {
        let refused: Vec<Answered<'_>> = lines.into_iter().filter_map(|line| line.err().map(refused)).collect();
        let message = format!("none of {} lines can be scored: details.predictions says why", refused.len());
        let details = serde_json::to_value(Answer { predictions: refused }).expect("sentences are written to memory");
        return Err(ApiError::unprocessable("nothing_to_score", message).with_details(details));
    }
    let owners =
        shared.predict(&queries, api.patience()).map_err(|error| ApiError::unavailable("busy", error.to_string()))?;
    let chosen = choose(owners, queries.len()).ok_or_else(|| {
        ApiError::unavailable(
            "no_partition",
            "no partition is assigned to this larum, so there is nothing to score with",
        )
    })?;
    let mut chosen = chosen.iter();
    let predictions = lines.iter().map(|line| match line {
        Err(error) => refused(error.clone()),
        Ok(line) => answered(&shared.names, line, chosen.next().expect("every query has its answer")),
    });
    let answer = Answer { predictions: predictions.collect() };
    serde_json::to_vec(&answer).map_err(|error| ApiError::internal("the answer could not be written", &error))
}

/// The owner that saw the entity last answers, or else the one with the lowest partition. None: nobody owns a partition.
fn choose(owners: Vec<Vec<Predicted>>, queries: usize) -> Option<Vec<Predicted>> {
    let mut owners: Vec<_> = owners.into_iter().filter(|answers| !answers.is_empty()).map(Vec::into_iter).collect();
    let best = |_| {
        owners.iter_mut().filter_map(Iterator::next).max_by_key(|answer| (answer.last_seen, Reverse(answer.partition)))
    };
    (0..queries).map(best).collect()
}

fn refused(error: ApiError) -> Answered<'static> {
    Answered::Refused(error.into_failure())
}

fn answered<'a>(names: &'a Names, line: &'a Line, predicted: &'a Predicted) -> Answered<'a> {
    match &predicted.prediction {
        Ok(Some(prediction)) => Answered::Predicted(Box::new(PredictedJson {
            partition: predicted.partition,
            entity: line.entity.as_deref(),
            entity_known: line.entity.is_some().then_some(predicted.last_seen.is_some()),
            prediction: json(names, prediction),
        })),
        Ok(None) => {
            refused(ApiError::unprocessable("filtered", "the WHERE of the feature query leaves this event out"))
        }
        Err(rejection) => refused(ApiError::unprocessable(rejection.reason.as_str(), rejection.detail.clone())),
    }
}

fn json<'a>(names: &'a Names, prediction: &'a Prediction) -> PredictionJson<'a> {
    let named = |list: &'a Vec<(usize, f64)>| {
        list.iter().map(|&(column, value)| (names.columns[column].name.as_str(), value)).collect()
    };
    PredictionJson {
        subject: None,
        score: prediction.score(),
        p_value: prediction.p_value(),
        alarm: None,
        warmup: prediction.warmup.map(|warmup| WarmupJson { seen: warmup.seen, needed: warmup.needed }),
        model_version: prediction.model_version,
        scores: (names, &prediction.scores),
        probabilities: (names, &prediction.probabilities),
        features: (names, &prediction.features),
        contributions: prediction.contributions.as_ref().map(named),
        label: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Reason, Rejection};

    fn by(partition: i32, last_seen: Option<i64>) -> Predicted {
        Predicted { partition, last_seen, prediction: Err(Rejection { reason: Reason::Empty, detail: String::new() }) }
    }

    #[test]
    fn the_owner_that_saw_the_entity_last_answers_or_the_lowest_partition() {
        let owners = vec![
            vec![by(1, None), by(1, Some(5))],
            vec![],
            vec![by(0, None), by(0, Some(3))],
            vec![by(2, None), by(4, None)],
        ];
        let chosen: Vec<i32> = choose(owners, 2).unwrap().iter().map(|answer| answer.partition).collect();
        assert_eq!(chosen, [0, 1]);
        assert!(choose(vec![vec![], vec![]], 1).is_none());
    }
}
