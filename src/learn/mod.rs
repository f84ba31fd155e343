//! What people say becomes what models know: the entries of the label log and the fold over them.

mod blend;
mod entry;
pub mod refit;
mod trainer;
mod versions;

pub use entry::{Entry, EventKey, Fitted, LabelEntry, LabelSource};
pub use trainer::{BACKGROUND_QUEUE, Example, Examples, Globals, Trainer, TrainerLimits};
pub use versions::{ONLINE, Version};
