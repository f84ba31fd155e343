//! A refit as a task: the challenger against the model that scores, what it would change in the last day's alarms, and its promotion.

use super::shared::Shared;
use super::tasks::Progress;
use super::upload::End;
use crate::decision;
use crate::engine::Blueprint;
use crate::kafka::{Client, Outbox, Produced};
use crate::learn::refit::{Challenge, Comparison, Interval, Quality, RefitError, challenge};
use crate::model::{Hashing, Learner, LearnsFrom, Model};
use crate::store::Filter;
use crate::telemetry;
use crate::wire;
use anyhow::{Context, anyhow};
use crossbeam_channel::after;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Rows that the alarms are compared on: the newest of a day of event time.
const ROWS_MAX: usize = 50_000;
const DAY_MS: i64 = 86_400_000;
/// Progress is told in thousandths, of which the fits are most.
const STEPS: u64 = 1_000;
const STEPS_OF_FITS: f64 = 900.0;
/// For the trainer's answers, also while it folds.
const TRAINER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a promotion may still take to be acknowledged, once somebody has cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A refit that was asked for.
#[derive(Debug)]
pub struct Retrain {
    /// Its place among all models, and among those that learn from labels.
    model: usize,
    learner: usize,
    dry_run: bool,
}

/// What became of a refit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Retrained {
    pub model: String,
    /// Whether the refitted model scores from now on.
    pub promoted: bool,
    /// Whether it was only looked at.
    pub dry_run: bool,
    /// The version that it became: null unless it was promoted, or where the label log had not been read so far yet.
    pub version: Option<i64>,
    /// One sentence that says why it was promoted or not.
    pub why: String,
    pub labels: RefitLabels,
    /// The model that scored so far, on the held-out labels.
    pub champion: RefitQuality,
    /// The refitted model, on the same.
    pub challenger: RefitQuality,
    /// Challenger less champion: below 0 is better.
    pub log_loss_change: RefitChange,
    /// Challenger less champion: above 0 is better.
    pub average_precision_change: RefitChange,
    pub alarms: AlarmChanges,
}

/// The labels of a refit. The newest fifth is held out to compare on; what is promoted was fitted to all in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefitLabels {
    pub fitted: usize,
    pub held_out_anomalies: usize,
    pub held_out_normals: usize,
}

/// How well probabilities fit the verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefitQuality {
    /// Mean of -ln of what was given to the verdict: lower is better.
    pub log_loss: f64,
    /// Anomalies before normals: 1 is best.
    pub average_precision: f64,
}

/// A difference, and the interval in which it lies with 95 %.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefitChange {
    pub low: f64,
    pub mean: f64,
    pub high: f64,
}

/// What the challenger would change in the alarms of the last day of event time (its newest 50,000 stored rows at most).
///
/// Every model's score counts by its share; that of this model is its rank among these rows, once by the champion and once by the challenger. As
/// many rows as have alarmed are the first by either.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AlarmChanges {
    pub rows: usize,
    pub gained: usize,
    pub lost: usize,
    pub kept: usize,
}

impl From<Quality> for RefitQuality {
    fn from(Quality { log_loss, average_precision }: Quality) -> Self {
        Self { log_loss, average_precision }
    }
}

impl From<Interval> for RefitChange {
    fn from(Interval { low, mean, high }: Interval) -> Self {
        Self { low, mean, high }
    }
}

/// How a refit has ended, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefitOutcome {
    Promoted,
    Kept,
    DryRun,
    Cancelled,
    Failed,
}

impl Retrain {
    /// Of the model at this place of the configuration; `None` where it does not learn from labels.
    #[must_use]
    pub fn new(blueprint: &Blueprint, model: usize, dry_run: bool) -> Option<Self> {
        let learner = learner_place(blueprint, model)?;
        Some(Self { model, learner, dry_run })
    }

