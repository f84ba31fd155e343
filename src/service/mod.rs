//! The service: threads that hand an event on from Kafka to the engine, the store and back to Kafka. Each phase has its file.
//!
//! `source` (the poll thread) -> `worker` (owns partitions) -> `committer` (the one writer of the store); beside them
//! `joiner` (labels -> label log) and `training` (label log -> global models).

mod committer;
mod joiner;
mod shared;
mod start;
mod training;
mod worker;

pub use shared::{Described, DescribedDetector, Predicted, Query, Shared, Status};
pub use start::Service;
