//! The trainer's thread: it folds the label log, from its first record at every start, publishes the global models, and answers what only it knows.

use super::refit::Retrain;
use super::schedule::Schedule;
use super::shared::{Shared, lock};
use super::tasks::Work;
use crate::config::RefitWhen;
use crate::kafka::{LogReader, LogRecord};
use crate::learn::{Entry, Examples, Globals, Trainer, Version};
use crate::telemetry;
use crate::wire;
use crossbeam_channel::Sender;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const IDLE: Duration = Duration::from_millis(50);
/// Published at least this often while a long log is folded.
const PUBLISH_ENTRIES: u64 = 1_000;
/// Promotions whose time is remembered; the newest, so that those of the few versions that a model keeps are among them.
const PROMOTIONS_MAX: usize = 1_000;

/// What is asked of the trainer. It answers between two records, also while it folds a long log.
#[derive(Debug)]
pub(super) enum Ask {
    Examples { answer: Sender<Examples> },
    Versions { answer: Sender<Vec<Vec<ModelVersion>>> },
}

/// One version of a model that learns from labels, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelVersion {
    /// The label-log offset of its promotion; 0 for the one that was never refitted.
    pub version: i64,
    /// Whether it scores.
    pub active: bool,
    /// Labels that came since it is there.
    pub labels: u64,
    /// Its mean log loss on them, before it learned each; `None` without one.
    pub log_loss: Option<f64>,
    pub promoted_ms: Option<i64>,
}

/// The trainer with what it reads, and what it notes of the records beside the models.
pub(super) struct Folding {
    trainer: Trainer,
    entries: wire::LabelLogReader,
    /// When a promotion was written, by its offset.
    promoted_ms: BTreeMap<i64, i64>,
    schedule: Schedule,
}

/// What a record of the log was, as far as it matters beside the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folded {
    Example,
    Promotion,
    Other,
}

impl Folding {
    pub(super) fn new(trainer: Trainer, entries: wire::LabelLogReader, refit: RefitWhen) -> Self {
        Self { trainer, entries, promoted_ms: BTreeMap::new(), schedule: Schedule::new(refit) }
    }

    pub(super) fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Folds the log up to where it ends now, and keeps the versions that partitions have adopted.
    ///
    /// # Errors
    /// When the log cannot be read to its end.
    pub(super) fn fold_to_end(
        &mut self,
        reader: &mut LogReader,
        wanted: &BTreeMap<i32, Vec<i64>>,
    ) -> anyhow::Result<BTreeMap<i32, Vec<Arc<Globals>>>> {
        let mut missing: BTreeSet<i64> = wanted.values().flatten().copied().collect();
        let mut kept = BTreeMap::new();
        let end = reader.ends()?.get(&0).copied().unwrap_or(0);
        let mut reported = 0;
        loop {
            let version = self.trainer.version();
            if missing.remove(&version) {
                kept.insert(version, Arc::new(self.trainer.globals()));
            }
            if reader.next().get(&0).copied().unwrap_or(0) >= end {
                break;
            }
            if let Some(record) = reader.poll(IDLE)? {
                self.fold(&record);
                if record.offset >= reported + 100_000 {
                    reported = record.offset;
                    tracing::info!(offset = record.offset, end, "folding the label log");
                }
            }
        }
        let of = |versions: &Vec<i64>| versions.iter().filter_map(|version| kept.get(version).cloned()).collect();
        Ok(wanted.iter().map(|(&partition, versions)| (partition, of(versions))).collect())
    }

    fn fold(&mut self, record: &LogRecord) -> Folded {
        let entry = match self.entries.read(record.payload.as_deref().unwrap_or_default()) {
            Ok(entry) => entry,
            Err(reason) => {
                tracing::warn!(offset = record.offset, reason, "a record of the label log teaches nothing");
                None
            }
        };
        let folded = match entry {
            Some(Entry::Example { .. }) => Folded::Example,
            Some(Entry::Promotion { .. }) => Folded::Promotion,
            _ => Folded::Other,
        };
        if folded == Folded::Promotion {
            self.promoted_ms.insert(record.offset, record.timestamp_ms);
            if self.promoted_ms.len() > PROMOTIONS_MAX {
                self.promoted_ms.pop_first();
            }
        }
        let before = self.trainer.labels_folded();
        self.trainer.fold(record.offset, entry);
        // A record may carry the time that a person gave.
        let at_ms = record.timestamp_ms.min(telemetry::now_ms());
        match folded {
            Folded::Promotion => self.schedule.refitted(at_ms),
            _ => self.schedule.learned(self.trainer.labels_folded() - before, at_ms),
        }
        folded
    }

    /// The versions of each model that learns from labels, the oldest first.
    fn versions(&self) -> Vec<Vec<ModelVersion>> {
        let of = |(active, versions): (i64, Vec<Version>)| {
            let version = |known: &Version| ModelVersion {
                version: known.version,
                active: known.version == active,
                labels: known.labels,
                log_loss: (known.labels > 0).then(|| known.log_loss / known.labels as f64),
                promoted_ms: self.promoted_ms.get(&known.version).copied(),
            };
            versions.iter().map(version).collect()
        };
        self.trainer.versions().into_iter().map(of).collect()
    }

    fn answer(&self, ask: Ask) {
        // Who has stopped waiting needs no answer.
        match ask {
            Ask::Examples { answer } => drop(answer.try_send(self.trainer.examples())),
            Ask::Versions { answer } => drop(answer.try_send(self.versions())),
        }
    }

    pub(super) fn run(mut self, shared: &Shared, mut reader: LogReader) -> anyhow::Result<()> {
        lock(&shared.status).trained = true;
        let (mut unpublished, mut uploads_grew, mut refits) = (0, false, VecDeque::new());
        while !shared.stopping() {
            let record = reader.poll(IDLE)?;
            if let Some(record) = &record {
                match self.fold(record) {
                    Folded::Example => uploads_grew = true,
                    Folded::Promotion => shared.metrics.promoted(),
                    Folded::Other => {}
                }
                unpublished += 1;
            }
            if unpublished > 0 && (record.is_none() || unpublished >= PUBLISH_ENTRIES) {
                unpublished = 0;
                let globals = self.trainer.globals();
                shared.metrics.trained(&globals);
                if std::mem::take(&mut uploads_grew) {
                    *lock(&shared.uploads) = self.trainer.uploads().collect();
                }
                shared.globals.store(Arc::new(globals));
            }
            shared.asked().try_iter().for_each(|ask| self.answer(ask));
            self.refit_when_due(shared, &mut refits);
        }
        Ok(())
    }

    /// Adds a task for each model that learns from labels, once that is due; `refits` are those that found the queue full, and try again.
    fn refit_when_due(&mut self, shared: &Shared, refits: &mut VecDeque<usize>) {
        let now_ms = telemetry::now_ms();
        if self.schedule.is_due(now_ms) && refits.is_empty() && !shared.tasks.has_refit() {
            self.schedule.refitted(now_ms);
            refits.extend(0..shared.blueprint.models.len());
            tracing::info!(offset = self.trainer.version(), "refits are due");
        }
        while let Some(&model) = refits.front() {
            let retrain = Retrain::new(&shared.blueprint, model, false);
            if retrain.is_some_and(|retrain| shared.tasks.add(Work::Retrain(retrain)).is_err()) {
                break;
            }
            refits.pop_front();
        }
    }
}
