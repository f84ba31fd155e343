//! `marginal`: how far out in its own distribution each feature is, all added up.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::sample::Sample;
use crate::draw::Draw;

/// The sum over features of -ln of the smaller of the two empirical tails over a guarded sample: after ECOD (Li et al. 2022), which chooses
/// one side for all rows of a feature by its skewness. How rare a category is
/// counts on one side only: there is nothing strange in a common one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marginal {
    sample: Sample,
    /// The features that are rarities.
    rarities: Range<usize>,
    /// The sample's columns in order, without what is missing.
    sorted: Vec<Vec<f64>>,
}

const ROWS_MAX: usize = 1024;

impl Marginal {
    pub(crate) fn new(width: usize, rarities: Range<usize>) -> Self {
        Self { sample: Sample::new(width, ROWS_MAX), rarities, sorted: vec![Vec::new(); width] }
    }

    pub(crate) fn reseed(&mut self, draw: Draw) {
        self.sample.reseed(draw);
    }

    pub(crate) fn seen(&self) -> u64 {
        self.sample.seen
    }

    /// At least 0.
    pub(crate) fn strangeness(&self, x: &[f64]) -> f64 {
        self.terms(x).iter().sum()
    }

    /// -ln of each feature's tail; 0 for a missing one.
    pub(crate) fn terms(&self, x: &[f64]) -> Vec<f64> {
        let tail = |(i, (sorted, x)): (usize, (&Vec<f64>, &f64))| {
            if x.is_nan() || sorted.is_empty() {
                return 0.0;
            }
            let n = sorted.len();
            let at_least = n - sorted.partition_point(|past| past < x);
            let at_most = if self.rarities.contains(&i) { n } else { sorted.partition_point(|past| past <= x) };
            libm::log((n + 1) as f64 / (at_least.min(at_most) + 1) as f64)
        };
        self.sorted.iter().zip(x).enumerate().map(tail).collect()
    }

    pub(crate) fn learn(&mut self, x: &[f64]) {
        let Some(change) = self.sample.learn(x) else { return };
        for (sorted, old) in self.sorted.iter_mut().zip(&change.old).filter(|(_, old)| !old.is_nan()) {
            let at = sorted.partition_point(|past| past < old);
            assert!(sorted.get(at) == Some(old), "what leaves the sample once entered it");
            sorted.remove(at);
        }
        let new = self.sample.columns.iter().map(|column| column[change.row]);
        for (sorted, new) in self.sorted.iter_mut().zip(new).filter(|(_, new)| !new.is_nan()) {
            sorted.insert(sorted.partition_point(|past| *past < new), new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_number_are_strange_and_only_one_of_a_rarity() {
        let mut marginal = Marginal::new(2, 1..2);
        for i in 0..5_000 {
            marginal.learn(&[f64::from(i % 100), f64::from(i % 100)]);
        }
        let of = |number: f64, rarity: f64| marginal.strangeness(&[number, rarity]);
        assert!(of(-1.0, 50.0) > of(50.0, 50.0) + 2.0 && of(101.0, 50.0) > of(50.0, 50.0) + 2.0);
        assert!(of(50.0, 101.0) > of(50.0, 50.0) + 2.0 && of(50.0, -1.0) < of(50.0, 50.0));
        assert!(marginal.terms(&[f64::NAN, 101.0])[0] == 0.0);
        assert!(
            marginal.sorted.iter().zip(&marginal.sample.columns).all(|(sorted, column)| sorted.len() == column.len())
        );
    }
}
