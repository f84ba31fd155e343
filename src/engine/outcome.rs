//! What a partition answers to a record, and to a question.

use crate::decision;
use crate::event::Rejection;
use crate::features::FeatureVector;

/// How far a partition is from its first alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warmup {
    pub seen: u64,
    pub needed: u64,
}

/// What a partition says of one feature vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// -log10 of the p-value.
    pub surprise: f64,
    pub warmup: Option<Warmup>,
    /// The label-log offset up to which the models that learn from labels had learned.
    pub model_version: i64,
    /// The score of each model, in configuration order; 0 while a model is not ready.
    pub scores: Vec<f64>,
    /// The probability of an anomaly by each model that has one (those that learn from labels), in configuration order.
    pub probabilities: Vec<Option<f64>>,
    pub features: FeatureVector,
    /// What each column adds to the strangeness that the loudest model saw; on alarms and on request.
    pub contributions: Option<Vec<(usize, f64)>>,
}

impl Prediction {
    /// The surprise (-log10 p) of each model; 0 while a model is not ready.
    #[must_use]
    pub fn surprises(&self) -> Vec<f64> {
        self.scores.iter().map(|score| decision::surprise(*score)).collect()
    }

    /// In [0, 1): higher is stranger, p = .001 is .5.
    #[must_use]
    pub fn score(&self) -> f64 {
        decision::score(self.surprise)
    }

    /// How often an ordinary event of this partition is at least this strange.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        libm::exp10(-self.surprise)
    }
}

/// A scored event.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub offset: i64,
    pub event_id: String,
    pub time_ms: i64,
    pub entity: String,
    pub alarm: bool,
    pub prediction: Prediction,
    /// Chosen to go to the label log as a background sample.
    pub background: bool,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Scored(Box<Scored>),
    /// The query's WHERE left it out.
    Filtered,
    /// It cannot be used: a dead letter.
    Rejected(Rejection),
}

/// Counts since the engine was built; for metrics only, no part of the state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub late: u64,
    pub held_back: u64,
    pub entities_evicted: u64,
    pub window_rows_merged: u64,
    pub categories_forgotten: u64,
    /// Alarming events that only quieted features made strange.
    pub alarms_quieted: u64,
    /// Alarming events of entities whose alarm was open.
    pub alarms_in_open: u64,
}
