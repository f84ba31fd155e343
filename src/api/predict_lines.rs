//! The body of `/v1/predict` -> what the owners of partitions are asked, line by line.

use super::error::ApiError;
use crate::engine::Blueprint;
use crate::event::Record;
use crate::features::{Column, ColumnKind, FeatureVector};
use crate::service::Query;
use crate::suggest::nearest;
use axum::http::StatusCode;
use serde_json::{Map, Value};

/// Events or feature vectors of one request.
pub(super) const LINES_MAX: usize = 1_000;
/// Beyond this magnitude no number reaches a model.
const NUMBER_MAX: f64 = 1e30;
/// Names in a message that lists what there is.
const NAMES_SHOWN_MAX: usize = 20;

/// One line that can be scored.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) query: Query,
    /// None where features were given.
    pub(super) entity: Option<String>,
}

/// Every line of the body, in its order.
///
/// # Errors
/// When the body as a whole is not what the route takes; a line that cannot be used is refused alone.
pub(super) fn parse(
    blueprint: &Blueprint,
    topic: &str,
    now_ms: i64,
    body: &[u8],
) -> Result<Vec<Result<Line, ApiError>>, ApiError> {
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "broken_json", format!("the body is not JSON: {error}"))
    })?;
    let lines = lines(body)?;
    if lines.is_empty() {
        return Err(ApiError::unprocessable("empty", "the request holds no event"));
    }
    if lines.len() > LINES_MAX {
        let message = format!("{} events in one request: send at most {LINES_MAX}", lines.len());
        return Err(ApiError::unprocessable("too_many", message));
    }
    Ok(lines.into_iter().map(|line| self::line(blueprint, topic, now_ms, line)).collect())
}

fn lines(body: Value) -> Result<Vec<Value>, ApiError> {
    match body {
        Value::Array(lines) => Ok(lines),
        Value::Object(mut object) => {
            match single(&object) {
                Some(("events", Value::Array(_))) => {
                    if let Some(Value::Array(events)) = object.remove("events") {
                        return Ok(events);
                    }
                }
                Some(("features", Value::Array(_))) => {
                    if let Some(Value::Array(vectors)) = object.remove("features") {
                        let wrap = |vector| Value::Object(Map::from_iter([("features".to_owned(), vector)]));
                        return Ok(vectors.into_iter().map(wrap).collect());
                    }
                }
                _ => {}
            }
            Ok(vec![Value::Object(object)])
        }
        other => {
            let message = format!(
                "the body is {}: send one event, a list of events, or {{\"features\": {{name: value}}}}",
                kind(&other)
            );
            Err(ApiError::unprocessable("not_an_event", message))
        }
    }
}

/// The only member of an object that has one.
fn single(object: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (name, value) = object.iter().next().filter(|_| object.len() == 1)?;
    Some((name, value))
}

fn line(blueprint: &Blueprint, topic: &str, now_ms: i64, line: Value) -> Result<Line, ApiError> {
    if let Value::Object(object) = &line
        && let Some(("features", features)) = single(object)
        && let Value::Array(_) | Value::Object(_) = features
    {
        let Value::Object(features) = features else {
            return Err(ApiError::unprocessable(
                "not_features",
                format!("`features` is {}: send {{name: value}}", kind(features)),
            ));
        };
        let features = vector(blueprint.plan.columns(), features)?;
        return Ok(Line { query: Query::Features(features), entity: None });
    }
    let payload = serde_json::to_vec(&line).expect("a value that was JSON is written to memory again");
    let record = Record { offset: 0, timestamp_ms: now_ms, key: None, payload: Some(&payload) };
    // The owner decodes it again: here it is refused early, and its entity is read for the answer.
    let event = blueprint.decoder.decode(topic, 0, &record);
    let entity = event.map(|event| event.entity.into_owned());
    let entity = entity.map_err(|rejection| ApiError::unprocessable(rejection.reason.as_str(), rejection.detail))?;
    Ok(Line { query: Query::Event(payload), entity: Some(entity) })
}

/// A feature vector from its values by name; what is not named is missing.
fn vector(columns: &[Column], given: &Map<String, Value>) -> Result<FeatureVector, ApiError> {
    let names = || columns.iter().map(|column| column.name.as_str());
    for name in given.keys() {
        if !names().any(|known| known == name) {
            let hint = match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", names().take(NAMES_SHOWN_MAX).collect::<Vec<_>>().join(", ")),
            };
            return Err(ApiError::unprocessable(
                "unknown_feature",
                format!("the query has no feature `{name}`: {hint}"),
            ));
        }
    }
    let (mut numbers, mut categories) = (Vec::new(), Vec::new());
    for column in columns {
        let value = given.get(&column.name).unwrap_or(&Value::Null);
        let refused = |wanted: &str| {
            let message = format!(
                "feature `{}` is {}, and must be {wanted}, or null where it is missing",
                column.name,
                kind(value)
            );
            ApiError::unprocessable("wrong_type", message)
        };
        match column.kind {
            ColumnKind::Number => numbers.push(match value {
                Value::Null => f64::NAN,
                Value::Bool(is_true) => f64::from(u8::from(*is_true)),
                Value::Number(number) => match number.as_f64() {
                    Some(number) if number.abs() <= NUMBER_MAX => number,
                    _ => return Err(refused("a number between -1e30 and 1e30")),
                },
                _ => return Err(refused("a number")),
            }),
            ColumnKind::Category => categories.push(match value {
                Value::Null => None,
                Value::String(text) => Some(text.as_str().into()),
                _ => return Err(refused("a text")),
            }),
        }
    }
    Ok(FeatureVector { numbers: numbers.into(), categories: categories.into() })
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "a boolean".into(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a text".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        vec![
            column("latency", ColumnKind::Number),
            column("region", ColumnKind::Category),
            column("failed", ColumnKind::Number),
        ]
    }

    fn object(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn features_by_name_become_a_vector() {
        let vector = vector(&columns(), &object(r#"{"failed":true,"region":"eu"}"#)).unwrap();
        assert!(vector.numbers[0].is_nan() && vector.numbers[1] == 1.0 && vector.numbers.len() == 2);
        assert_eq!(vector.categories[0].as_deref(), Some("eu"));
    }

    #[test]
    fn what_is_no_feature_is_refused() {
        let refused = |text: &str| format!("{:?}", vector(&columns(), &object(text)).unwrap_err());
        assert!(refused(r#"{"latncy":1}"#).contains("did you mean `latency`?"));
        assert!(refused(r#"{"zzzzzzzzz":1}"#).contains("latency, region, failed"));
        assert!(refused(r#"{"latency":1e31}"#).contains("between -1e30 and 1e30"));
        assert!(refused(r#"{"latency":"1"}"#).contains("a text, and must be a number"));
        assert!(refused(r#"{"region":1}"#).contains("the number 1, and must be a text"));
    }

    #[test]
    fn the_shapes_of_a_body() {
        let count = |text: &str| lines(serde_json::from_str(text).unwrap()).map(|lines| lines.len());
        assert_eq!(count(r#"{"events":[{},{}]}"#).unwrap(), 2);
        assert_eq!(count(r#"{"features":[{},{},{}]}"#).unwrap(), 3);
        assert_eq!(count(r#"{"features":{"latency":1}}"#).unwrap(), 1);
        assert_eq!(count(r#"[{},{}]"#).unwrap(), 2);
        assert_eq!(count(r#"{"host":"a","events":[1]}"#).unwrap(), 1, "a raw event with a field of that name");
        assert!(count("3").is_err());
    }
}
