//! The loop of one worker: it owns some partitions, drives their engines, and sends, commits and adopts for them.

use super::committer::Request;
use super::shared::{Described, DescribedDetector, Predicted, Query, Shared, lock};
use crate::draw::{Draw, Purpose};
use crate::engine::{Outcome, Partition, Scored};
use crate::event::{Record, Rejection};
use crate::kafka::{Batch, Produced, RecordMeta, Sender as OutboxSender, SourceEvent};
use crate::learn::Globals;
use crate::model::Model;
use crate::store::{PartitionCommit, Recovered, ScoredRow, Snapshot};
use crate::telemetry::Tally;
use crate::wire::{self, PredictionJson, SubjectJson, WarmupJson};
use anyhow::{Context, anyhow, bail};
use crossbeam_channel::{Receiver, Sender, bounded, select, tick};
use rdkafka::message::Header;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What a worker is asked to do.
#[derive(Debug)]
pub enum Message {
    Source(SourceEvent),
    Predict {
        queries: Arc<Vec<Query>>,
        answer: Sender<Vec<Predicted>>,
    },
    Describe {
        answer: Sender<Vec<Described>>,
    },
    /// Commit everything with a last snapshot, then end.
    Finish,
}

impl From<SourceEvent> for Message {
    fn from(event: SourceEvent) -> Self {
        Self::Source(event)
    }
}

/// One partition in the hands of its worker.
struct Owned {
    engine: Partition,
    keep: Draw,
    /// What the store holds, or will once the commits on their way are done.
    committed: i64,
    /// Records below were scored before: the engine runs them silently.
    scored_through: i64,
    /// Adoptions still to be repeated by the silent run, oldest first.
    adoptions: VecDeque<(i64, Arc<Globals>)>,
    rows: Vec<ScoredRow>,
    tally: Tally,
}

