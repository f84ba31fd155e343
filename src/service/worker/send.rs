//! What a worker sends to Kafka for one record (its prediction with the background sample, or the dead letter), and the row it stores.

use crate::engine::Scored;
use crate::event::{Record, Rejection};
use crate::kafka::{Produced, RecordMeta, Sender as OutboxSender};
use crate::service::shared::Shared;
use crate::store::ScoredRow;
use crate::wire::{self, PredictionWriter};
use rdkafka::message::Header;

/// Sends the prediction, and the background sample where the event is one.
pub(super) fn scored(
    shared: &Shared,
    outbox: &OutboxSender,
    writer: &PredictionWriter,
    payload: &mut Vec<u8>,
    meta: &RecordMeta,
    scored: &Scored,
) -> anyhow::Result<()> {
    payload.clear();
    writer.write(payload, meta.partition, scored);
    outbox.send(Produced {
        topic: &shared.config.kafka.predictions,
        key: Some(scored.entity.as_bytes()),
        payload: Some(payload),
        timestamp_ms: meta.timestamp_ms,
        headers: meta.headers.clone(),
    })?;
    if scored.background {
        let features = &scored.prediction.features;
        let sample = wire::background_to_label_log(&shared.names, &shared.topic, meta.partition, meta.offset, features);
        outbox.send(Produced {
            topic: &shared.config.kafka.label_log,
            key: None,
            payload: Some(&sample),
            timestamp_ms: meta.timestamp_ms,
            headers: None,
        })?;
    }
    Ok(())
}

/// The row to store.
pub(super) fn row(shared: &Shared, meta: &RecordMeta, scored: Scored) -> ScoredRow {
    let prediction = scored.prediction;
    let (score, p_value) = (prediction.score(), prediction.p_value());
    let named = |(column, value): (usize, f64)| (shared.names.columns[column].name.clone(), value);
    ScoredRow {
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
        contributions: prediction.contributions.map(|list| list.into_iter().map(named).collect()),
    }
}

/// The record as it came, with the reason in the headers that Kafka Connect established for this.
pub(super) fn dead_letter(
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
