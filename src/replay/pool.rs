//! A file whose rows are all there at once, of which a reviewer labels one after the other: which one next, by what has been learned so far.

use super::Replay;
use crate::features::FeatureVector;
use crate::model::{Encoded, Hashing, Label, Model};

/// What the detectors' rank counts beside the probability of the models that learn from labels. With .1, refitted trees found as many anomalies as with 0 or .3
/// on four public sets or more; before there are labels it decides alone.
const DETECTORS_SHARE: f64 = 0.1;

/// A scored row that may be labelled.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) row: u64,
    pub(super) event_id: String,
    pub(super) features: FeatureVector,
    pub(super) surprises: Vec<f64>,
    pub(super) truth: Option<bool>,
    encoded: Encoded,
    /// Among the candidates, by the detectors alone: in [0, 1).
    rank: f64,
}

impl Candidate {
    pub(super) fn new(
        row: u64,
        event_id: String,
        features: FeatureVector,
        surprises: Vec<f64>,
        truth: Option<bool>,
        hashing: &Hashing,
    ) -> Self {
        let encoded = hashing.encode(&features);
        Self { row, event_id, features, surprises, truth, encoded, rank: 0.0 }
    }
}

/// Ranks candidates by what the detectors say of each (higher is stranger).
pub(super) fn rank(candidates: &mut [Candidate], strangeness: &[f64]) {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|a, b| strangeness[*a].total_cmp(&strangeness[*b]));
    for (rank, at) in order.into_iter().enumerate() {
        candidates[at].rank = rank as f64 / strangeness.len() as f64;
    }
}

/// The candidate to label next: the one with the highest mean probability, by the models that vote, with a little of the detectors' rank.
pub(super) fn next(candidates: &[Candidate], models: &[Model]) -> Option<usize> {
    let voting: Vec<&Model> = models.iter().filter(|model| model.votes()).collect();
    let worth = |candidate: &Candidate| {
        let said = voting.iter().filter_map(|model| model.probability(&candidate.encoded));
        let mean = said.sum::<f64>() / voting.len().max(1) as f64;
        mean + DETECTORS_SHARE * candidate.rank
    };
    let worths = candidates.iter().map(worth).enumerate();
    worths.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

impl Replay<'_> {
    /// Lets the reviewer label `labels` of the candidates, one by one, and answers how many of those were anomalies.
    pub(super) fn review(&mut self, candidates: &mut Vec<Candidate>, labels: u64) -> anyhow::Result<u64> {
        let mut found = 0;
        for _ in 0..labels {
            let globals = self.trainer.globals();
            let Some(at) = next(candidates, &globals.models) else { break };
            let Candidate { row, event_id, features, surprises, truth, .. } = candidates.swap_remove(at);
            // A row without truth is looked at in vain.
            let Some(truth) = truth else { continue };
            found += u64::from(truth);
            let label = if truth { Label::Anomaly } else { Label::Normal };
            self.teach(row, event_id, label, features, surprises)?;
        }
        Ok(found)
    }
}
