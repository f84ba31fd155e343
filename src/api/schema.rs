//! How predictions are described in OpenAPI. What is answered is written by `wire`; a test compares the two.
#![allow(dead_code, reason = "these types are descriptions: nobody builds one")]

use super::error::ErrorBody;
use crate::wire::LabelRecord;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How far a partition is from its first alarm.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Warmup {
    seen: u64,
    needed: u64,
}

/// One scored event, as on the predictions topic.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Prediction {
    event_id: String,
    topic: String,
    partition: i32,
    offset: i64,
    /// Event time.
    #[schema(format = "date-time")]
    time: String,
    entity: String,
    /// In [0, 1): higher is stranger, and .5 is a p-value of .001.
    score: f64,
    /// How often an ordinary event of this partition is at least this strange.
    p_value: f64,
    /// Whether it went to a person.
    alarm: bool,
    /// Only while the partition warms up: it raises no alarm meanwhile.
    warmup: Option<Warmup>,
    /// The label-log offset up to which the models that learn from labels had learned.
    model_version: i64,
    /// Score by model; 0 while a model is not ready.
    scores: BTreeMap<String, f64>,
    /// Probability of an anomaly by model, of those that have learned labels of both classes. On the predictions topic and on request only: it is not stored.
    probabilities: Option<BTreeMap<String, f64>>,
    /// Value by feature: a number, a text, or null where it is missing.
    features: Values,
    /// What each feature adds to the strangeness that the loudest model saw; on alarms.
    contributions: Option<BTreeMap<String, f64>>,
    /// The current verdict, where there is one.
    label: Option<LabelRecord>,
}

/// A score on request. Nothing learns from it and no window moves; whether it would alarm depends on the budget left, so that is not said.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Predicted {
    /// Whose models, windows and calibration were used: the partition that saw the entity last, or the lowest one assigned here.
    partition: i32,
    /// Absent where features were given.
    entity: Option<String>,
    /// Whether the partition has windows of this entity. Absent where features were given.
    entity_known: Option<bool>,
    score: f64,
    p_value: f64,
    warmup: Option<Warmup>,
    model_version: i64,
    scores: BTreeMap<String, f64>,
    /// Probability of an anomaly by model, of those that have learned labels of both classes.
    probabilities: Option<BTreeMap<String, f64>>,
    features: Values,
    contributions: Option<BTreeMap<String, f64>>,
}

/// What one line of a request was answered with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum PredictedLine {
    Predicted(Predicted),
    Refused(ErrorBody),
}

/// Values by name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(value_type = Object)]
pub(super) struct Values(());

/// A raw event has the fields of `[event.fields]`, a feature vector the features of the query.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum PredictRequest {
    /// One raw event.
    Event(Values),
    /// Raw events.
    List(Vec<Values>),
    Events {
        /// Raw events.
        events: Vec<Values>,
    },
    Vector {
        /// One feature vector; what it does not name is missing.
        features: Values,
    },
    Vectors {
        /// Feature vectors.
        features: Vec<Values>,
    },
}
