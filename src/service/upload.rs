//! A file of labelled events on its way to the label log: rows, features, records, in the order of the file.

use super::tasks::Progress;
use super::topics::ensure_topics;
use crate::config::Config;
use crate::engine::{Blueprint, TrainingData};
use crate::event::{Decoder, NUMBER_MAX};
use crate::features::{ColumnKind, FeatureVector};
use crate::kafka::{Client, LogReader, Outbox, Produced, Sender, Ticket};
use crate::model::Label;
use crate::replay::{Input, Options, Row, Source};
use crate::telemetry;
use crate::wire::{self, Names};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3Default;

/// Records that one ticket stands for; twice as many may wait for Kafka's acknowledgement.
const SLICE_ROWS: u64 = 10_000;
const SLICE_BYTES: usize = 8 << 20;
/// Rows between two looks at whether somebody has cancelled.
const LOOK_ROWS: i64 = 256;
/// How long what was sent may still take to be acknowledged, once somebody has cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Refused lines that are named; the others are counted.
const REFUSED_LINES_MAX: usize = 1_000;
/// It stands in every record of the label log.
const KEY_BYTES_MAX: usize = 200;
/// What an event of a file is said to come from.
const TOPIC: &str = "upload";

/// The columns of a file that are no fields by their own name. Without one, the field of the configuration is its own column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    pub label: String,
    pub time: Option<String>,
    pub entity: Option<String>,
    pub id: Option<String>,
}

/// What an upload is known by: rows of the same key are learned once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadKey(String);

impl UploadKey {
    /// # Errors
    /// What a key must be.
    pub fn parse(text: &str) -> Result<Self, String> {
        if (1..=KEY_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("a key is a text of 1 to {KEY_BYTES_MAX} bytes, without control characters"))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of a file that was given none: a hash of its bytes as they came, and of what its columns are taken for.
#[derive(Default)]
pub struct ContentKey(Xxh3Default);

impl std::fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ContentKey").field(&self.0.digest128()).finish()
    }
}

impl ContentKey {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Another label column makes other labels of the same file.
    #[must_use]
    pub fn finish(mut self, columns: &Columns) -> UploadKey {
        self.0.update(format!("{columns:?}").as_bytes());
        UploadKey(format!("xxh3-{:032x}", self.0.digest128()))
    }
}

/// A file that can be read, with what its rows become.
#[derive(Debug)]
pub struct Upload {
    input: Input,
    decoder: Decoder,
    key: UploadKey,
}

/// A line that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefusedLine {
    /// From 1, where the row begins.
    pub line: u64,
    pub reason: String,
}

/// What became of an upload, so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Uploaded {
    pub key: String,
    pub rows: u64,
    /// Rows that the label log has.
    pub accepted: u64,
    /// Those of the accepted that it had before; a row may be sent again without harm before this is known.
    pub already: u64,
    /// Rows that the WHERE of the feature query leaves out.
    pub filtered: u64,
    pub refused: u64,
    /// The first 1,000 of the refused.
    pub refused_lines: Vec<RefusedLine>,
}

/// How work has ended that may be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Cancelled,
}

/// Where examples go.
pub(super) struct LabelLog<'a> {
    pub(super) client: &'a Client,
    pub(super) topic: &'a str,
    pub(super) names: &'a Names,
    pub(super) blueprint: &'a Arc<Blueprint>,
}

