//! The service: threads that hand an event on from Kafka to the engine, the store and back to Kafka. Each phase has its file.
//!
//! `source` (the poll thread) -> `worker` (owns partitions) -> `committer` (the one writer of the store); beside them
//! `joiner` (labels -> label log), `training` (label log -> global models) and `tasks` (long work that somebody asked for).

mod committer;
mod joiner;
mod refit;
mod schedule;
mod shared;
mod start;
mod tasks;
mod topics;
mod training;
mod upload;
mod worker;

pub(crate) use refit::RefitOutcome;
pub use refit::{AlarmChanges, RefitChange, RefitLabels, RefitQuality, Retrain, Retrained, learner_place};
pub use shared::{Described, DescribedDetector, Predicted, Query, Shared, Status};
pub use start::Service;
pub use tasks::{Progress, State, Task, TaskError, Tasks, Work};
pub use training::ModelVersion;
pub use upload::{Columns, ContentKey, RefusedLine, Upload, UploadKey, Uploaded, train};
