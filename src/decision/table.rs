//! One sorted array of past strangeness, and the p-value it gives a new one.

use serde::{Deserialize, Serialize};

/// Past values in order, with a generalised Pareto tail over the highest of them (Siffer et al., Anomaly detection in streams with extreme
/// value theory, 2017). The p-value is strictly falling in the value, in the body, in the tail and below the least value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    sorted: Vec<f64>,
    tail: Tail,
    /// Changes in the tail since it was fitted.
    stale: usize,
}

/// P(X > x) = share (1 + shape (x - threshold) / scale)^(-1 / shape) for x > threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Tail {
    threshold: f64,
    /// -log10 of the p-value at the threshold.
    surprise: f64,
    shape: f64,
    scale: f64,
}

impl Table {
    /// # Panics
    /// When a value is not finite.
    #[must_use]
    pub fn new(mut values: Vec<f64>) -> Self {
        assert!(values.iter().all(|value| value.is_finite()), "strangeness is finite");
        values.sort_unstable_by(f64::total_cmp);
        let tail = Tail::fit(&values);
        Self { sorted: values, tail, stale: 0 }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// -log10 of the p-value of `value`: above 0, finite, strictly rising. 0 from an empty table.
    #[must_use]
    pub fn surprise(&self, value: f64) -> f64 {
        let n = self.sorted.len();
        if n == 0 {
            return 0.0;
        }
        if value > self.tail.threshold {
            return self.tail.surprise(value);
        }
        // The expected share above the i-th of n order statistics is (n - i) / (n + 1), i from 0; straight lines between them.
        let above = self.sorted.partition_point(|past| *past < value);
        let share = if above == 0 {
            // Below the least value, p rises from n / (n + 1) towards 1.
            let unit = (self.sorted[n - 1] - self.sorted[0]) / n as f64;
            1.0 / (1.0 + (self.sorted[0] - value) / if unit > 0.0 { unit } else { 1.0 })
        } else {
            let (low, high) = (self.sorted[above - 1], self.sorted[above]);
            above as f64 + (value - low) / (high - low)
        };
        // ln(1 - x) keeps what is far below 1 / n apart near p = 1.
        -libm::log1p(-share / (n + 1) as f64) * std::f64::consts::LOG10_E
    }

    /// Adds a value.
    ///
    /// # Panics
    /// When it is not finite.
    pub fn insert(&mut self, value: f64) {
        assert!(value.is_finite(), "strangeness is finite");
        let at = self.sorted.partition_point(|past| *past < value);
        self.sorted.insert(at, value);
        self.refit(at);
    }

    /// Takes a value away.
    ///
    /// # Panics
    /// When it is not in the table.
    pub fn remove(&mut self, value: f64) {
        let at = self.sorted.partition_point(|past| *past < value);
        assert!(self.sorted.get(at) == Some(&value), "what leaves the table once entered it");
        self.sorted.remove(at);
        self.refit(at);
    }

    /// Puts `new` in the place of `old`.
    ///
    /// # Panics
    /// When `old` is not in the table, or `new` is not finite.
    pub fn replace(&mut self, old: f64, new: f64) {
        assert!(new.is_finite(), "strangeness is finite");
        let from = self.sorted.partition_point(|past| *past < old);
        assert!(self.sorted.get(from) == Some(&old), "what leaves the table once entered it");
        let to = self.sorted.partition_point(|past| *past < new);
        // One memmove of what lies between the two places.
        let at = if to > from {
            self.sorted.copy_within(from + 1..to, from);
            to - 1
        } else {
            self.sorted.copy_within(to..from, to + 1);
            to
        };
        self.sorted[at] = new;
        self.refit(from.max(to));
    }

    /// The tail after a change, the highest at the place `last`. It is fitted anew when one in 20 of its values is another, which of 1,000 values in
    /// all is each change. Until then only its share of all values moves.
    fn refit(&mut self, last: usize) {
        let n = self.sorted.len();
        let threshold_at = n.saturating_sub(excesses(n) + 1);
        self.stale += usize::from(last >= threshold_at);
        let from = self.sorted.partition_point(|value| *value <= self.tail.threshold);
        // Where the threshold is no longer one of the values, body and tail would not meet at it.
        let threshold_stays = from > 0 && self.sorted[from - 1] == self.tail.threshold;
        if !threshold_stays || from == n || 20 * self.stale >= excesses(n) {
            self.tail = Tail::fit(&self.sorted);
            self.stale = 0;
        } else {
            self.tail.surprise = share_surprise(n - from, n);
        }
    }
}

/// -log10 of the p-value of what only so many of n values are above.
fn share_surprise(above: usize, n: usize) -> f64 {
    -libm::log10((above + 1) as f64 / (n + 1) as f64)
}

impl Tail {
    /// The tail above the 98th percentile of `sorted`, by the estimate of Zhang and Stephens (A new and efficient
    /// estimation method for the generalized Pareto distribution, 2009): it holds for the heaviest tails too, where moments fail.
    fn fit(sorted: &[f64]) -> Self {
        let n = sorted.len();
        if n == 0 {
            return Self::default();
        }
        let threshold = sorted[n - 1 - excesses(n)];
        // With ties at the threshold the tail begins above all of them.
        let above = &sorted[sorted.partition_point(|value| *value <= threshold)..];
        let surprise = share_surprise(above.len(), n);
        let Some(largest) = above.last().map(|value| value - threshold).filter(|largest| *largest > f64::MIN_POSITIVE)
        else {
            // Nothing lies above: the scale of the body, or of the number itself, has to do.
            let spread = threshold - sorted[0];
            let scale = if spread > 0.0 { spread / libm::log1p(n as f64) } else { threshold.abs().max(1e-3) };
            return Self { threshold, surprise, shape: SHAPE_TYPICAL, scale };
        };
        let m = above.len() as f64;
        let mean = above.iter().map(|value| value - threshold).sum::<f64>() / m;
        let quartile = (above[(m / 4.0 + 0.5) as usize - usize::from(m >= 2.0)] - threshold).max(largest * 1e-12);
        // A grid of theta = -shape / scale, each weighed by its profile likelihood, times how usual its shape is.
        let shape_of =
            |theta: f64| above.iter().map(|value| libm::log1p(-theta * (value - threshold))).sum::<f64>() / m;
        let candidates: Vec<(f64, f64)> = (0..GRID)
            .map(|j| {
                let theta = 1.0 / largest + (1.0 - (f64::from(GRID) / (f64::from(j) + 0.5)).sqrt()) / (3.0 * quartile);
                let shape = shape_of(theta);
                let doubt = (shape - SHAPE_TYPICAL) / SHAPE_SPREAD;
                let prior = -2.0 * libm::log1p(doubt * doubt);
                (theta, prior + m * (libm::log(-theta / shape) - shape - 1.0))
            })
            .filter(|(_, likelihood)| likelihood.is_finite())
            .collect();
        let best = candidates.iter().map(|(_, likelihood)| *likelihood).fold(f64::NEG_INFINITY, f64::max);
        let (mut theta, mut weights) = (0.0, 0.0);
        for (candidate, likelihood) in candidates {
            let weight = libm::exp(likelihood - best);
            theta += candidate * weight;
            weights += weight;
        }
        theta /= weights;
        let shape = shape_of(theta);
        let scale = -shape / theta;
        // Not below 0, so that p never reaches 0.
        if shape > SHAPE_MIN && shape < SHAPE_MAX && scale > 0.0 && scale.is_finite() {
            Self { threshold, surprise, shape, scale }
        } else {
            Self { threshold, surprise, shape: SHAPE_MIN, scale: mean }
        }
    }

    fn surprise(&self, value: f64) -> f64 {
        // Capped where the quotient would overflow; the logarithm keeps everything below apart.
        let excess = ((value - self.threshold) / self.scale).min(1e300);
        self.surprise + libm::log1p(self.shape * excess) / self.shape * std::f64::consts::LOG10_E
    }
}

/// How many of `n` values lie above the tail's threshold: 2 %, or up to ten while there are few.
fn excesses(n: usize) -> usize {
    (n / 50).max((n / 4).min(10))
}

/// Candidates of the fit.
const GRID: u32 = 32;
/// Twenty values (of 1,000) say little about a shape: without a prior, the realised rate at p = .001 went from .0001 to .004 as the reservoir
/// changed. The prior (a t distribution) gives way where the tail is plainly heavy.
const SHAPE_TYPICAL: f64 = 0.05;
const SHAPE_SPREAD: f64 = 0.2;
const SHAPE_MIN: f64 = 0.01;
const SHAPE_MAX: f64 = 20.0;
