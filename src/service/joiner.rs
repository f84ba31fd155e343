//! The joiner: verdicts from the labels topic meet their event in the store and go on to the label log.

use super::committer::Request;
use super::shared::Shared;
use crate::kafka::{LogReader, LogRecord, Produced, Sender as OutboxSender};
use crate::learn::{EventKey, LabelEntry, LabelSource};
use crate::store::{self, Consumed, Joined, LabelCommit};
use crate::wire::{self, LabelRecord};
use anyhow::anyhow;
use crossbeam_channel::{Sender, bounded};
use rdkafka::message::{Header, OwnedHeaders};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const BATCH_MAX: usize = 1_000;
const IDLE: Duration = Duration::from_millis(100);
/// Waiting labels are looked for this often while no new ones come: their events may have come.
const LOOK_AGAIN_POLLS: u32 = 5;

pub(super) struct Joiner<'a> {
    shared: &'a Shared,
    outbox: OutboxSender,
    commits: Sender<Request>,
    topic: Arc<str>,
    consumed: BTreeMap<i32, i64>,
}

impl<'a> Joiner<'a> {
    pub(super) fn new(shared: &'a Shared, commits: Sender<Request>) -> anyhow::Result<Self> {
        let topic: Arc<str> = shared.config.kafka.labels.as_str().into();
        let consumed = shared.store.read(|reader| reader.offsets(&topic))?;
        Ok(Self { shared, outbox: shared.outbox.sender(), commits, topic, consumed })
    }

    pub(super) fn run(mut self, mut reader: LogReader) -> anyhow::Result<()> {
        let mut idle = 0;
        while !self.shared.stopping() {
            let mut batch = Vec::new();
            while batch.len() < BATCH_MAX {
                match reader.poll(if batch.is_empty() { IDLE } else { Duration::ZERO })? {
                    Some(record) => batch.push(record),
                    None => break,
                }
            }
            if batch.is_empty() {
                idle += 1;
                if idle % LOOK_AGAIN_POLLS != 0 {
                    continue;
                }
            } else {
                self.note(batch)?;
            }
            while self.join()? == BATCH_MAX {}
        }
        Ok(())
    }

    /// New verdicts enter the store; those that cannot be read become dead letters.
    fn note(&mut self, batch: Vec<LogRecord>) -> anyhow::Result<()> {
        let mut labels = LabelCommit::default();
        let mut reached = BTreeMap::new();
        for record in batch {
            reached.insert(record.partition, record.offset + 1);
            let source =
                store::LabelSource { topic: self.topic.clone(), partition: record.partition, offset: record.offset };
            match read_verdict(&record, source) {
                Ok(verdict) => labels.verdicts.push(verdict),
                Err(reason) => self.refuse(&record, &reason)?,
            }
        }
        for (&partition, &next_offset) in &reached {
            labels.consumed.push(Consumed {
                topic: self.topic.clone(),
                partition,
                expected_offset: self.consumed.get(&partition).copied(),
                next_offset,
            });
        }
        self.shared.metrics.labels_received(labels.verdicts.len());
        self.commit(labels)?;
        self.consumed.append(&mut reached);
        Ok(())
    }

    /// Waiting verdicts whose event is in the store go to the label log. Sending one twice does no harm: the fold drops it.
    fn join(&mut self) -> anyhow::Result<usize> {
        let pairs = self.shared.store.read(|reader| reader.pending_with_event(BATCH_MAX))?;
        let mut labels = LabelCommit::default();
        for (label, row) in &pairs {
            let verdict = &label.verdict;
            let Some(is) = verdict.label else { continue };
            let entry = LabelEntry {
                source: LabelSource { partition: verdict.source.partition, offset: verdict.source.offset },
                event: EventKey { topic: row.row.topic.clone(), partition: row.row.partition, offset: row.row.offset },
                event_id: verdict.event_id.clone(),
                label: is,
                features: row.features_for(&self.shared.names.columns),
                surprises: row.surprises_for(&self.shared.names.models),
            };
            self.outbox.send(Produced {
                topic: &self.shared.config.kafka.label_log,
                key: None,
                payload: Some(&wire::label_to_label_log(&self.shared.names, &entry)),
                timestamp_ms: verdict.at_ms,
                headers: None,
            })?;
            labels.joined.push(Joined { event_id: verdict.event_id.clone(), source: verdict.source.clone() });
        }
        let joined = labels.joined.len();
        if joined > 0 {
            self.commit(labels)?;
            self.shared.metrics.labels_joined(joined);
        }
        Ok(pairs.len())
    }

    fn commit(&mut self, labels: LabelCommit) -> anyhow::Result<()> {
        let (done, pending) = bounded(1);
        let request = Request { parts: Vec::new(), labels, ticket: Some(self.outbox.close()), done };
        self.commits.send(request).map_err(|_| anyhow!("the committer has stopped"))?;
        self.shared.wait_stored(&pending)
    }

    fn refuse(&self, record: &LogRecord, reason: &str) -> anyhow::Result<()> {
        tracing::warn!(
            topic = &*self.topic,
            partition = record.partition,
            offset = record.offset,
            reason,
            "a label cannot be read"
        );
        self.shared.metrics.label_refused();
        let (partition, offset) = (record.partition.to_string(), record.offset.to_string());
        let mut headers = OwnedHeaders::new();
        for (key, value) in [
            ("__connect.errors.topic", &*self.topic),
            ("__connect.errors.partition", &partition),
            ("__connect.errors.offset", &offset),
            ("__connect.errors.stage", "VALUE_CONVERTER"),
            ("__connect.errors.exception.class.name", "broken_label"),
            ("__connect.errors.exception.message", reason),
        ] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        self.outbox.send(Produced {
            topic: &self.shared.config.kafka.dead_letters,
            key: record.key.as_deref(),
            payload: record.payload.as_deref(),
            timestamp_ms: record.timestamp_ms,
            headers: Some(headers),
        })
    }
}

fn read_verdict(record: &LogRecord, source: store::LabelSource) -> Result<store::Verdict, String> {
    let payload = record.payload.as_deref().ok_or("a label needs a body")?;
    let label: LabelRecord = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    let at_ms = match &label.at {
        None => record.timestamp_ms,
        Some(at) => at.parse::<jiff::Timestamp>().map_err(|e| format!("at: {e}"))?.as_millisecond(),
    };
    Ok(store::Verdict {
        event_id: label.event_id,
        label: Some(label.label.into()),
        who: label.who.unwrap_or_default(),
        at_ms,
        note: label.note,
        source,
    })
}
