//! `GET /v1/predictions` and `/{event_id}`: scored events from the store, as they stand on the predictions topic.

use super::error::{ApiError, ErrorBody, Failures};
use super::schema;
use super::state::Api;
use crate::features::{Column, ColumnKind};
use crate::model::Label;
use crate::store::{Filter, LabelFilter, LabelRow, StoredPrediction};
use crate::suggest::nearest;
use crate::wire::{self, LabelRecord, Names, PredictionJson, SubjectJson, WarmupJson};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use std::borrow::Cow;
use utoipa::{IntoParams, ToSchema};

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;
const PARAMETERS: [&str; 8] = ["from", "to", "entity", "min_score", "alarm", "label", "limit", "cursor"];

/// Which scored events.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents what `filter` reads")]
pub(super) struct Parameters {
    /// Event times from this one on: RFC 3339, or milliseconds since 1970.
    #[param(example = "2026-01-31T08:00:00Z")]
    from: Option<String>,
    /// Event times before this one.
    to: Option<String>,
    entity: Option<String>,
    #[param(minimum = 0, maximum = 1)]
    min_score: Option<f64>,
    alarm: Option<bool>,
    #[param(inline)]
    label: Option<LabelParameter>,
    /// At most 1,000; by default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The current label; `none` for events without one.
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum LabelParameter {
    Anomaly,
    Normal,
    None,
}

/// Some scored events, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Page<'a> {
    #[schema(value_type = Vec<schema::Prediction>)]
    predictions: Vec<PredictionJson<'a>>,
    /// For the next page; null on the last one.
    next_cursor: Option<String>,
}

/// List scored events, newest first
#[utoipa::path(
    get, path = "/v1/predictions", operation_id = "list_predictions", tag = "predictions", params(Parameters),
    responses(
        (status = 200, description = "A page of them. Following the cursors meets every stored event once.", body = Page),
        (status = 400, description = "A parameter is not known, or its value is not possible.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(pairs) = query.map_err(|rejection| ApiError::parameter(rejection.body_text()))?;
    let filter = filter(&pairs)?;
    let work = move |api: &Api| {
        let page = api.shared().store.read(|reader| reader.predictions(&filter))?;
        let rows: Vec<_> = page.rows.iter().map(|stored| Row::new(&api.shared().names, stored)).collect();
        let predictions = rows.iter().map(Row::json).collect();
        text(&Page { predictions, next_cursor: page.next_cursor })
    };
    Ok(([(CONTENT_TYPE, "application/json")], api.blocking(work).await?))
}

/// Show one scored event, with its label
#[utoipa::path(
    get, path = "/v1/predictions/{event_id}", operation_id = "show_prediction", tag = "predictions", params(("event_id" = String, Path, description = "As in the event")),
    responses(
        (status = 200, description = "As on the predictions topic, with the label where there is one.", body = schema::Prediction),
        (status = 404, description = "Not stored: never seen, not kept, or past its retention.", body = ErrorBody),
        Failures,
    )
)]
pub(super) async fn one(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Path(event_id) = path.map_err(|rejection| ApiError::refused(rejection.status(), rejection.body_text()))?;
    let work = move |api: &Api| {
        let stored = api.shared().store.read(|reader| reader.prediction(&event_id))?;
        let stored = stored.ok_or_else(|| {
            ApiError::not_found(format!(
                "no scored event {event_id:?} is stored: it was never seen, not kept, or is past its retention"
            ))
        })?;
        text(&Row::new(&api.shared().names, &stored).json())
    };
    Ok(([(CONTENT_TYPE, "application/json")], api.blocking(work).await?))
}

fn text(answer: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(answer).map_err(|error| ApiError::internal("the answer could not be written", &error))
}

/// The names of a stored row: those in force, with their order, or, after the query was edited, those that it was stored with.
fn names<'a>(now: &'a Names, stored: &StoredPrediction) -> Cow<'a, Names> {
    let columns = &stored.columns;
    let of = |kind| now.columns.iter().filter(move |column| column.kind == kind).map(|column| &column.name);
    if of(ColumnKind::Number).eq(&columns.numbers)
        && of(ColumnKind::Category).eq(&columns.categories)
        && now.models == columns.models
    {
        return Cow::Borrowed(now);
    }
    let numbers = columns.numbers.iter().map(|name| (name, ColumnKind::Number));
    let categories = columns.categories.iter().map(|name| (name, ColumnKind::Category));
    Cow::Owned(Names {
        columns: numbers.chain(categories).map(|(name, kind)| Column { name: name.clone(), kind }).collect(),
        models: columns.models.clone(),
    })
}

/// A stored row with what its JSON borrows.
struct Row<'a> {
    names: Cow<'a, Names>,
    /// 0 where a model gave none, as on the predictions topic.
    scores: Vec<f64>,
    stored: &'a StoredPrediction,
}

