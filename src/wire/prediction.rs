//! A scored event as JSON: the predictions topic and the API show the same object.

use super::label::LabelRecord;
use crate::engine::Blueprint;
use crate::features::{Column, ColumnKind, FeatureVector};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The names that a plan and a configuration give to columns and models: they turn vectors into objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub columns: Vec<Column>,
    pub models: Vec<String>,
}

impl Names {
    #[must_use]
    pub fn of(blueprint: &Blueprint) -> Self {
        Self {
            columns: blueprint.plan.columns().to_vec(),
            models: blueprint.models.iter().map(|model| model.name.clone()).collect(),
        }
    }
}

/// How far a partition is from its first alarm.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct WarmupJson {
    pub seen: u64,
    pub needed: u64,
}

/// The event that a prediction speaks of. Absent where an event was scored that is not on Kafka.
#[derive(Debug, Clone, Serialize)]
pub struct SubjectJson<'a> {
    pub event_id: &'a str,
    pub topic: &'a str,
    pub partition: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// RFC 3339.
    pub time: String,
    pub entity: &'a str,
}

/// One prediction. Fields are written in this order.
#[derive(Debug, Clone, Serialize)]
pub struct PredictionJson<'a> {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectJson<'a>>,
    pub score: f64,
    pub p_value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<WarmupJson>,
    pub model_version: i64,
    #[serde(serialize_with = "scores")]
    pub scores: (&'a Names, &'a [f64]),
    /// Of the models that have one; left out where none has, and for stored events.
    #[serde(serialize_with = "probabilities", skip_serializing_if = "has_none")]
    pub probabilities: (&'a Names, &'a [Option<f64>]),
    #[serde(serialize_with = "features")]
    pub features: (&'a Names, &'a FeatureVector),
    #[serde(serialize_with = "contributions", skip_serializing_if = "Option::is_none")]
    pub contributions: Option<Vec<(&'a str, f64)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelRecord>,
}

/// Event time as text. A time outside the calendar is written as its number of milliseconds.
#[must_use]
pub fn rfc3339(time_ms: i64) -> String {
    let text = crate::event::time::rfc3339(time_ms).and_then(|text| String::from_utf8(text.into()).ok());
    text.unwrap_or_else(|| time_ms.to_string())
}

fn scores<S: Serializer>((names, scores): &(&Names, &[f64]), serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(names.models.iter().zip(*scores))
}

fn probabilities<S: Serializer>(
    (names, probabilities): &(&Names, &[Option<f64>]),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let known = names.models.iter().zip(*probabilities).filter_map(|(name, p)| p.map(|p| (name, p)));
    serializer.collect_map(known)
}

fn has_none((_, probabilities): &(&Names, &[Option<f64>])) -> bool {
    probabilities.iter().all(Option::is_none)
}

pub(super) fn features<S: Serializer>(
    (names, features): &(&Names, &FeatureVector),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(names.columns.len()))?;
    let (mut numbers, mut categories) = (features.numbers.iter(), features.categories.iter());
    for column in &names.columns {
        match column.kind {
            // NaN, a missing value, is written as null.
            ColumnKind::Number => map.serialize_entry(&column.name, &numbers.next())?,
            ColumnKind::Category => map.serialize_entry(&column.name, &categories.next())?,
        }
    }
    map.end()
}

#[allow(clippy::ref_option, reason = "serde's signature")]
fn contributions<S: Serializer>(contributions: &Option<Vec<(&str, f64)>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(contributions.iter().flatten().map(|(name, value)| (name, value)))
}
