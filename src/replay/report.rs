//! The figures of a replay: `report.json`.

use crate::engine::{Blueprint, Scored};
use crate::model::LearnsFrom;
use crate::quality;
use serde::Serialize;
use std::collections::BTreeMap;

/// The shares of events that the `budgets` of a report look at.
const BUDGETS: [f64; 3] = [0.005, 0.01, 0.05];

/// Precision and recall when the strangest `budget` of all events were looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetReport {
    pub budget: f64,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
}

/// The quality of one model. The last three only for models that learn from labels, over the rows at which it had learned both classes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelReport {
    pub auc: Option<f64>,
    pub average_precision: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brier: Option<Option<f64>>,
}

/// What a replay found. Figures that need truth are null without it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub rows: u64,
    pub scored: u64,
    pub seconds: f64,
    pub events_per_second: f64,
    pub alarms: u64,
    pub alarm_rate: Option<f64>,
    pub labels_used: u64,
    /// Anomalies among the rows that a reviewer was shown; only where one chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reviewed_anomalies: Option<u64>,
    /// Refitted models that took over; only where models were refitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promotions: Option<u64>,
    /// Rows that were scored, but came too late for their entity's windows.
    pub late: u64,
    pub auc: Option<f64>,
    pub average_precision: Option<f64>,
    pub budgets: Vec<BudgetReport>,
    pub models: BTreeMap<String, ModelReport>,
}

/// What labels were given, and what became of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taught {
    pub(super) labels: u64,
    pub(super) reviewed_anomalies: Option<u64>,
    pub(super) promotions: Option<u64>,
}

/// Gathers what a report needs, row by row.
pub(super) struct Reporter {
    names: Vec<(String, LearnsFrom)>,
    warmup_rows: u64,
    scored: u64,
    counted: u64,
    alarms: u64,
    truth: Vec<bool>,
    surprises: Vec<f64>,
    /// By model: its score of each row with truth.
    scores: Vec<Vec<f64>>,
    /// By model: its probability, with the truth, where it had one.
    probabilities: Vec<(Vec<f64>, Vec<bool>)>,
}

impl Reporter {
    pub(super) fn new(blueprint: &Blueprint, warmup_rows: u64) -> Self {
        let parts = blueprint.parts().into_iter().map(|part| part.learns_from);
        let names: Vec<_> = blueprint.models.iter().map(|model| model.name.clone()).zip(parts).collect();
        Self {
            scores: vec![Vec::new(); names.len()],
            probabilities: vec![Default::default(); names.len()],
            names,
            warmup_rows,
            scored: 0,
            counted: 0,
            alarms: 0,
            truth: Vec::new(),
            surprises: Vec::new(),
        }
    }

    pub(super) fn scored(&mut self, number: u64, scored: &Scored, truth: Option<bool>) {
        self.scored += 1;
        if number <= self.warmup_rows {
            return;
        }
        self.counted += 1;
        self.alarms += u64::from(scored.alarm);
        let Some(truth) = truth else { return };
        self.truth.push(truth);
        // The score, not the surprise: what stands in scores.csv must give the same figures.
        self.surprises.push(scored.prediction.score());
        for (all, score) in self.scores.iter_mut().zip(&scored.prediction.scores) {
            all.push(*score);
        }
        for ((all, truths), probability) in self.probabilities.iter_mut().zip(&scored.prediction.probabilities) {
            if let Some(probability) = probability {
                all.push(*probability);
                truths.push(truth);
            }
        }
    }

    pub(super) fn finish(self, rows: u64, taught: Taught, late: u64, seconds: f64) -> Report {
        let budgets = BUDGETS.iter().map(|&budget| {
            let found = quality::precision_recall_at(budget, &self.surprises, &self.truth);
            BudgetReport { budget, precision: found.map(|f| f.0), recall: found.map(|f| f.1) }
        });
        let models = self.names.iter().zip(&self.scores).zip(&self.probabilities).map(
            |(((name, part), scores), (probabilities, truths))| {
                let labelled = *part == LearnsFrom::Labels;
                let report = ModelReport {
                    auc: quality::auc(scores, &self.truth),
                    average_precision: quality::average_precision(scores, &self.truth),
                    accuracy: labelled.then(|| quality::accuracy(probabilities, truths)),
                    log_loss: labelled.then(|| quality::log_loss(probabilities, truths)),
                    brier: labelled.then(|| quality::brier(probabilities, truths)),
                };
                (name.clone(), report)
            },
        );
        Report {
            rows,
            scored: self.scored,
            seconds,
            events_per_second: if seconds > 0.0 { self.scored as f64 / seconds } else { 0.0 },
            alarms: self.alarms,
            alarm_rate: (self.counted > 0).then(|| self.alarms as f64 / self.counted as f64),
            labels_used: taught.labels,
            reviewed_anomalies: taught.reviewed_anomalies,
            promotions: taught.promotions,
            late,
            auc: quality::auc(&self.surprises, &self.truth),
            average_precision: quality::average_precision(&self.surprises, &self.truth),
            budgets: budgets.collect(),
            models: models.collect(),
        }
    }
}
