//! Which events are held back from learning, so that an incident does not become the new normal.

use crate::draw::{Draw, Purpose};
use crate::model::Lesson;

/// An event whose p-value by the detectors alone is below this is held back.
pub const GUARD_LEVEL: f64 = 0.02;

/// The share of held-back events that are learned all the same, so that detectors which no longer fit are not stuck. It is not what lets
/// a lasting change in: the calibration does, whose p-values are above the guard again after some thousands of events.
pub const LEAK: f64 = 0.02;

/// The share that samples learn, too. With all of the leak, the bursts of the KDD 1999 http stream left so many rows that the nearest
/// neighbours took the next burst for ordinary (AUC of the fifth neighbour .23 to .82 over six seeds). Averages need all of it: on the
/// shop's traffic the average precision of regression falls from .42 to .28 without.
pub const LEAK_TO_SAMPLES: f64 = 0.004;

/// -log10 of [`GUARD_LEVEL`].
const SURPRISE_MAX: f64 = 1.698_970_004_336_018_7;

/// Whether an event with this surprise by the detectors alone is held back, but for the leak.
pub(super) fn holds_back(unsupervised: Option<f64>) -> bool {
    unsupervised.is_some_and(|surprise| surprise > SURPRISE_MAX)
}

/// What detectors (and the encoder) may learn of the event at offset `index`; `None`: it is held back. `unsupervised` is its surprise
/// by the detectors alone ([`super::Judgement::unsupervised`]); without one, there is nothing to hold back.
#[must_use]
pub fn lesson(unsupervised: Option<f64>, draw: Draw, index: u64) -> Option<Lesson> {
    if !holds_back(unsupervised) {
        return Some(Lesson::Event);
    }
    match draw.unit(Purpose::Leak, index) {
        share if share < LEAK_TO_SAMPLES => Some(Lesson::Event),
        share if share < LEAK => Some(Lesson::Leaked),
        _ => None,
    }
}