    /// Fits, compares, and promotes what is better.
    pub(super) fn run(&self, shared: &Shared, progress: &Progress) -> (Option<Retrained>, anyhow::Result<End>) {
        let mut retrained = None;
        let end = self.try_run(shared, progress, &mut retrained);
        let outcome = match (&end, &retrained) {
            (Ok(End::Cancelled), _) => RefitOutcome::Cancelled,
            (Err(_), _) | (_, None) => RefitOutcome::Failed,
            (_, Some(Retrained { promoted: true, .. })) => RefitOutcome::Promoted,
            (_, Some(Retrained { dry_run: true, .. })) => RefitOutcome::DryRun,
            _ => RefitOutcome::Kept,
        };
        shared.metrics.refitted(outcome);
        (retrained, end)
    }

    fn try_run(&self, shared: &Shared, progress: &Progress, retrained: &mut Option<Retrained>) -> anyhow::Result<End> {
        let name = &shared.names.models[self.model];
        progress.set(0, STEPS);
        let examples = shared.examples(TRAINER_PATIENCE)?;
        let mut watch = |share: f64| {
            progress.set((share * STEPS_OF_FITS) as u64, STEPS);
            !progress.cancelled()
        };
        let challenge = match challenge(&examples, self.learner, shared.config.seed, &mut watch) {
            Ok(challenge) => challenge,
            Err(RefitError::Cancelled) => return Ok(End::Cancelled),
            Err(error) => return Err(anyhow!("{name:?} was not refitted: {error}")),
        };
        let Some(champion) = examples.models.get(self.learner).and_then(Model::learner) else {
            return Err(anyhow!("{name:?} was not refitted: {}", RefitError::Detector));
        };
        let Some(alarms) = self.alarms(shared, champion, &challenge.judged, progress)? else {
            return Ok(End::Cancelled);
        };
        let Comparison { anomalies, normals, .. } = challenge.comparison;
        let report = retrained.insert(Retrained {
            model: name.clone(),
            promoted: false,
            dry_run: self.dry_run,
            version: None,
            why: why(&challenge.comparison, self.dry_run),
            labels: RefitLabels {
                fitted: examples.labelled.len() - anomalies - normals,
                held_out_anomalies: anomalies,
                held_out_normals: normals,
            },
            champion: challenge.comparison.champion.into(),
            challenger: challenge.comparison.challenger.into(),
            log_loss_change: challenge.comparison.log_loss.into(),
            average_precision_change: challenge.comparison.average_precision.into(),
            alarms,
        });
        if challenge.comparison.is_better() && !self.dry_run {
            // Without its promotion the report would say what is not so.
            if progress.cancelled() {
                *retrained = None;
                return Ok(End::Cancelled);
            }
            if let Err(error) = self.promote(shared, &challenge, progress) {
                *retrained = None;
                return Err(error);
            }
            report.promoted = true;
            report.version = self.version(shared, challenge.trained_through);
            tracing::info!(model = name, version = report.version, why = report.why, "a refitted model was promoted");
        }
        progress.set(STEPS, STEPS);
        Ok(End::Finished)
    }

    /// Returns once the label log has the model and its promotion.
    fn promote(&self, shared: &Shared, challenge: &Challenge, progress: &Progress) -> anyhow::Result<()> {
        let spec = &shared.blueprint.models[self.model];
        let kafka = &shared.config.kafka;
        let artifact = wire::artifact_to_json(&shared.names, spec.kind.name(), &challenge.fitted);
        let artifact =
            artifact.ok_or_else(|| anyhow!("{:?} was fitted, but there is nothing to promote", spec.name))?;
        // An outbox of its own: a record that Kafka does not take must not stop the service.
        let outbox = Outbox::open(&Client::new(&kafka.brokers, &kafka.client))?;
        let mut sender = outbox.sender();
        for record in wire::promotion_to_label_log(&spec.name, &artifact, challenge.trained_through) {
            let payload = Some(&record[..]);
            let topic = &kafka.label_log;
            sender.send(Produced { topic, key: None, payload, timestamp_ms: telemetry::now_ms(), headers: None })?;
        }
        let timer = telemetry::stopwatch();
        let ticket = sender.close();
        let waited = ticket.wait(|| progress.cancelled() && timer.elapsed() > CANCEL_PATIENCE);
        waited.context("Kafka has not acknowledged the promotion, which may still come: the model's versions tell")
    }

