//! From the signed distance of a model that learns from labels to a probability, learned from what it said before each label came.

use serde::{Deserialize, Serialize};

use super::loss::sigmoid;

/// p = 1 / (1 + exp(-(slope m + offset))) of the margin m (Platt 1999), followed as labels come: each is one step of recursive logistic regression (a
/// Kalman filter whose observation is the label; Fahrmeir and Tutz 1994, section 8.2), and old ones fade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    slope: f64,
    offset: f64,
    /// The covariance of (slope, offset): slope, both, offset.
    covariance: [f64; 3],
}

/// How far from the start (slope 1, offset 0) the truth may be, as a variance.
const VARIANCE: f64 = 1.0;
/// Labels over which old ones fade.
const MEMORY: f64 = 2_000.0;
/// Larger margins settle the matter, and must not move the slope by themselves.
const MARGIN_MAX: f64 = 20.0;
/// A model that is worse than chance says nothing, rather than the opposite: a slope below this is none.
const SLOPE_MIN: f64 = 1e-3;

impl Default for Platt {
    fn default() -> Self {
        Self { slope: 1.0, offset: 0.0, covariance: [VARIANCE, 0.0, VARIANCE] }
    }
}

impl Platt {
    /// P(anomaly) at this margin.
    pub(crate) fn probability(&self, margin: f64) -> f64 {
        sigmoid(self.slope.max(SLOPE_MIN) * bounded(margin) + self.offset)
    }

    /// Learns the label of an event that had this margin before anything learned from the label.
    pub(crate) fn learn(&mut self, margin: f64, anomaly: bool) {
        let m = bounded(margin);
        let p = sigmoid(self.slope * m + self.offset);
        let [ss, so, oo] = self.covariance;
        let (to_slope, to_offset) = (ss * m + so, so * m + oo);
        let spread = p * (1.0 - p);
        let shrink = 1.0 / (1.0 + spread * (m * to_slope + to_offset));
        let error = f64::from(u8::from(anomaly)) - p;
        self.slope += shrink * to_slope * error;
        self.offset += shrink * to_offset * error;
        let less = spread * shrink;
        let fade = 1.0 + 1.0 / MEMORY;
        let faded = |was: f64, by: f64| (was - less * by) * fade;
        let ss = faded(ss, to_slope * to_slope);
        let oo = faded(oo, to_offset * to_offset);
        // What is not learned about stays as uncertain as at the start, and no more.
        let kept = |variance: f64| (VARIANCE / variance.max(VARIANCE)).sqrt();
        let both = kept(ss) * kept(oo);
        self.covariance = [ss.min(VARIANCE), faded(so, to_slope * to_offset) * both, oo.min(VARIANCE)];
    }

    /// Fitted to margins that a model gave to events it had not learned from, oldest first.
    pub(crate) fn fitted(held_out: impl Iterator<Item = (f64, bool)> + Clone) -> Self {
        let mut platt = Self::default();
        // The second time over starts where the first has arrived, and is as uncertain as at the start.
        for _ in 0..2 {
            platt.covariance = Self::default().covariance;
            held_out.clone().for_each(|(margin, anomaly)| platt.learn(margin, anomaly));
        }
        platt
    }

    /// Slope, offset, and their covariance: of the slope, of both, of the offset.
    pub(crate) fn parameters(&self) -> (f64, f64, [f64; 3]) {
        (self.slope, self.offset, self.covariance)
    }

    /// `None` for what no labels can have led to.
    pub(crate) fn of_parameters(slope: f64, offset: f64, covariance: [f64; 3]) -> Option<Self> {
        let [ss, so, oo] = covariance;
        let variance = 0.0..=VARIANCE;
        let possible = slope.is_finite() && offset.is_finite() && so * so <= ss * oo * (1.0 + 1e-9);
        (possible && variance.contains(&ss) && variance.contains(&oo)).then_some(Self { slope, offset, covariance })
    }
}

fn bounded(margin: f64) -> f64 {
    margin.clamp(-MARGIN_MAX, MARGIN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Draw, Purpose};

    #[test]
    fn it_finds_the_slope_and_the_offset_of_the_truth() {
        let draw = Draw::new(1);
        for (slope, offset) in [(0.4, -1.0), (2.5, 0.7)] {
            let mut platt = Platt::default();
            for i in 0..8_000 {
                let margin = 6.0 * (draw.unit(Purpose::Traffic, 2 * i) - 0.5);
                platt.learn(margin, draw.unit(Purpose::Traffic, 2 * i + 1) < sigmoid(slope * margin + offset));
            }
            for margin in [-3.0, -1.0, 0.0, 1.0, 3.0] {
                let (found, true_p) = (platt.probability(margin), sigmoid(slope * margin + offset));
                assert!((found - true_p).abs() < 0.05, "at {margin}: {found} and {true_p}");
            }
        }
    }

    #[test]
    fn small_margins_do_not_keep_the_offset_from_settling() {
        let (draw, mut platt) = (Draw::new(2), Platt::default());
        let mut worst: f64 = 0.0;
        for i in 0..6_000 {
            let margin = 0.1 * (draw.unit(Purpose::Traffic, 2 * i) - 0.5);
            platt.learn(margin, draw.unit(Purpose::Traffic, 2 * i + 1) < 0.3);
            if i > 2_000 {
                worst = worst.max((platt.probability(0.0) - 0.3).abs());
            }
        }
        assert!(worst < 0.06, "{worst} from the share of anomalies");
    }

    #[test]
    fn no_margin_breaks_it_and_a_model_worse_than_chance_says_nothing() {
        let mut platt = Platt::default();
        for i in 0..5_000 {
            let margin = [1e300, -1e300, 0.0][i % 3];
            platt.learn(margin, margin < 0.0);
            assert!((0.0..=1.0).contains(&platt.probability(margin)));
        }
        assert!((platt.probability(10.0) - platt.probability(-10.0)).abs() < 0.02);
    }
}
