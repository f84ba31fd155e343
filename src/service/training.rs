//! The trainer's thread: it folds the label log, from its first record at every start, and publishes the global models.

use super::shared::{Shared, lock};
use crate::kafka::LogReader;
use crate::learn::{Entry, Globals, Trainer};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const IDLE: Duration = Duration::from_millis(50);
/// Published at least this often while a long log is folded.
const PUBLISH_ENTRIES: u64 = 1_000;

/// Folds the log up to where it ends now, and keeps the versions that partitions have adopted.
///
/// # Errors
/// When the log cannot be read to its end.
pub(super) fn fold_to_end(
    trainer: &mut Trainer,
    reader: &mut LogReader,
    log: &mut wire::LabelLogReader,
    wanted: &BTreeMap<i32, Vec<i64>>,
) -> anyhow::Result<BTreeMap<i32, Vec<Arc<Globals>>>> {
    let mut missing: BTreeSet<i64> = wanted.values().flatten().copied().collect();
    let mut kept = BTreeMap::new();
    let end = reader.ends()?.get(&0).copied().unwrap_or(0);
    let mut reported = 0;
    loop {
        if missing.remove(&trainer.version()) {
            kept.insert(trainer.version(), Arc::new(trainer.globals()));
        }
        if reader.next().get(&0).copied().unwrap_or(0) >= end {
            break;
        }
        if let Some(record) = reader.poll(IDLE)? {
            fold(trainer, log, &record);
            if record.offset >= reported + 100_000 {
                reported = record.offset;
                tracing::info!(offset = record.offset, end, "folding the label log");
            }
        }
    }
    let of = |versions: &Vec<i64>| versions.iter().filter_map(|version| kept.get(version).cloned()).collect();
    Ok(wanted.iter().map(|(&partition, versions)| (partition, of(versions))).collect())
}

/// True where it was an example.
fn fold(trainer: &mut Trainer, log: &mut wire::LabelLogReader, record: &crate::kafka::LogRecord) -> bool {
    let entry = match log.read(record.payload.as_deref().unwrap_or_default()) {
        Ok(entry) => entry,
        Err(reason) => {
            tracing::warn!(offset = record.offset, reason, "a record of the label log teaches nothing");
            None
        }
    };
    let is_example = matches!(entry, Some(Entry::Example { .. }));
    trainer.fold(record.offset, entry);
    is_example
}

pub(super) fn run(
    shared: &Shared,
    mut trainer: Trainer,
    mut log: wire::LabelLogReader,
    mut reader: LogReader,
) -> anyhow::Result<()> {
    lock(&shared.status).trained = true;
    let (mut unpublished, mut uploads_grew) = (0, false);
    while !shared.stopping() {
        let record = reader.poll(IDLE)?;
        if let Some(record) = &record {
            uploads_grew |= fold(&mut trainer, &mut log, record);
            unpublished += 1;
        }
        if unpublished > 0 && (record.is_none() || unpublished >= PUBLISH_ENTRIES) {
            unpublished = 0;
            let globals = trainer.globals();
            shared.metrics.trained(&globals);
            if std::mem::take(&mut uploads_grew) {
                *lock(&shared.uploads) = trainer.uploads().collect();
            }
            shared.globals.store(Arc::new(globals));
        }
    }
    Ok(())
}
