//! `larum replay`: the same engine over a file, with labels given back after a delay. No Kafka, no store.

mod input;
mod inferred;
mod lines;
mod pool;
mod report;

pub use inferred::Inferred;
pub use input::{Input, InputError, Line, Options, Row, Source};
pub use report::{BudgetReport, ModelReport, Report};

use crate::draw::{Draw, Purpose};
use crate::engine::{Blueprint, Outcome, Partition, Scored};
use crate::features::FeatureVector;
use crate::learn::refit::{self, RefitError};
use crate::learn::{BACKGROUND_QUEUE, Entry, EventKey, LabelEntry, LabelSource, Trainer, TrainerLimits};
use crate::model::{Hashing, Label, LearnsFrom};
use anyhow::Context;
use pool::Candidate;
use report::{Reporter, Taught};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

/// The name that a replayed file has in place of a topic.
const TOPIC: &str = "replay";
/// Background samples alone are adopted this often; labels are adopted at once.
const BACKGROUND_ROWS: u64 = 1_000;

/// Which labels come back, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Feedback {
    /// The label of row i is given after row i + `rows` has been scored; the seeded share `rate` of labels comes back at all.
    Delayed { rows: u64, rate: f64 },
    /// Of every `rows` rows, the review queue chooses this many to be labelled once they are scored.
    Windows { labels: u64, rows: u64 },
    /// Once all rows are scored, it chooses this many one by one from the whole file, each by what the labels before have taught.
    Pool { labels: u64 },
}

/// How the labels of a file are given, and what is made of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Teaching {
    pub feedback: Option<Feedback>,
    /// Models are refitted after every so many labels.
    pub refit_labels: Option<u64>,
}

/// A label on its way back.
struct Waiting {
    row: u64,
    event_id: String,
    label: Label,
    features: FeatureVector,
    surprises: Vec<f64>,
}

/// One replay: the engine of one partition, and the trainer beside it.
struct Replay<'a> {
    engine: Partition,
    trainer: Trainer,
    waiting: VecDeque<Waiting>,
    teaching: Teaching,
    draw: Draw,
    key: Arc<str>,
    /// Scored rows that the reviewer has not looked at yet.
    candidates: Vec<Candidate>,
    hashing: Hashing,
    reviewed_anomalies: u64,
    promotions: u64,
    labels_used: u64,
    adopted_at_row: u64,
    blueprint: &'a Arc<Blueprint>,
}

/// Rows that could not be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    pub rows: u64,
    /// The first few, for people.
    pub examples: Vec<String>,
}

