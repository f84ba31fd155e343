//! Challenger and champion on the newest labels: what each said before it had learned them.

use super::super::trainer::Example;
use crate::draw::{Draw, Purpose};
use crate::model::{Label, Learner, Platt};
use crate::quality::{average_precision, log_loss_of};

/// Samples of the bootstrap that the interval of the average precision is read from.
const RESAMPLES: u64 = 200;

/// How well probabilities fit the verdicts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    pub log_loss: f64,
    pub average_precision: f64,
}

/// A difference, challenger less champion, and where it lies with 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub mean: f64,
    pub high: f64,
}

/// The challenger, fitted to older labels only, beside the champion on the newest.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The newest labels: anomalies and normals.
    pub anomalies: usize,
    pub normals: usize,
    pub champion: Quality,
    pub challenger: Quality,
    /// Negative is better.
    pub log_loss: Interval,
    /// Positive is better.
    pub average_precision: Interval,
}

impl Comparison {
    /// The log loss is lower with 95 %, and the ranking is not worse with 95 %.
    #[must_use]
    pub fn is_better(&self) -> bool {
        self.log_loss.high < 0.0 && self.average_precision.high >= 0.0
    }
}

/// Judges a challenger as it would have been used: it scores each of the newest labels before its calibration learns it. Answers the challenger calibrated
/// on all of them, too.
pub(super) fn on(newest: &[Example], place: usize, challenger: Learner, seed: u64) -> (Learner, Comparison) {
    let anomaly = |example: &Example| example.label == Label::Anomaly;
    let truth: Vec<bool> = newest.iter().map(anomaly).collect();
    // Who does not vote yet says how many anomalies there have been.
    let (mut seen, mut anomalies) = (2.0, 1.0);
    let champion: Vec<f64> = newest
        .iter()
        .map(|example| {
            let said = example.said.get(place).copied().flatten().unwrap_or(anomalies / seen);
            seen += 1.0;
            anomalies += f64::from(u8::from(anomaly(example)));
            said
        })
        .collect();
    let margins: Vec<f64> = newest.iter().map(|example| challenger.margin(&example.x)).collect();
    let mut platt = Platt::default();
    let said: Vec<f64> = margins
        .iter()
        .zip(&truth)
        .map(|(margin, truth)| {
            let probability = platt.probability(*margin);
            platt.learn(*margin, *truth);
            probability
        })
        .collect();
    let calibration = Platt::fitted(margins.iter().copied().zip(truth.iter().copied()));
    let quality = |said: &[f64]| Quality {
        log_loss: said.iter().zip(&truth).map(|(p, truth)| log_loss_of(*p, *truth)).sum::<f64>() / truth.len() as f64,
        average_precision: average_precision(said, &truth).unwrap_or(f64::NAN),
    };
    let losses = said.iter().zip(&champion).zip(&truth);
    let losses: Vec<f64> =
        losses.map(|((new, old), truth)| log_loss_of(*new, *truth) - log_loss_of(*old, *truth)).collect();
    let comparison = Comparison {
        anomalies: truth.iter().filter(|truth| **truth).count(),
        normals: truth.iter().filter(|truth| !**truth).count(),
        champion: quality(&champion),
        challenger: quality(&said),
        log_loss: normal_interval(&losses),
        average_precision: bootstrap(&said, &champion, &truth, Draw::new(seed)),
    };
    let form = challenger.form().clone();
    (challenger.refitted(form, calibration), comparison)
}

/// The mean and 1.96 standard errors to both sides.
fn normal_interval(differences: &[f64]) -> Interval {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    let reach = 1.96 * (variance / n).sqrt();
    Interval { low: mean - reach, mean, high: mean + reach }
}

/// The percentile interval of the paired difference (Efron 1979).
fn bootstrap(challenger: &[f64], champion: &[f64], truth: &[bool], draw: Draw) -> Interval {
    let n = truth.len();
    let difference = |rows: &[usize]| {
        let of = |said: &[f64]| rows.iter().map(|&row| said[row]).collect::<Vec<_>>();
        let truth: Vec<bool> = rows.iter().map(|&row| truth[row]).collect();
        Some(average_precision(&of(challenger), &truth)? - average_precision(&of(champion), &truth)?)
    };
    let resample = |sample: u64| {
        let rows = (0..n as u64).map(|i| (draw.bits(Purpose::Bootstrap, sample * n as u64 + i) % n as u64) as usize);
        difference(&rows.collect::<Vec<_>>())
    };
    let mut differences: Vec<f64> = (0..RESAMPLES).filter_map(resample).collect();
    differences.sort_by(f64::total_cmp);
    let at = |share: f64| differences.get((share * differences.len() as f64) as usize).copied().unwrap_or(f64::NAN);
    let mean = difference(&(0..n).collect::<Vec<_>>()).unwrap_or(f64::NAN);
    Interval { low: at(0.025), mean, high: at(0.975) }
}
