//! How good scores are, given the truth: the measures of reports, agreeing with scikit-learn, ties included.

/// The share of (anomaly, normal) pairs in which the anomaly scores higher; a tie is half a pair. None unless both are there.
///
/// # Panics
/// When the lengths differ or a score is NaN, as for every function here.
#[must_use]
pub fn auc(scores: &[f64], truth: &[bool]) -> Option<f64> {
    let (mut above, mut normals, mut anomalies) = (0.0, 0u64, 0u64);
    // From the lowest score up: each group of ties beats the normals below it, and half of those in it.
    for group in ties(scores, truth).rev() {
        above += group.anomalies as f64 * (normals as f64 + group.normals as f64 / 2.0);
        normals += group.normals;
        anomalies += group.anomalies;
    }
    (normals > 0 && anomalies > 0).then(|| above / (normals as f64 * anomalies as f64))
}

/// Sum over distinct scores, from the highest down, of precision times the gain in recall. None without an anomaly.
#[must_use]
pub fn average_precision(scores: &[f64], truth: &[bool]) -> Option<f64> {
    let (mut sum, mut rows, mut found) = (0.0, 0u64, 0u64);
    for group in ties(scores, truth) {
        rows += group.normals + group.anomalies;
        found += group.anomalies;
        sum += group.anomalies as f64 * (found as f64 / rows as f64);
    }
    (found > 0).then(|| sum / found as f64)
}

/// (precision, recall) of looking at the `budget` share of rows (rounded, at least one) with the highest scores; among ties the
/// earlier row is looked at first. None without an anomaly.
#[must_use]
pub fn precision_recall_at(budget: f64, scores: &[f64], truth: &[bool]) -> Option<(f64, f64)> {
    let order = order(scores, truth);
    let looked = ((budget * order.len() as f64).round() as usize).clamp(1, order.len().max(1));
    let anomalies = truth.iter().filter(|truth| **truth).count();
    let found = order.iter().take(looked).filter(|i| truth[**i]).count();
    (anomalies > 0).then(|| (found as f64 / looked as f64, found as f64 / anomalies as f64))
}

/// The mean of -ln of the probability given to what was true. Probabilities are kept 2^-52 away from 0 and 1. None without rows.
#[must_use]
pub fn log_loss(probabilities: &[f64], truth: &[bool]) -> Option<f64> {
    mean(probabilities, truth, log_loss_of)
}

/// The same of one row.
#[must_use]
pub fn log_loss_of(probability: f64, truth: bool) -> f64 {
    let p = probability.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
    -libm::log(if truth { p } else { 1.0 - p })
}

/// The mean squared distance of the probability from the truth. None without rows.
#[must_use]
pub fn brier(probabilities: &[f64], truth: &[bool]) -> Option<f64> {
    mean(probabilities, truth, |p, truth| {
        let error = p - f64::from(u8::from(truth));
        error * error
    })
}

/// The share of rows on whose side of one half the probability is; one half itself is a normal. None without rows.
#[must_use]
pub fn accuracy(probabilities: &[f64], truth: &[bool]) -> Option<f64> {
    mean(probabilities, truth, |p, truth| f64::from(u8::from((p > 0.5) == truth)))
}

/// The rows of one distinct score.
struct Ties {
    normals: u64,
    anomalies: u64,
}

/// Groups of equal scores, from the highest down.
fn ties(scores: &[f64], truth: &[bool]) -> impl DoubleEndedIterator<Item = Ties> {
    let order = order(scores, truth);
    let groups: Vec<Ties> = order
        .chunk_by(|a, b| scores[*a] == scores[*b])
        .map(|rows| {
            let anomalies = rows.iter().filter(|i| truth[**i]).count() as u64;
            Ties { normals: rows.len() as u64 - anomalies, anomalies }
        })
        .collect();
    groups.into_iter()
}

/// Rows from the highest score down, ties in order.
fn order(scores: &[f64], truth: &[bool]) -> Vec<usize> {
    assert_eq!(scores.len(), truth.len(), "a truth for every score");
    assert!(scores.iter().all(|score| !score.is_nan()), "NaN has no rank");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order
}

fn mean(values: &[f64], truth: &[bool], each: impl Fn(f64, bool) -> f64) -> Option<f64> {
    assert_eq!(values.len(), truth.len(), "a truth for every probability");
    assert!(values.iter().all(|value| !value.is_nan()), "NaN is no probability");
    let sum: f64 = values.iter().zip(truth).map(|(value, truth)| each(*value, *truth)).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/data/quality/make.py` wrote the numbers with scikit-learn.
    #[test]
    fn the_measures_agree_with_scikit_learn() {
        let rows = include_str!("../tests/data/quality/quality.csv").lines().skip(1);
        let rows: Vec<Vec<f64>> = rows.map(|row| row.split(',').map(|cell| cell.parse().unwrap()).collect()).collect();
        let expected = include_str!("../tests/data/quality/expected.csv").lines().skip(1);
        let mut cases = 0;
        for expected in expected.map(|row| row.split(',').map(|cell| cell.parse::<f64>().unwrap()).collect::<Vec<_>>())
        {
            let of_case = || rows.iter().filter(|row| row[0] == expected[0]);
            let scores: Vec<f64> = of_case().map(|row| row[1]).collect();
            let truth: Vec<bool> = of_case().map(|row| row[2] == 1.0).collect();
            let measures =
                [auc, average_precision, log_loss, brier, accuracy].map(|measure| measure(&scores, &truth).unwrap());
            for (got, want) in measures.iter().zip(&expected[1..]) {
                assert!((got - want).abs() < 1e-9, "case {}: {got}, not {want}", expected[0]);
            }
            cases += 1;
        }
        assert_eq!(cases, 5);
    }

    #[test]
    fn without_both_classes_there_is_no_ranking() {
        assert_eq!(auc(&[0.1, 0.2], &[true, true]), None);
        assert_eq!(average_precision(&[0.1, 0.2], &[false, false]), None);
        assert_eq!(precision_recall_at(0.5, &[], &[]), None);
        assert_eq!(brier(&[], &[]), None);
    }

    #[test]
    fn a_budget_looks_at_the_top_rows_and_at_one_at_least() {
        let (scores, truth) = ([0.9, 0.1, 0.8, 0.8], [true, false, false, true]);
        assert_eq!(precision_recall_at(0.5, &scores, &truth), Some((0.5, 0.5)));
        assert_eq!(precision_recall_at(0.001, &scores, &truth), Some((1.0, 0.5)));
        assert_eq!(precision_recall_at(1.0, &scores, &truth), Some((0.5, 1.0)));
    }
}