    /// The version that the promotion became, once the trainer has read it.
    fn version(&self, shared: &Shared, trained_through: i64) -> Option<i64> {
        let timer = telemetry::stopwatch();
        while timer.elapsed() < TRAINER_PATIENCE && !shared.stopping() {
            let versions = shared.versions(TRAINER_PATIENCE).ok()?;
            let newest = versions.get(self.learner)?.last()?.version;
            if newest >= trained_through {
                return Some(newest);
            }
            after(LOOK_AGAIN).recv().ok();
        }
        None
    }

    /// `None`: somebody has cancelled.
    fn alarms(
        &self,
        shared: &Shared,
        champion: &Learner,
        challenger: &Learner,
        progress: &Progress,
    ) -> anyhow::Result<Option<AlarmChanges>> {
        let names = &shared.names;
        let shares = shared.globals.load().shares.clone();
        let hashing = Hashing::new(&names.columns);
        let mut rows = Rows { share: shares[self.model], ..Rows::default() };
        let mut filter = Filter { limit: 1, ..Filter::default() };
        loop {
            if progress.cancelled() {
                return Ok(None);
            }
            let page = shared.store.read(|reader| reader.predictions(&filter))?;
            if filter.from_ms.is_none() {
                // The newest row alone, which says what the last day is.
                let Some(newest) = page.rows.first() else { break };
                filter = Filter { from_ms: Some(newest.row.time_ms - DAY_MS), ..Filter::default() };
                continue;
            }
            for stored in page.rows.iter().take(ROWS_MAX - rows.others.len()) {
                let scores = stored.surprises_for(&names.models).into_iter().map(decision::score);
                let others = scores.zip(&shares).enumerate().filter(|(model, _)| *model != self.model);
                let x = hashing.encode(&stored.features_for(&names.columns));
                rows.others.push(others.map(|(_, (score, share))| score * share).sum());
                rows.champion.push(champion.margin(&x));
                rows.challenger.push(challenger.margin(&x));
                rows.alarms += usize::from(stored.row.alarm);
            }
            let looked = rows.others.len() as f64 / ROWS_MAX as f64;
            progress.set((STEPS_OF_FITS + looked * (STEPS as f64 - STEPS_OF_FITS)) as u64, STEPS);
            filter.cursor = page.next_cursor;
            if filter.cursor.is_none() || rows.others.len() == ROWS_MAX {
                break;
            }
        }
        Ok(Some(rows.changes()))
    }
}

/// The place among the models that learn from labels, of the model at this place of the configuration.
#[must_use]
pub fn learner_place(blueprint: &Blueprint, model: usize) -> Option<usize> {
    let parts = blueprint.parts();
    let learns = |part: &crate::model::Part| part.learns_from == LearnsFrom::Labels;
    learns(parts.get(model)?).then(|| parts[..model].iter().filter(|part| learns(part)).count())
}

fn why(comparison: &Comparison, dry_run: bool) -> String {
    let labels = comparison.anomalies + comparison.normals;
    let change = |Interval { low, mean, high }: Interval| format!("{mean:+.3}, from {low:+.3} to {high:+.3} with 95 %");
    let (loss, precision) = (change(comparison.log_loss), change(comparison.average_precision));
    if comparison.is_better() {
        let end = if dry_run { "it would take over, but this is a dry run" } else { "it takes over" };
        format!("its log loss on the {labels} newest labels is lower ({loss}), and it ranks them no worse: {end}")
    } else if comparison.log_loss.high < 0.0 {
        format!(
            "its log loss on the {labels} newest labels is lower, but it ranks them worse (average precision {precision}): the model that scores stays"
        )
    } else {
        format!(
            "its log loss on the {labels} newest labels is not lower for certain ({loss}): the model that scores stays"
        )
    }
}