impl<'a> Row<'a> {
    fn new(now: &'a Names, stored: &'a StoredPrediction) -> Self {
        let scores = stored.row.scores.iter().map(|score| score.unwrap_or(0.0)).collect();
        Self { names: names(now, stored), scores, stored }
    }

    fn json(&self) -> PredictionJson<'_> {
        let row = &self.stored.row;
        let contribution = |(name, value): &'a (String, f64)| (name.as_str(), *value);
        PredictionJson {
            subject: Some(SubjectJson {
                event_id: &row.event_id,
                topic: &row.topic,
                partition: row.partition,
                offset: Some(row.offset),
                time: wire::rfc3339(row.time_ms),
                entity: &row.entity,
            }),
            score: row.score,
            p_value: row.p_value,
            alarm: Some(row.alarm),
            warmup: row.warmup.map(|(seen, needed)| WarmupJson { seen, needed }),
            model_version: row.model_version,
            scores: (&self.names, &self.scores),
            // They are not stored.
            probabilities: (&self.names, &[]),
            features: (&self.names, &row.features),
            contributions: row.contributions.as_ref().map(|list| list.iter().map(contribution).collect()),
            label: self.stored.label.as_ref().and_then(label),
        }
    }
}

/// None where the label was revoked.
fn label(row: &LabelRow) -> Option<LabelRecord> {
    let verdict = &row.verdict;
    Some(LabelRecord {
        event_id: verdict.event_id.clone(),
        label: verdict.label?.into(),
        who: Some(verdict.who.clone()).filter(|who| !who.is_empty()),
        note: verdict.note.clone(),
        at: Some(wire::rfc3339(verdict.at_ms)),
    })
}

/// The filter that the query parameters mean.
fn filter(pairs: &[(String, String)]) -> Result<Filter, ApiError> {
    let mut filter = Filter { limit: LIMIT, ..Filter::default() };
    for (place, (name, value)) in pairs.iter().enumerate() {
        if pairs[..place].iter().any(|(earlier, _)| earlier == name) {
            return Err(ApiError::parameter(format!("`{name}` is given twice")));
        }
        let wrong = |wanted: &str| ApiError::parameter(format!("`{name}` is {value:?}, and must be {wanted}"));
        match name.as_str() {
            "from" => filter.from_ms = Some(time(value).ok_or_else(|| wrong(TIME))?),
            "to" => filter.to_ms = Some(time(value).ok_or_else(|| wrong(TIME))?),
            "entity" => filter.entity = Some(value.clone()),
            "min_score" => {
                let score = value.parse().ok().filter(|score| (0.0..=1.0).contains(score));
                filter.min_score = Some(score.ok_or_else(|| wrong("a score from 0 to 1"))?);
            }
            "alarm" => filter.alarm = Some(value.parse().map_err(|_| wrong("true or false"))?),
            "label" => {
                filter.label = Some(match value.as_str() {
                    "anomaly" => LabelFilter::Is(Label::Anomaly),
                    "normal" => LabelFilter::Is(Label::Normal),
                    "none" => LabelFilter::Unlabelled,
                    _ => return Err(wrong("anomaly, normal or none")),
                });
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                filter.limit = limit.ok_or_else(|| wrong("a number from 1 to 1000"))?;
            }
            "cursor" => filter.cursor = Some(value.clone()),
            _ => {
                let hint = nearest(name, PARAMETERS).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
                return Err(ApiError::parameter(format!(
                    "`{name}` is not known: {hint}there are {}",
                    PARAMETERS.join(", ")
                )));
            }
        }
    }
    Ok(filter)
}

const TIME: &str = "a time in RFC 3339 (2026-01-31T08:00:00Z) or in milliseconds since 1970";

fn time(text: &str) -> Option<i64> {
    // An unescaped `+` of a time zone arrives as a space.
    let instant = || text.replace(' ', "+").parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    text.parse().ok().or_else(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Filter, String> {
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        filter(&pairs).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn every_parameter_is_read() {
        let filter =
            of("from=1000&to=1970-01-01T01:00:02 01:00&entity=a&min_score=0.5&alarm=true&label=none&limit=7&cursor=c")
                .unwrap();
        let expected = Filter {
            from_ms: Some(1_000),
            to_ms: Some(2_000),
            entity: Some("a".into()),
            min_score: Some(0.5),
            alarm: Some(true),
            label: Some(LabelFilter::Unlabelled),
            limit: 7,
            cursor: Some("c".into()),
        };
        assert_eq!(filter, expected);
        assert_eq!(of("").unwrap(), Filter { limit: 100, ..Filter::default() });
    }

    #[test]
    fn what_is_not_possible_is_refused() {
        for query in [
            "min_score=1.5",
            "min_score=NaN",
            "alarm=yes",
            "label=odd",
            "limit=0",
            "limit=1001",
            "from=noon",
            "limit=1&limit=2",
            "x=1",
        ] {
            assert!(of(query).is_err(), "{query}");
        }
        assert!(of("entty=a").unwrap_err().contains("did you mean `entity`?"));
    }
}