impl Upload {
    /// # Errors
    /// When the file is empty or lacks a column that was named.
    pub fn open(
        source: &Source,
        columns: &Columns,
        key: UploadKey,
        config: &Config,
        blueprint: &Blueprint,
    ) -> anyhow::Result<Self> {
        let options = Options {
            label: Some(columns.label.clone()),
            time: columns.time.clone(),
            entity: columns.entity.clone(),
            id: columns.id.clone(),
        };
        let mut spec = config.event.clone();
        let inputs = blueprint.plan.inputs();
        // An example has no id: without one it is none the worse, unless the query reads it.
        spec.id = spec.id.filter(|id| inputs.contains(id));
        let mut input = source.rows_within(&options, spec.bytes_max)?;
        for (column, field) in [(&columns.time, &spec.time), (&columns.entity, &spec.entity), (&columns.id, &spec.id)] {
            if let (Some(column), Some(field)) = (column, field)
                && column != field
            {
                input.rename(column, field);
            }
        }
        spec.time = spec.time.or_else(|| columns.time.clone());
        spec.entity = spec.entity.or_else(|| columns.entity.clone());
        let decoder = Decoder::new(&spec, inputs)?;
        Ok(Self { input, decoder, key })
    }

    #[must_use]
    pub fn key(&self) -> &UploadKey {
        &self.key
    }

    /// Sends every row to the label log, but those that it has already: rows up to `through`. `uploaded` says what was done also where this fails.
    ///
    /// # Errors
    /// When the file cannot be read on, or Kafka takes no more.
    pub(super) fn run(
        mut self,
        log: &LabelLog<'_>,
        through: Option<i64>,
        progress: &Progress,
        uploaded: &mut Uploaded,
    ) -> anyhow::Result<End> {
        uploaded.key = self.key.0.clone();
        // An outbox of its own: a record of an upload that Kafka does not take must not stop the service.
        let outbox = Outbox::open(log.client)?;
        let mut slices = Slices { sender: outbox.sender(), sent: Slice::default(), waiting: None, progress };
        let mut training = TrainingData::new(log.blueprint.clone());
        let bytes_total = self.input.bytes_total();
        let mut row = 0;
        progress.set(0, bytes_total);
        while let Some(line) = self.input.next_line()? {
            row += 1;
            uploaded.rows += 1;
            if row % LOOK_ROWS == 0 {
                progress.set(self.input.bytes_read(), bytes_total);
                if progress.cancelled() {
                    uploaded.accepted += slices.finish().unwrap_or_default();
                    return Ok(End::Cancelled);
                }
            }
            match example(&self.decoder, &mut training, row, line.row, log.names) {
                Ok(Some(_)) if through.is_some_and(|through| row <= through) => {
                    uploaded.accepted += 1;
                    uploaded.already += 1;
                }
                Ok(Some((label, features))) => {
                    let record = wire::example_to_label_log(log.names, &self.key.0, row, label, &features);
                    match slices.send(log.topic, &record) {
                        Ok(acknowledged) => uploaded.accepted += acknowledged,
                        Err(error) if Outbox::refuses_its_size(&error) => {
                            uploaded.refuse(line.number, "its features take more bytes than Kafka takes in one record");
                        }
                        Err(_) if progress.cancelled() => return Ok(End::Cancelled),
                        Err(error) => return Err(error),
                    }
                }
                Ok(None) => uploaded.filtered += 1,
                Err(reason) => uploaded.refuse(line.number, &reason),
            }
        }
        uploaded.accepted += slices.finish()?;
        progress.set(bytes_total, bytes_total);
        Ok(End::Finished)
    }
}

/// A row as what a model learns; `None` where WHERE leaves it out; or why it teaches nothing.
fn example(
    decoder: &Decoder,
    training: &mut TrainingData,
    number: i64,
    row: Result<Row, String>,
    names: &Names,
) -> Result<Option<(Label, FeatureVector)>, String> {
    let row = row?;
    let event = row.event(decoder, TOPIC, number - 1).map_err(|rejection| rejection.to_string())?;
    let label = match row.truth() {
        Some(true) => Label::Anomaly,
        Some(false) => Label::Normal,
        None => return Err("no truth: it is 0 or 1, false or true, normal or anomaly".into()),
    };
    let Some(features) = training.features(&event) else { return Ok(None) };
    // A missing value is NaN, and so is what has no value.
    if let Some(at) = features.numbers.iter().position(|x| x.abs() > NUMBER_MAX) {
        let mut numbers = names.columns.iter().filter(|column| column.kind == ColumnKind::Number);
        let name = numbers.nth(at).map_or("", |column| column.name.as_str());
        return Err(format!("feature `{name}` is {:e}; a magnitude of at most 1e30 is expected", features.numbers[at]));
    }
    Ok(Some((label, features)))
}