pub(super) struct Worker<'a> {
    shared: &'a Shared,
    outbox: OutboxSender,
    commits: Sender<Request>,
    /// The commit on its way; there is at most one.
    pending: Option<Receiver<()>>,
    owned: BTreeMap<i32, Owned>,
    /// Rows waiting for the next commit, over all partitions.
    rows: usize,
    payload: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared, commits: Sender<Request>) -> Self {
        Self {
            shared,
            outbox: shared.outbox.sender(),
            commits,
            pending: None,
            owned: BTreeMap::new(),
            rows: 0,
            payload: Vec::new(),
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Message>) -> anyhow::Result<()> {
        let limits = &self.shared.config.limits;
        let commit = tick(Duration::from_millis(limits.commit_ms));
        let snapshot = tick(Duration::from_millis(limits.snapshot_ms));
        let rows_max = limits.commit_rows;
        loop {
            select! {
                recv(inbox) -> message => match message {
                    Ok(Message::Source(SourceEvent::Records(batch))) => {
                        self.take(&batch)?;
                        if self.rows >= rows_max {
                            self.commit(false)?;
                        }
                    }
                    Ok(Message::Source(SourceEvent::Assigned { partition, partitions, offset })) => {
                        self.assigned(partition, partitions, offset)?;
                    }
                    Ok(Message::Source(SourceEvent::Revoked { partition })) => self.revoked(partition)?,
                    Ok(Message::Predict { queries, answer }) => {
                        drop(answer.send(self.predict(&queries))); // the asker may have given up
                    }
                    Ok(Message::Describe { answer }) => {
                        drop(answer.send(self.owned.values().map(describe).collect()));
                    }
                    Ok(Message::Finish) | Err(_) => {
                        self.commit(true)?;
                        return self.settle();
                    }
                },
                recv(commit) -> _ => self.commit(false)?,
                recv(snapshot) -> _ => self.commit(true)?,
            }
        }
    }

    fn assigned(&mut self, partition: i32, partitions: u32, offset: i64) -> anyhow::Result<()> {
        let shared = self.shared;
        let plan_hash = shared.blueprint.state_hash();
        let recovered = shared.store.read(|reader| reader.load(&shared.topic, partition, plan_hash))?;
        let keep = Draw::for_partition(shared.config.seed, &shared.topic, partition);
        let blueprint = shared.blueprint.clone();
        let owned = match recovered {
            Some(Recovered { snapshot_offset: Some(snapshot_offset), scored_through, parts, entities, adoptions }) => {
                let state = parts.into_iter().next().map(|(_, bytes)| bytes).unwrap_or_default();
                let mut adoptions = adoptions
                    .into_iter()
                    .map(|(from, version)| Ok((from, shared.version(partition, version)?)))
                    .collect::<anyhow::Result<VecDeque<_>>>()?;
                let first = adoptions
                    .front()
                    .with_context(|| format!("partition {partition} has a snapshot but no adoption"))?;
                let globals = first.1.clone();
                // An adoption below the snapshot's offset is part of its state; one at the offset comes right after it.
                if first.0 < snapshot_offset {
                    adoptions.pop_front();
                }
                let engine =
                    Partition::restore(blueprint, &shared.topic, partition, partitions, globals, &state, entities)?;
                tracing::info!(partition, snapshot_offset, scored_through, "partition state restored");
                Owned {
                    engine,
                    keep,
                    committed: scored_through,
                    scored_through,
                    adoptions,
                    rows: Vec::new(),
                    tally: Tally::default(),
                }
            }
            other => {
                let known = other.map(|recovered| recovered.scored_through);
                let offset = known.map_or(offset, |through| through.max(offset));
                if known.is_some() {
                    tracing::warn!(
                        partition,
                        offset,
                        "the feature query, the models or the shape of the state have changed: windows and detectors warm up anew"
                    );
                }
                let globals = shared.globals.load_full();
                let engine = Partition::new(blueprint, &shared.topic, partition, partitions, offset, globals.clone());
                let mut owned = Owned {
                    engine,
                    keep,
                    committed: offset,
                    scored_through: offset,
                    adoptions: VecDeque::new(),
                    rows: Vec::new(),
                    tally: Tally::default(),
                };
                // The start itself is committed, or a crash before the first snapshot would start from elsewhere.
                let part = PartitionCommit {
                    topic: shared.topic.clone(),
                    partition,
                    expected_offset: known,
                    next_offset: offset,
                    rows: Vec::new(),
                    adoption: Some(globals.version),
                    snapshot: Some(snapshot(&mut owned.engine)),
                };
                lock(&shared.adopted).insert(partition, vec![globals]);
                self.send(vec![part])?;
                self.settle()?;
                owned
            }
        };
        self.owned.insert(partition, owned);
        let mut status = lock(&shared.status);
        status.partitions.insert(partition, offset);
        status.assigned_once = true;
        Ok(())
    }

    fn revoked(&mut self, partition: i32) -> anyhow::Result<()> {
        self.commit(true)?;
        self.settle()?;
        self.owned.remove(&partition);
        lock(&self.shared.status).partitions.remove(&partition);
        Ok(())
    }

    fn take(&mut self, batch: &Batch) -> anyhow::Result<()> {
        for meta in &batch.records {
            // Not ours (any more): it will be read again by whoever gets the partition, from what we committed.
            let Some(owned) = self.owned.get_mut(&meta.partition) else { continue };
            if meta.offset < owned.engine.offset() {
                continue;
            }
            while owned.adoptions.front().is_some_and(|(from, _)| *from <= meta.offset) {
                if let Some((_, globals)) = owned.adoptions.pop_front() {
                    owned.engine.adopt(globals);
                }
            }
            let record = Record {
                offset: meta.offset,
                timestamp_ms: meta.timestamp_ms,
                key: batch.key(meta),
                payload: batch.payload(meta),
            };
            let outcome = owned.engine.handle(&record);
            if meta.offset < owned.scored_through {
                continue;
            }
            match outcome {
                Outcome::Scored(scored) => {
                    owned.tally.scored(&scored);
                    let row = send_scored(self.shared, &self.outbox, &mut self.payload, meta, *scored)?;
                    if row.alarm
                        || owned.keep.chance(Purpose::Keep, meta.offset.unsigned_abs(), self.shared.config.store.keep)
                    {
                        owned.rows.push(row);
                        self.rows += 1;
                    }
                }
                Outcome::Filtered => owned.tally.filtered += 1,
                Outcome::Rejected(rejection) => {
                    owned.tally.rejected(&rejection);
                    send_dead_letter(self.shared, &self.outbox, meta, &record, &rejection)?;
                }
            }
        }
        Ok(())
    }

    /// Sends what has been reached to the committer. Adopts newer models where there are some: then it waits until that is
    /// stored, for what follows is scored with them, and recovery must know.
    fn commit(&mut self, with_snapshot: bool) -> anyhow::Result<()> {
        self.settle()?;
        let shared = self.shared;
        let newest = shared.globals.load_full();
        let mut parts = Vec::new();
        let mut adopting = Vec::new();
        for (&partition, owned) in &mut self.owned {
            shared.metrics.tally(partition, &mut owned.tally, &owned.engine);
            // While the silent run catches up, there is nothing new to say.
            if owned.engine.offset() < owned.scored_through || !owned.adoptions.is_empty() {
                continue;
            }
            let has = owned.engine.globals();
            let adopt = newest.labels_folded != has.labels_folded || (with_snapshot && newest.version != has.version);
            let next_offset = owned.engine.offset();
            if next_offset == owned.committed && !adopt && !with_snapshot {
                continue;
            }
            let snapshot = with_snapshot.then(|| snapshot(&mut owned.engine));
            parts.push(PartitionCommit {
                topic: shared.topic.clone(),
                partition,
                expected_offset: Some(owned.committed),
                next_offset,
                rows: std::mem::take(&mut owned.rows),
                adoption: adopt.then_some(newest.version),
                snapshot,
            });
            owned.committed = next_offset;
            if adopt {
                adopting.push(partition);
            }
            lock(&shared.status).partitions.insert(partition, next_offset);
        }
        self.rows = 0;
        if parts.is_empty() {
            return Ok(());
        }
        self.send(parts)?;
        if with_snapshot || !adopting.is_empty() {
            self.settle()?;
            let mut adopted = lock(&shared.adopted);
            for (partition, owned) in &mut self.owned {
                let versions = adopted.entry(*partition).or_default();
                if adopting.contains(partition) {
                    owned.engine.adopt(newest.clone());
                    versions.push(newest.clone());
                }
                if with_snapshot && versions.len() > 1 && owned.adoptions.is_empty() {
                    versions.drain(..versions.len() - 1);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, parts: Vec<PartitionCommit>) -> anyhow::Result<()> {
        let (done, pending) = bounded(1);
        let request = Request { parts, labels: Default::default(), ticket: Some(self.outbox.close()), done };
        self.commits.send(request).map_err(|_| anyhow!("the committer has stopped"))?;
        self.pending = Some(pending);
        Ok(())
    }

    /// Waits for the commit on its way.
    fn settle(&mut self) -> anyhow::Result<()> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let deadline = self.shared.deadline();
        select! {
            recv(pending) -> done => done.map_err(|_| anyhow!("the committer has stopped")),
            recv(deadline) -> _ => bail!("the last commit did not end in time; the next start repeats it"),
        }
    }

    fn predict(&self, queries: &[Query]) -> Vec<Predicted> {
        let Some((&lowest, _)) = self.owned.first_key_value() else { return Vec::new() };
        queries.iter().map(|query| self.predict_one(query, lowest)).collect()
    }

    fn predict_one(&self, query: &Query, lowest: i32) -> Predicted {
        let shared = self.shared;
        let refused = |rejection| Predicted { partition: lowest, last_seen: None, prediction: Err(rejection) };
        match query {
            Query::Features(features) => {
                let prediction = self.owned[&lowest].engine.predict_features(features.clone());
                Predicted { partition: lowest, last_seen: None, prediction: Ok(Some(prediction)) }
            }
            Query::Event(payload) => {
                let timestamp_ms = crate::telemetry::now_ms();
                let record = Record { offset: 0, timestamp_ms, key: None, payload: Some(payload) };
                let event = match shared.blueprint.decoder.decode(&shared.topic, lowest, &record) {
                    Ok(event) => event,
                    Err(rejection) => return refused(rejection),
                };
                let seen = |(&partition, owned): (&i32, &Owned)| {
                    owned.engine.last_seen(&event.entity).map(|seen| (seen, partition))
                };
                let last = self.owned.iter().filter_map(seen).max();
                let partition = last.map_or(lowest, |(_, partition)| partition);
                let prediction = self.owned[&partition].engine.predict(&event);
                Predicted { partition, last_seen: last.map(|(seen, _)| seen), prediction: Ok(prediction) }
            }
        }
    }
}

fn describe(owned: &Owned) -> Described {
    let engine = &owned.engine;
    let detector = |model: &Model| DescribedDetector { progress: model.progress(), parameters: model.parameters() };
    Described {
        partition: engine.partition(),
        offset: engine.offset(),
        model_version: engine.globals().version,
        learners_voting: engine.globals().models.iter().map(Model::votes).collect(),
        detectors: engine.detectors().iter().map(detector).collect(),
    }
}

fn snapshot(engine: &mut Partition) -> Snapshot {
    let snapshot = engine.snapshot();
    Snapshot {
        offset: snapshot.offset,
        plan_hash: snapshot.plan_hash,
        parts: vec![("engine".into(), snapshot.state)],
        entities: snapshot.entities,
    }
}

/// Sends the prediction, and the background sample where the event is one. Gives back the row to store.
fn send_scored(
    shared: &Shared,
    outbox: &OutboxSender,
    payload: &mut Vec<u8>,
    meta: &RecordMeta,
    scored: Scored,
) -> anyhow::Result<ScoredRow> {
    let prediction = scored.prediction;
    let columns = &shared.names.columns;
    let contributions: Option<Vec<(&str, f64)>> = prediction
        .contributions
        .as_ref()
        .map(|list| list.iter().map(|&(column, value)| (columns[column].name.as_str(), value)).collect());
    let json = PredictionJson {
        subject: Some(SubjectJson {
            event_id: &scored.event_id,
            topic: &shared.topic,
            partition: meta.partition,
            offset: Some(meta.offset),
            time: wire::rfc3339(scored.time_ms),
            entity: &scored.entity,
        }),
        score: prediction.score(),
        p_value: prediction.p_value(),
        alarm: Some(scored.alarm),
        warmup: prediction.warmup.map(|w| WarmupJson { seen: w.seen, needed: w.needed }),
        model_version: prediction.model_version,
        scores: (&shared.names, &prediction.scores),
        features: (&shared.names, &prediction.features),
        contributions,
        label: None,
    };
    payload.clear();
    serde_json::to_writer(&mut *payload, &json)?;
    outbox.send(Produced {
        topic: &shared.config.kafka.predictions,
        key: Some(scored.entity.as_bytes()),
        payload: Some(payload),
        timestamp_ms: meta.timestamp_ms,
        headers: meta.headers.clone(),
    })?;
    if scored.background {
        let sample = wire::background_to_label_log(
            &shared.names,
            &shared.topic,
            meta.partition,
            meta.offset,
            &prediction.features,
        );
        outbox.send(Produced {
            topic: &shared.config.kafka.label_log,
            key: None,
            payload: Some(&sample),
            timestamp_ms: meta.timestamp_ms,
            headers: None,
        })?;
    }
    let (score, p_value) = (json.score, json.p_value);
    let contributions =
        json.contributions.map(|list| list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    Ok(ScoredRow {
        event_id: scored.event_id,
        topic: shared.topic.clone(),
        partition: meta.partition,
        offset: meta.offset,
        time_ms: scored.time_ms,
        entity: scored.entity,
        score,
        p_value,
        alarm: scored.alarm,
        warmup: prediction.warmup.map(|w| (w.seen, w.needed)),
        model_version: prediction.model_version,
        scores: prediction.scores.into_iter().map(Some).collect(),
        features: prediction.features,
        contributions,
    })
}

/// The record as it came, with the reason in the headers that Kafka Connect established for this.
fn send_dead_letter(
    shared: &Shared,
    outbox: &OutboxSender,
    meta: &RecordMeta,
    record: &Record<'_>,
    rejection: &Rejection,
) -> anyhow::Result<()> {
    let (partition, offset) = (meta.partition.to_string(), meta.offset.to_string());
    let mut headers = meta.headers.clone().unwrap_or_default();
    for (key, value) in [
        ("__connect.errors.topic", &*shared.topic),
        ("__connect.errors.partition", partition.as_str()),
        ("__connect.errors.offset", offset.as_str()),
        ("__connect.errors.stage", "VALUE_CONVERTER"),
        ("__connect.errors.exception.class.name", rejection.reason.as_str()),
        ("__connect.errors.exception.message", rejection.detail.as_str()),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    outbox.send(Produced {
        topic: &shared.config.kafka.dead_letters,
        key: record.key,
        payload: record.payload,
        timestamp_ms: meta.timestamp_ms,
        headers: Some(headers),
    })
}
