//! Strangeness -> p-value -> score -> alarm, per partition.

mod calibration;
mod decider;
mod guard;
mod quiet;
mod table;

pub use calibration::{CALIBRATION_MEMORY, Calibration, ENTRIES_MAX, ENTRIES_MIN, Judgement};
pub use decider::{Decider, DecisionSpec};
pub use guard::{GUARD_LEVEL, LEAK, LEAK_TO_SAMPLES, lesson};
pub use quiet::{Direction, FeatureRule, Levels, QuietError, QuietSpec, Rules, Watch};
pub use table::Table;

/// The score of a surprise `s = -log10 p`: in [0, 1), p = .001 is .5.
#[must_use]
pub fn score(surprise: f64) -> f64 {
    surprise / (surprise + 3.0)
}

/// The surprise of a score: the inverse of [`score`].
#[must_use]
pub fn surprise(score: f64) -> f64 {
    3.0 * score / (1.0 - score)
}