impl Uploaded {
    fn refuse(&mut self, line: u64, reason: &str) {
        self.refused += 1;
        if self.refused_lines.len() < REFUSED_LINES_MAX {
            self.refused_lines.push(RefusedLine { line, reason: reason.to_owned() });
        }
    }
}

/// Records sent that one ticket stands for.
#[derive(Default)]
struct Slice {
    rows: u64,
    bytes: usize,
}

/// Sends in slices: while one is acknowledged the next is sent, so that memory stays flat and neither waits for the other.
struct Slices<'a> {
    sender: Sender,
    sent: Slice,
    waiting: Option<(Ticket, u64)>,
    progress: &'a Progress,
}

impl Slices<'_> {
    /// Answers how many rows were acknowledged meanwhile.
    fn send(&mut self, topic: &str, payload: &[u8]) -> anyhow::Result<u64> {
        self.sender.send(Produced { topic, key: None, payload: Some(payload), timestamp_ms: -1, headers: None })?;
        self.sent.rows += 1;
        self.sent.bytes += payload.len();
        if self.sent.rows < SLICE_ROWS && self.sent.bytes < SLICE_BYTES {
            return Ok(0);
        }
        let acknowledged = self.wait()?;
        self.waiting = Some((self.sender.close(), std::mem::take(&mut self.sent).rows));
        Ok(acknowledged)
    }

    /// Answers how many rows were acknowledged of those that no earlier answer counted.
    fn finish(&mut self) -> anyhow::Result<u64> {
        let earlier = self.wait()?;
        self.waiting = Some((self.sender.close(), std::mem::take(&mut self.sent).rows));
        Ok(earlier + self.wait()?)
    }

    fn wait(&mut self) -> anyhow::Result<u64> {
        let Some((ticket, rows)) = self.waiting.take() else { return Ok(0) };
        let cancelled = OnceCell::new();
        ticket.wait(|| {
            // What is on its way is nearly there.
            self.progress.cancelled() && cancelled.get_or_init(telemetry::stopwatch).elapsed() > CANCEL_PATIENCE
        })?;
        Ok(rows)
    }
}

/// Does the work of an upload where no service runs: the next one to start learns from it before its first event.
///
/// # Errors
/// When a topic is not as it must be, the file cannot be read on, or Kafka takes no more.
pub fn train(
    config: &Config,
    blueprint: &Arc<Blueprint>,
    upload: Upload,
    progress: &Progress,
    uploaded: &mut Uploaded,
) -> anyhow::Result<()> {
    let client = Client::new(&config.kafka.brokers, &config.kafka.client);
    let names = Names::of(blueprint);
    ensure_topics(&client, config)?;
    let through = uploaded_through(&client, &config.kafka.label_log, &upload.key)?;
    let log = LabelLog { client: &client, topic: &config.kafka.label_log, names: &names, blueprint };
    upload.run(&log, through, progress, uploaded).map(|_| ())
}

/// The highest row of an upload that the log has.
fn uploaded_through(client: &Client, topic: &str, key: &UploadKey) -> anyhow::Result<Option<i64>> {
    let mut reader = LogReader::open(client, topic, &BTreeMap::new())?;
    let end = reader.ends()?.get(&0).copied().unwrap_or(0);
    let mut through = None;
    while reader.next().get(&0).copied().unwrap_or(0) < end {
        let Some(record) = reader.poll(LOOK_AGAIN)? else { continue };
        if let Some((upload, row)) = wire::example_in_label_log(record.payload.as_deref().unwrap_or_default())
            && upload == key.0
        {
            through = through.max(Some(row));
        }
    }
    Ok(through)
}
