//! The entries of the label log. How they look on the wire is `wire`'s business.

use crate::features::FeatureVector;
use crate::model::{Form, Label, Platt};
use std::sync::Arc;

/// Where an event stands on its topic: what tells two events apart for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
}

/// Where a verdict stands on the labels topic. Labels of one event share a partition, for they are keyed by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelSource {
    pub partition: i32,
    pub offset: i64,
}

/// A verdict joined with the event that it speaks of.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelEntry {
    pub source: LabelSource,
    pub event: EventKey,
    pub event_id: String,
    pub label: Label,
    /// Aligned with the columns of the plan in force: a column that the log does not know is missing.
    pub features: FeatureVector,
    /// The surprise (-log10 p) of each model in force when the event was scored; 0 where one did not speak.
    pub surprises: Vec<f64>,
}

/// One record of the label log. Revocations will be a further variant.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Label(LabelEntry),
    /// An unlabelled event, sampled thinly, to learn as a weak normal unless it is labelled in time.
    Background {
        event: EventKey,
        features: FeatureVector,
    },
    /// A refitted model takes over. It becomes a version, whose number is the offset of this entry.
    Promotion {
        model: String,
        fitted: Arc<Fitted>,
        /// The label-log offset before which all labels it was fitted to stand. When one of those is corrected, the promotion is void.
        trained_through: i64,
    },
    /// A version that is kept takes over: a rollback, or the way back from one.
    Activation {
        model: String,
        version: i64,
    },
    /// A labelled event of an upload, which never went through Kafka. Rows of one upload come in growing order.
    Example {
        /// The upload's key: a row at or below the highest of its upload is the same row again.
        upload: Arc<str>,
        row: i64,
        label: Label,
        features: FeatureVector,
    },
}

/// A form that was fitted to labels at once, and its calibration on labels that it had not seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    pub form: Form,
    pub calibration: Platt,
}
