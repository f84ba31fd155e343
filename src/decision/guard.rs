//! Which events are held back from learning, so that an incident does not become the new normal.

use crate::draw::{Draw, Purpose};

/// An event whose p-value by the detectors alone is below this is held back.
pub const GUARD_LEVEL: f64 = 0.02;

/// The share of held-back events that are learned all the same, so that a change that stays is learned in the end.
pub const LEAK: f64 = 0.02;

/// -log10 of [`GUARD_LEVEL`].
const SURPRISE_MAX: f64 = 1.698_970_004_336_018_7;

/// Whether detectors (and the encoder) must not learn the event at offset `index`. `unsupervised` is its surprise by the detectors alone
/// ([`super::Judgement::unsupervised`]); without one, there is nothing to hold back.
#[must_use]
pub fn held_back(unsupervised: Option<f64>, draw: Draw, index: u64) -> bool {
    unsupervised.is_some_and(|surprise| surprise > SURPRISE_MAX) && !draw.chance(Purpose::Leak, index, LEAK)
}
