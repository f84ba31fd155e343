//! `linear_regression`: every target feature predicted from all the others, through one shared precision matrix.

use serde::{Deserialize, Serialize};

use super::matrix;
use super::moments::Moments;

/// Running moments of the features, and the precision matrix P of their shrunk correlation.
///
/// With z the scaled features, the residual of predicting z_i from all the others is (P z)_i / P_ii with variance 1 / P_ii (the
/// same estimate as recursive least squares; Haykin, Adaptive Filter Theory, ch. 10). Strangeness is the largest squared
/// residual over its variance, (P z)_i^2 / P_ii, over the targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Regression {
    /// Indices of the targets among the values that the model reads.
    targets: Vec<u32>,
    /// Events learned.
    seen: u64,
    /// Events learned since P was computed.
    stale: u32,
    moments: Vec<Moments>,
    /// d x d, row by row; only the part below the diagonal is kept up.
    covariance: Vec<f64>,
    /// d x d, symmetric.
    precision: Vec<f64>,
}

impl Regression {
    pub(crate) fn new(width: usize, targets: Vec<u32>) -> Self {
        Self {
            targets,
            seen: 0,
            stale: 0,
            moments: vec![Moments::default(); width],
            covariance: vec![0.0; width * width],
            precision: matrix::identity(width),
        }
    }

    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Its weight among the detectors: the fewer features there are, the less they say of each other.
    pub(crate) fn weight(&self) -> f64 {
        let width = self.moments.len() as f64;
        width / (width + WIDTH_HALF)
    }

    /// The strangeness, at least 0 and finite.
    pub(crate) fn strangeness(&self, x: &[f64]) -> f64 {
        let z = self.scaled(x);
        self.targets.iter().map(|&i| self.term(i as usize, &z)).fold(0.0, f64::max)
    }

    /// (P z)_i^2 / P_ii for every feature i, target or not: how far it is from what the others say.
    pub(crate) fn terms(&self, x: &[f64]) -> Vec<f64> {
        let z = self.scaled(x);
        (0..z.len()).map(|i| self.term(i, &z)).collect()
    }

    /// What each feature was expected to be, given the others, in its own unit.
    pub(crate) fn expected(&self, x: &[f64]) -> Vec<f64> {
        let (z, d) = (self.scaled(x), self.moments.len());
        let row = |i: usize| matrix::dot(&self.precision[i * d..(i + 1) * d], &z);
        (0..d)
            .map(|i| {
                self.moments[i].mean + (z[i] - row(i) / self.precision[i * d + i]) * self.moments[i].variance.sqrt()
            })
            .collect()
    }

    pub(crate) fn moments(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.moments.iter().map(|moments| (moments.mean, moments.variance.sqrt()))
    }

    pub(crate) fn learn(&mut self, x: &[f64]) {
        let d = self.moments.len();
        // A missing value neither deviates nor counts: its row of the covariance stays as it is.
        let mut delta = Vec::with_capacity(d);
        let mut gain = Vec::with_capacity(d);
        for (moments, &x) in self.moments.iter().zip(x) {
            delta.push(moments.clipped(x));
            gain.push(if x.is_nan() { 0.0 } else { moments.gain() });
        }
        for i in 0..d {
            if gain[i] == 0.0 {
                continue;
            }
            let row = &mut self.covariance[i * d..i * d + i];
            for ((c, dj), gj) in row.iter_mut().zip(&delta).zip(&gain) {
                // The younger of the two features sets the pace; without missing values the gains are all equal.
                let g = if *gj == 0.0 { 0.0 } else { gain[i].max(*gj) };
                *c = (1.0 - g) * (*c + g * delta[i] * dj);
            }
            self.moments[i].learn(delta[i]);
        }
        self.seen += 1;
        self.stale += 1;
        // A new P every tenth of what was learned, at most every max(16, d) events: O(d^2) per event, amortised.
        let patience = (self.seen / 10).clamp(1, d.max(16) as u64);
        if u64::from(self.stale) >= patience {
            self.refresh();
        }
    }

    fn scaled(&self, x: &[f64]) -> Vec<f64> {
        self.moments.iter().zip(x).map(|(moments, x)| moments.scaled(*x)).collect()
    }

    fn term(&self, i: usize, z: &[f64]) -> f64 {
        let d = z.len();
        let row = matrix::dot(&self.precision[i * d..(i + 1) * d], z);
        row * row / self.precision[i * d + i]
    }

    /// P from the correlation, shrunk to the identity by k / (k + n) with k features, and n events in which the rarer of a pair was
    /// there: with few events it trusts no correlation.
    fn refresh(&mut self) {
        let d = self.moments.len();
        let deviation: Vec<f64> = self.moments.iter().map(|moments| moments.variance.sqrt()).collect();
        // A feature that has always been missing has no correlation to mistrust.
        let features = self.moments.iter().filter(|moments| moments.seen > 0.0).count() as f64;
        let mut shrink = RIDGE;
        // Correlations of columns that miss different events need not fit together; then they are trusted less, down to none.
        loop {
            let mut r = matrix::identity(d);
            for i in 0..d {
                for j in 0..i {
                    let scale = deviation[i] * deviation[j];
                    let correlation = if scale > 0.0 { self.covariance[i * d + j] / scale } else { 0.0 };
                    let events = self.moments[i].seen.min(self.moments[j].seen);
                    let shrink = (features / (features + events)).max(shrink);
                    r[i * d + j] = (1.0 - shrink) * correlation.clamp(-1.0, 1.0);
                }
            }
            if matrix::invert(&mut r, d) {
                self.precision = r;
                break;
            }
            shrink = (shrink * 4.0).min(1.0);
        }
        self.stale = 0;
    }
}

/// The least shrinkage: it bounds P, so that collinear columns stay computable.
const RIDGE: f64 = 1e-4;
/// With so many features it weighs half of what it does with very many. On the three features of the KDD 1999 smtp stream its AUC is .83 where that of
/// the other detectors is .86 to .95, on the 32 of ionosphere .93 where theirs is .80 to .88.
const WIDTH_HALF: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Draw, Purpose};

    /// Two numbers that share a part.
    fn event(i: u64) -> [f64; 2] {
        let unit = |n| Draw::new(3).unit(Purpose::Traffic, 3 * i + n);
        [unit(0) + unit(2), unit(1) + unit(2)]
    }

    #[test]
    fn a_feature_that_is_always_missing_changes_nothing() {
        let (mut two, mut three) = (Regression::new(2, vec![0, 1]), Regression::new(3, vec![0, 1, 2]));
        for [a, b] in (0..40).map(event) {
            two.learn(&[a, b]);
            three.learn(&[a, b, f64::NAN]);
            let (without, with) = (two.strangeness(&[0.3, 1.4]), three.strangeness(&[0.3, 1.4, f64::NAN]));
            assert!((without - with).abs() <= 1e-9 * without, "{without} and {with}");
        }
    }

    #[test]
    fn a_feature_that_comes_late_is_not_trusted_at_once() {
        let mut model = Regression::new(3, vec![0, 1, 2]);
        for [a, b] in (0..1_000).map(event) {
            model.learn(&[a, b, f64::NAN]);
        }
        // Two deviations away where the late one rises: by chance, they seem to be one.
        model.learn(&[1.0, 1.0, 0.0]);
        model.learn(&[1.8, 1.0, 1.0]);
        model.refresh();
        let [alone, with] = [f64::NAN, 0.2].map(|late| model.strangeness(&[1.0, 1.0, late]));
        assert!(with < alone + 2.0, "{with} and {alone}");
    }
}
