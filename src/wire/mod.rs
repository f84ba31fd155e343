//! How things look as JSON outside: predictions, labels and the label log. Core types are converted here by hand.

mod label;
mod label_log;
mod prediction;
mod writer;

pub use label::{LabelRecord, Verdict};
pub use label_log::{
    background_to_label_log, example_in_label_log, example_to_label_log, from_label_log, label_to_label_log,
};
pub use prediction::{Names, PredictionJson, SubjectJson, WarmupJson, rfc3339};
pub use writer::PredictionWriter;
