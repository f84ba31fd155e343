//! What people say becomes what models know: the entries of the label log and the fold over them.

mod blend;
mod entry;
mod trainer;

pub use entry::{Entry, EventKey, LabelEntry, LabelSource};
pub use trainer::{Globals, Trainer, TrainerLimits};
