//! How much each model counts in the final p-value: mostly the detectors at first, shifted by labels towards the models that were right.

use crate::model::{Label, LearnsFrom, Part};

/// Labels of the rarer class at which what they say of the models weighs as much as the start.
const EVIDENCE_HALF: f64 = 5.0;
const RATE: f64 = 0.5;
/// What a model that learns from labels counts at the start, where all detectors together count 1: few labels teach it little.
const LEARNER_START: f64 = 0.25;
/// A surprise of 10 (p = 1e-10) settles the matter: larger ones must not drown the others.
const SURPRISE_MAX: f64 = 10.0;
/// No part is ever silenced: labels say nothing of anomalies that no label has named yet.
const SHARE_MIN: f64 = 0.02;

/// A logistic regression of the label on the parts' surprises (-log10 p) as they were when the event was scored, before any
/// model had seen its label. AdaGrad (Duchi, Hazan, Singer 2011) for each weight; weights are not negative.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Blend {
    start: Vec<f64>,
    /// Models that may be silent for good: they learn by refits only.
    by_refits: Vec<bool>,
    weights: Vec<f64>,
    bias: f64,
    /// Sums of squared gradients, of the weights and then of the bias.
    squares: Vec<f64>,
    normals: u64,
    anomalies: u64,
}

impl Blend {
    /// `by_refits`: which of the parts learn by refits only.
    pub(super) fn new(parts: &[Part], by_refits: &[bool]) -> Self {
        let detectors = || parts.iter().filter(|part| part.learns_from == LearnsFrom::Events).map(|part| part.weight);
        let start = |part: &Part| match part.learns_from {
            LearnsFrom::Events => part.weight / detectors().sum::<f64>(),
            LearnsFrom::Labels => LEARNER_START,
        };
        let squares = vec![1.0; parts.len() + 1];
        Self {
            start: parts.iter().map(start).collect(),
            by_refits: by_refits.to_vec(),
            weights: vec![1.0; parts.len()],
            bias: -3.0,
            squares,
            normals: 0,
            anomalies: 0,
        }
    }

    /// Learns one verdict. `surprises` by model, in configuration order; an event that not all models spoke of teaches nothing, but of those that wait
    /// for a refit.
    pub(super) fn learn(&mut self, surprises: &[f64], label: Label) {
        let speaks = |(surprise, by_refits): (&f64, &bool)| *surprise > 0.0 || *by_refits;
        if surprises.len() != self.weights.len() || !surprises.iter().zip(&self.by_refits).all(speaks) {
            return;
        }
        let x = |s: f64| s.min(SURPRISE_MAX);
        let sum: f64 = self.bias + self.weights.iter().zip(surprises).map(|(w, s)| w * x(*s)).sum::<f64>();
        let truth = match label {
            Label::Normal => {
                self.normals += 1;
                0.0
            }
            Label::Anomaly => {
                self.anomalies += 1;
                1.0
            }
        };
        let error = 1.0 / (1.0 + libm::exp(-sum)) - truth;
        let step = |square: &mut f64, gradient: f64| {
            *square += gradient * gradient;
            RATE * gradient / square.sqrt()
        };
        for ((weight, square), surprise) in self.weights.iter_mut().zip(&mut self.squares).zip(surprises) {
            *weight = (*weight - step(square, error * x(*surprise))).max(0.0);
        }
        if let Some(square) = self.squares.last_mut() {
            self.bias -= step(square, error);
        }
    }

    /// The share of each model in the final p-value; they add up to 1.
    pub(super) fn shares(&self) -> Vec<f64> {
        let start: f64 = self.start.iter().sum();
        let total: f64 = self.weights.iter().sum();
        let evidence = self.normals.min(self.anomalies) as f64;
        let trust = if total > 0.0 { evidence / (evidence + EVIDENCE_HALF) } else { 0.0 };
        let learned = |w: f64| if trust > 0.0 { trust * w / total } else { 0.0 };
        let both = self.start.iter().zip(&self.weights);
        let shares: Vec<f64> = both.map(|(s, w)| ((1.0 - trust) * s / start + learned(*w)).max(SHARE_MIN)).collect();
        let all: f64 = shares.iter().sum();
        shares.into_iter().map(|s| s / all).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Part; 2] = [
        Part { learns_from: LearnsFrom::Events, weight: 1.0, broad: false },
        Part { learns_from: LearnsFrom::Labels, weight: 1.0, broad: false },
    ];

    #[test]
    fn the_model_that_is_right_gains_and_the_other_is_not_silenced() {
        let mut blend = Blend::new(&PARTS, &[false, false]);
        assert_eq!(blend.shares(), [0.8, 0.2]);
        for i in 0..200 {
            let noise = f64::from(i % 7) * 0.3 + 0.1;
            let label = if i % 3 == 0 { Label::Anomaly } else { Label::Normal };
            let right = if label == Label::Anomaly { 2.0 } else { 0.3 };
            blend.learn(&[noise, right], label);
        }
        let shares = blend.shares();
        assert!(shares[1] > 0.8 && shares[0] >= 0.015, "{shares:?}");
    }

    #[test]
    fn a_model_that_waits_for_a_refit_does_not_stop_the_others() {
        let mut blend = Blend::new(&[PARTS[0], PARTS[1], PARTS[1]], &[false, false, true]);
        let before = blend.shares();
        for i in 0..200 {
            let label = if i % 3 == 0 { Label::Anomaly } else { Label::Normal };
            blend.learn(&[0.5, if label == Label::Anomaly { 2.0 } else { 0.3 }, 0.0], label);
        }
        let shares = blend.shares();
        assert!(shares[1] > 2.0 * before[1], "{before:?}, then {shares:?}");
    }

    #[test]
    fn one_class_alone_or_a_silent_model_moves_nothing() {
        let mut blend = Blend::new(&PARTS, &[false, false]);
        for _ in 0..50 {
            blend.learn(&[0.0, 3.0], Label::Anomaly);
            blend.learn(&[1.0, 3.0], Label::Normal);
        }
        assert_eq!(blend.shares(), [0.8, 0.2]);
    }
}
