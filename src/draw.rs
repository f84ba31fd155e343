//! Randomness without state: every draw is a hash of (seed, purpose, index), so a snapshot has no generator to keep.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a draw is for. Two purposes never share a number for the same index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Whether a guarded event leaks into learning.
    Leak = 1,
    /// Whether an event enters the calibration.
    CalibrationEnter = 2,
    /// Which row of the calibration it replaces.
    CalibrationSlot = 3,
    /// Whether an event is sent to the label log as a background sample.
    Background = 4,
    /// Whether an ordinary scored row is stored.
    Keep = 5,
    /// Which labels a replay gives back.
    ReplayLabel = 6,
    /// Synthetic traffic.
    Traffic = 7,
    /// The simulated reviewer.
    Reviewer = 8,
    /// Whether an event enters a detector's sample.
    SampleEnter = 9,
    /// Which row of the sample it replaces.
    SampleRow = 10,
    /// The rows and cuts of an isolation tree.
    Tree = 11,
    /// The frequencies of random Fourier features.
    Frequency = 12,
    /// The resampled labels that an interval is read from.
    Bootstrap = 13,
}

/// A seeded source of draws. Cheap to copy; holds no state beside its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    seed: u64,
}

impl Draw {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A source of its own for `topic` and `partition`: partitions must not draw in step.
    #[must_use]
    pub fn for_partition(seed: u64, topic: &str, partition: i32) -> Self {
        let topic = xxh3_64_with_seed(topic.as_bytes(), seed);
        Self { seed: xxh3_64_with_seed(&partition.to_le_bytes(), topic) }
    }

    /// A source of its own for what has this name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { seed: xxh3_64_with_seed(name.as_bytes(), self.seed) }
    }

    /// 64 uniform bits for the `index`-th draw of `purpose`.
    #[must_use]
    pub fn bits(self, purpose: Purpose, index: u64) -> u64 {
        let mut bytes = [0; 9];
        bytes[0] = purpose as u8;
        bytes[1..].copy_from_slice(&index.to_le_bytes());
        xxh3_64_with_seed(&bytes, self.seed)
    }

    /// Uniform in [0, 1), with 53 bits.
    #[must_use]
    pub fn unit(self, purpose: Purpose, index: u64) -> f64 {
        (self.bits(purpose, index) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    #[must_use]
    pub fn chance(self, purpose: Purpose, index: u64, probability: f64) -> bool {
        self.unit(purpose, index) < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform_and_differ_by_purpose_and_partition() {
        let (a, b) = (Draw::for_partition(1, "t", 0), Draw::for_partition(1, "t", 1));
        let mean = |f: &dyn Fn(u64) -> f64| (0..100_000).map(f).sum::<f64>() / 100_000.0;
        assert!((mean(&|i| a.unit(Purpose::Leak, i)) - 0.5).abs() < 0.005);
        let together =
            mean(&|i| f64::from(u8::from(a.chance(Purpose::Leak, i, 0.5) == b.chance(Purpose::Leak, i, 0.5))));
        assert!((together - 0.5).abs() < 0.01, "two partitions draw in step: {together}");
        let together =
            mean(&|i| f64::from(u8::from(a.chance(Purpose::Leak, i, 0.5) == a.chance(Purpose::Keep, i, 0.5))));
        assert!((together - 0.5).abs() < 0.01, "two purposes draw in step: {together}");
    }
}
