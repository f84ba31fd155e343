//! The state machine of one partition: records in offset order go in, outcomes come out. No clock, no I/O.
//!
//! The service, `larum replay`, the tests and the benches all drive this one engine.

mod alarm;
mod blueprint;
mod entities;
mod outcome;
mod partition;
mod snapshot;
mod training_data;

pub use blueprint::{Blueprint, BlueprintError, EngineLimits};
pub use outcome::{Counters, Outcome, Prediction, Scored, Warmup};
pub use partition::Partition;
pub use snapshot::{RestoreError, Snapshot};
pub use training_data::TrainingData;