/// The rows that alarms are compared on.
#[derive(Debug, Default)]
struct Rows {
    /// The score of all other models, each by its share.
    others: Vec<f64>,
    champion: Vec<f64>,
    challenger: Vec<f64>,
    /// What the model itself has of the whole.
    share: f64,
    alarms: usize,
}

impl Rows {
    fn changes(&self) -> AlarmChanges {
        let (before, after) = (self.first(&self.champion), self.first(&self.challenger));
        let kept = before.intersection(&after).count();
        AlarmChanges { rows: self.others.len(), gained: after.len() - kept, lost: before.len() - kept, kept }
    }

    /// The strangest rows, as many as have alarmed.
    fn first(&self, margins: &[f64]) -> BTreeSet<usize> {
        let mut sorted = margins.to_vec();
        sorted.sort_by(f64::total_cmp);
        let score = |margin: f64| {
            let at_least = margins.len() - sorted.partition_point(|other| *other < margin);
            decision::score(-libm::log10(at_least as f64 / margins.len() as f64))
        };
        let all = margins.iter().zip(&self.others);
        let means: Vec<f64> = all.map(|(margin, others)| others + self.share * score(*margin)).collect();
        let mut places: Vec<usize> = (0..means.len()).collect();
        places.sort_by(|a, b| means[*b].total_cmp(&means[*a]).then(a.cmp(b)));
        places.into_iter().take(self.alarms).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_compared_by_rank_and_by_share() {
        let rows = |share: f64, alarms| Rows {
            others: vec![0.3, 0.0, 0.0, 0.0],
            champion: vec![0.0, 0.0, 5.0, 1.0],
            // Margins of another scale in another order: only their ranks count.
            challenger: vec![0.0, 900.0, 2.0, 800.0],
            share,
            alarms,
        };
        let counts = |rows: Rows| {
            let AlarmChanges { rows, gained, lost, kept } = rows.changes();
            [rows, gained, lost, kept]
        };
        assert_eq!(counts(rows(1.0, 0)), [4, 0, 0, 0]);
        // By this model alone, the first is row 2, then row 1; beside the others row 0 comes first unless the share is large.
        assert_eq!(counts(rows(1.0, 1)), [4, 0, 0, 1], "row 0 by either: .3 is more than a rank of 1 in 4 gives");
        assert_eq!(counts(rows(2.0, 1)), [4, 1, 1, 0], "row 2 by the one, row 1 by the other");
        assert_eq!(counts(rows(2.0, 2)), [4, 1, 1, 1]);
        assert_eq!(counts(rows(2.0, 4)), [4, 0, 0, 4]);
        assert_eq!(Rows::default().changes(), AlarmChanges::default());
    }

    #[test]
    fn the_reason_is_a_sentence() {
        let quality = Quality { log_loss: 0.3, average_precision: 0.5 };
        let interval = |low, high| Interval { low, mean: (low + high) / 2.0, high };
        let comparison = |log_loss, average_precision| Comparison {
            anomalies: 10,
            normals: 30,
            champion: quality,
            challenger: quality,
            log_loss,
            average_precision,
        };
        let better = comparison(interval(-0.25, -0.125), interval(-0.0625, 0.25));
        assert_eq!(
            why(&better, false),
            "its log loss on the 40 newest labels is lower (-0.188, from -0.250 to -0.125 with 95 %), and it ranks them no worse: it takes over"
        );
        assert!(why(&better, true).ends_with("it would take over, but this is a dry run"));
        assert!(why(&comparison(interval(-0.25, 0.125), interval(0.0, 0.5)), false).contains("not lower for certain"));
        let ranks_worse = comparison(interval(-0.25, -0.125), interval(-0.5, -0.25));
        assert!(why(&ranks_worse, false).contains("ranks them worse (average precision -0.375"));
    }
}
