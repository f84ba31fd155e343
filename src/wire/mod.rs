//! How things look as JSON outside: predictions, labels and the label log. Core types are converted here by hand.

mod artifact;
mod label;
mod label_log;
mod prediction;
mod promotion;
mod writer;

pub use artifact::{artifact_from_json, artifact_to_json};
pub use label::{LabelRecord, Verdict};
pub use label_log::{
    background_to_label_log, example_in_label_log, example_to_label_log, from_label_log, label_to_label_log,
};
pub use prediction::{Names, PredictionJson, SubjectJson, WarmupJson, rfc3339};
pub use promotion::{LabelLogReader, activation_to_label_log, promotion_to_label_log};
pub use writer::PredictionWriter;