/// Drives `input` through the engine. Writes a line per scored event to `scores`; calls `progress` with the bytes read.
///
/// # Errors
/// When the input cannot be read or the output not written.
pub fn run(
    blueprint: &Arc<Blueprint>,
    mut input: Input,
    teaching: Teaching,
    warmup_rows: u64,
    mut scores: Option<&mut dyn Write>,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<(Report, Refused)> {
    let trainer = Trainer::new(&blueprint.models, blueprint.plan.columns(), TrainerLimits::default())?;
    let globals = Arc::new(trainer.globals());
    let mut replay = Replay {
        engine: Partition::new(blueprint.clone(), TOPIC, 0, 1, 0, globals),
        trainer,
        waiting: VecDeque::new(),
        teaching,
        draw: Draw::new(blueprint.seed),
        key: TOPIC.into(),
        candidates: Vec::new(),
        hashing: Hashing::new(blueprint.plan.columns()),
        reviewed_anomalies: 0,
        promotions: 0,
        labels_used: 0,
        adopted_at_row: 0,
        blueprint,
    };
    let mut reporter = Reporter::new(blueprint, warmup_rows);
    let mut refused = Refused::default();
    if let Some(out) = &mut scores {
        write!(out, "row,event_id,score,p_value,alarm,model_version")?;
        for model in &blueprint.models {
            write!(out, ",{}", csv_cell(&format!("score:{}", model.name)))?;
        }
        writeln!(out)?;
    }
    let watch = crate::telemetry::stopwatch();
    let mut number = 0;
    while let Some(row) = input.next_row().with_context(|| format!("cannot read row {}", number + 1))? {
        number += 1;
        replay.give_labels(number)?;
        replay.adopt(number);
        match replay.score(number, &row) {
            Outcome::Scored(scored) => {
                reporter.scored(number, &scored, row.truth());
                if let Some(out) = &mut scores {
                    write_score(out, number, &scored)?;
                }
                replay.scored(number, *scored, row.truth());
            }
            Outcome::Filtered => {}
            Outcome::Rejected(rejection) => {
                refused.rows += 1;
                if refused.examples.len() < 5 {
                    refused.examples.push(format!("row {number}: {}: {}", rejection.reason.as_str(), rejection.detail));
                }
            }
        }
        if number % 1_024 == 0 {
            progress(input.bytes_read());
        }
    }
    progress(input.bytes_read());
    if let Some(Feedback::Pool { labels }) = teaching.feedback {
        replay.review_pool(labels)?;
    }
    let taught = Taught {
        labels: replay.labels_used,
        reviewed_anomalies: replay.reviews().then_some(replay.reviewed_anomalies),
        promotions: teaching.refit_labels.map(|_| replay.promotions),
    };
    let report = reporter.finish(number, taught, replay.engine.counters.late, watch.elapsed().as_secs_f64());
    Ok((report, refused))
}

impl Replay<'_> {
    fn score(&mut self, number: u64, row: &Row) -> Outcome {
        let offset = i64::try_from(number - 1).expect("a file has fewer rows than i64 counts");
        match row.event(&self.blueprint.decoder, TOPIC, offset) {
            Ok(event) => self.engine.handle_event(offset, &event),
            Err(rejection) => Outcome::Rejected(rejection),
        }
    }

    /// Labels that are due before row `number` is scored.
    fn give_labels(&mut self, number: u64) -> anyhow::Result<()> {
        match self.teaching.feedback {
            Some(Feedback::Delayed { rows, .. }) => {
                while self.waiting.front().is_some_and(|waiting| waiting.row + rows < number) {
                    let Some(Waiting { row, event_id, label, features, surprises }) = self.waiting.pop_front() else {
                        break;
                    };
                    self.teach(row, event_id, label, features, surprises)?;
                }
            }
            Some(Feedback::Windows { labels, rows }) if number > 1 && (number - 1).is_multiple_of(rows) => {
                let mut candidates = std::mem::take(&mut self.candidates);
                self.rank(&mut candidates);
                self.reviewed_anomalies += self.review(&mut candidates, labels)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A verdict on a scored row goes to the models that learn from labels.
    fn teach(
        &mut self,
        row: u64,
        event_id: String,
        label: Label,
        features: FeatureVector,
        surprises: Vec<f64>,
    ) -> anyhow::Result<()> {
        let offset = i64::try_from(row).expect("a file has fewer rows than i64 counts");
        let source = LabelSource { partition: 0, offset };
        let event = self.event_key(row);
        let entry = LabelEntry { source, event, event_id, label, features, surprises };
        self.trainer.fold(self.trainer.version(), Some(Entry::Label(entry)));
        self.labels_used += 1;
        if self.teaching.refit_labels.is_some_and(|labels| self.labels_used.is_multiple_of(labels)) {
            self.refit()?;
        }
        Ok(())
    }

    /// Refits every model that learns from labels. In a pool it takes over at once, for there is nothing to compare it with: labels chosen by score are no
    /// sample. Else it takes over when it has proved better.
    fn refit(&mut self) -> anyhow::Result<()> {
        let examples = self.trainer.examples();
        let learners = self.blueprint.models.iter().zip(self.blueprint.parts());
        let learners = learners.filter(|(_, part)| part.learns_from == LearnsFrom::Labels).map(|(spec, _)| &spec.name);
        for (place, name) in learners.enumerate() {
            let fitted = if self.reviews() {
                refit::fit_all(&examples, place, self.blueprint.seed).map(Some)
            } else {
                refit::challenge(&examples, place, self.blueprint.seed, &mut |_| true)
                    .map(|challenge| challenge.comparison.is_better().then_some(challenge.fitted))
            };
            let fitted = match fitted {
                Ok(Some(fitted)) => fitted,
                Ok(None) | Err(RefitError::TooFew { .. }) => continue,
                Err(error) => return Err(error).with_context(|| format!("cannot refit {name}")),
            };
            self.promotions += 1;
            let entry =
                Entry::Promotion { model: name.clone(), fitted: Arc::new(fitted), trained_through: examples.through };
            self.trainer.fold(self.trainer.version(), Some(entry));
        }
        Ok(())
    }

    /// Whether a reviewer chooses what is labelled.
    fn reviews(&self) -> bool {
        matches!(self.teaching.feedback, Some(Feedback::Windows { .. } | Feedback::Pool { .. }))
    }

    fn review_pool(&mut self, labels: u64) -> anyhow::Result<()> {
        let mut candidates = std::mem::take(&mut self.candidates);
        self.rank(&mut candidates);
        let step = (candidates.len() / BACKGROUND_QUEUE).max(1);
        for candidate in candidates.iter().step_by(step).take(BACKGROUND_QUEUE) {
            let event = self.event_key(candidate.row);
            let entry = Entry::Background { event, features: candidate.features.clone() };
            self.trainer.fold(self.trainer.version(), Some(entry));
        }
        self.reviewed_anomalies += self.review(&mut candidates, labels)?;
        Ok(())
    }

    /// Ranks candidates by the detectors as they are now.
    fn rank(&self, candidates: &mut [Candidate]) {
        let said = |candidate: &Candidate| self.engine.predict_features(candidate.features.clone()).surprise;
        let strangeness: Vec<f64> = candidates.iter().map(said).collect();
        pool::rank(candidates, &strangeness);
    }

    fn adopt(&mut self, number: u64) {
        let has = self.engine.globals();
        let labelled = self.trainer.labels_folded() != has.labels_folded;
        let background = self.trainer.version() != has.version && number >= self.adopted_at_row + BACKGROUND_ROWS;
        if labelled || background {
            self.engine.adopt(Arc::new(self.trainer.globals()));
            self.adopted_at_row = number;
        }
    }

    fn scored(&mut self, number: u64, scored: Scored, truth: Option<bool>) {
        // A pool gives its samples when all of it is there.
        if scored.background && !matches!(self.teaching.feedback, Some(Feedback::Pool { .. })) {
            let entry =
                Entry::Background { event: self.event_key(number), features: scored.prediction.features.clone() };
            self.trainer.fold(self.trainer.version(), Some(entry));
        }
        let surprises = scored.prediction.surprises();
        let features = scored.prediction.features;
        match (self.teaching.feedback, truth) {
            (Some(Feedback::Delayed { rate, .. }), Some(truth))
                if self.draw.chance(Purpose::ReplayLabel, number, rate) =>
            {
                let label = if truth { Label::Anomaly } else { Label::Normal };
                self.waiting.push_back(Waiting { row: number, event_id: scored.event_id, label, features, surprises });
            }
            (Some(Feedback::Windows { .. } | Feedback::Pool { .. }), truth) => {
                let id = scored.event_id;
                self.candidates.push(Candidate::new(number, id, features, surprises, truth, &self.hashing));
            }
            _ => {}
        }
    }

    fn event_key(&self, number: u64) -> EventKey {
        let offset = i64::try_from(number - 1).expect("a file has fewer rows than i64 counts");
        EventKey { topic: self.key.clone(), partition: 0, offset }
    }
}

fn write_score(out: &mut dyn Write, number: u64, scored: &Scored) -> std::io::Result<()> {
    let prediction = &scored.prediction;
    let (id, alarm) = (csv_cell(&scored.event_id), u8::from(scored.alarm));
    write!(
        out,
        "{number},{id},{},{:e},{alarm},{}",
        prediction.score(),
        prediction.p_value(),
        prediction.model_version
    )?;
    for score in &prediction.scores {
        write!(out, ",{score}")?;
    }
    writeln!(out)
}

fn csv_cell(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}
