//! `larum replay`: the same engine over a file, with labels given back after a delay. No Kafka, no store.

mod input;
mod inferred;
mod lines;
mod report;

pub use inferred::Inferred;
pub use input::{Input, InputError, Line, Options, Row, Source};
pub use report::{BudgetReport, ModelReport, Report};

use crate::draw::{Draw, Purpose};
use crate::engine::{Blueprint, Outcome, Partition, Scored};
use crate::features::FeatureVector;
use crate::learn::{Entry, EventKey, LabelEntry, LabelSource, Trainer, TrainerLimits};
use crate::model::Label;
use anyhow::Context;
use report::Reporter;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

/// The name that a replayed file has in place of a topic.
const TOPIC: &str = "replay";
/// Background samples alone are adopted this often; labels are adopted at once.
const BACKGROUND_ROWS: u64 = 1_000;

/// Which labels come back, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feedback {
    /// The label of row i is given after row i + `delay_rows` has been scored.
    pub delay_rows: u64,
    /// The seeded share of labels that come back at all.
    pub rate: f64,
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
    feedback: Option<Feedback>,
    draw: Draw,
    key: Arc<str>,
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
    feedback: Option<Feedback>,
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
        feedback,
        draw: Draw::new(blueprint.seed),
        key: TOPIC.into(),
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
        replay.give_labels(number);
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
    let report =
        reporter.finish(number, replay.labels_used, replay.engine.counters.late, watch.elapsed().as_secs_f64());
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
    fn give_labels(&mut self, number: u64) {
        let Some(feedback) = self.feedback else { return };
        while self.waiting.front().is_some_and(|waiting| waiting.row + feedback.delay_rows < number) {
            let Some(waiting) = self.waiting.pop_front() else { break };
            let offset = i64::try_from(waiting.row).expect("a file has fewer rows than i64 counts");
            let entry = LabelEntry {
                source: LabelSource { partition: 0, offset },
                event: self.event_key(waiting.row),
                event_id: waiting.event_id,
                label: waiting.label,
                features: waiting.features,
                surprises: waiting.surprises,
            };
            self.trainer.fold(self.trainer.version(), Some(Entry::Label(entry)));
            self.labels_used += 1;
        }
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
        if scored.background {
            let entry =
                Entry::Background { event: self.event_key(number), features: scored.prediction.features.clone() };
            self.trainer.fold(self.trainer.version(), Some(entry));
        }
        if let (Some(feedback), Some(truth)) = (self.feedback, truth)
            && self.draw.chance(Purpose::ReplayLabel, number, feedback.rate)
        {
            let label = if truth { Label::Anomaly } else { Label::Normal };
            let surprises = scored.prediction.surprises();
            let features = scored.prediction.features;
            self.waiting.push_back(Waiting { row: number, event_id: scored.event_id, label, features, surprises });
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
