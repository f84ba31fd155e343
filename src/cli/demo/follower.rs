//! Reads the predictions as anyone could, holds each score against the truth, and hands alarms to the reviewer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::traffic::Truth;
use super::{Counts, ended};
use crate::kafka::{Client, LogReader};
use crate::service::Shared;
use crate::telemetry;

/// The detector whose own score shows what would be without labels.
const DETECTOR: &str = "regression";
/// Scores kept from the beginning, and as many from the end: 100 MB for both. A longer demo compares these two.
const KEPT_MAX: usize = 1_000_000;
const POLL: Duration = Duration::from_millis(50);
/// After the service is through, so long without a record means that there is no more.
const SILENCE: Duration = Duration::from_millis(300);

/// One scored event, held against the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub(super) index: u64,
    pub(super) score: f64,
    /// The detector's own score: it never learns from a label.
    pub(super) detector: f64,
    pub(super) alarm: bool,
    pub(super) incident: Option<u64>,
}

/// All that was followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Rows scored while warming up: no figure counts them.
    pub(super) warmup: u64,
    pub(super) first: Vec<Row>,
    /// What came when `first` was full.
    pub(super) last: VecDeque<Row>,
    /// Incidents of which an event was scored, warm-up or not, and whether one of them was an alarm.
    pub(super) incidents: BTreeMap<u64, bool>,
    pub(super) alarms: u64,
    pub(super) alarms_true: u64,
}

/// An alarm on its way to the reviewer.
#[derive(Debug)]
pub(super) struct Alarm {
    pub(super) raised: Instant,
    pub(super) event_id: String,
    pub(super) request_id: u64,
    pub(super) anomaly: bool,
}

#[derive(Deserialize)]
struct Prediction<'a> {
    event_id: &'a str,
    score: f64,
    alarm: bool,
    #[serde(default)]
    warmup: Option<IgnoredAny>,
    #[serde(borrow)]
    scores: BTreeMap<&'a str, f64>,
}

pub(super) struct Follower {
    reader: LogReader,
    shared: Arc<Shared>,
    counts: Arc<Counts>,
    truth: Receiver<Truth>,
    alarms: Sender<Alarm>,
}

impl Follower {
    pub(super) fn open(
        client: &Client,
        shared: &Arc<Shared>,
        counts: Arc<Counts>,
        truth: Receiver<Truth>,
        alarms: Sender<Alarm>,
    ) -> anyhow::Result<Self> {
        let reader = LogReader::open(client, &shared.config.kafka.predictions, &BTreeMap::new())?;
        Ok(Self { reader, shared: shared.clone(), counts, truth, alarms })
    }

    /// Follows until `ends` is closed and every scored event has been seen.
    pub(super) fn run(mut self, ends: &Receiver<()>) -> anyhow::Result<Followed> {
        let mut followed = Followed::default();
        // Sent and not yet scored: as many as the traffic lets wait.
        let mut waiting: HashMap<u64, Truth> = HashMap::new();
        let mut last_heard = telemetry::stopwatch();
        loop {
            if let Some(record) = self.reader.poll(POLL)? {
                last_heard = telemetry::stopwatch();
                let payload = record.payload.as_deref().unwrap_or_default();
                let prediction: Prediction<'_> =
                    serde_json::from_slice(payload).context("a record of the predictions topic cannot be read")?;
                let request_id = u64::from_str_radix(prediction.event_id, 16)
                    .with_context(|| format!("{:?} is no id of this traffic", prediction.event_id))?;
                waiting.extend(self.truth.try_iter().map(|truth| (truth.request_id, truth)));
                // A record that comes twice (the service repeats after a failed commit) counts once.
                if let Some(truth) = waiting.remove(&request_id) {
                    self.take(&mut followed, &prediction, truth);
                }
            } else if ended(ends, Duration::ZERO)
                && (self.counts.followed.load(Relaxed) >= self.shared.metrics.scored()
                    || last_heard.elapsed() > SILENCE)
            {
                return Ok(followed);
            }
        }
    }

    fn take(&self, followed: &mut Followed, prediction: &Prediction<'_>, truth: Truth) {
        self.counts.followed.fetch_add(1, Relaxed);
        let anomaly = truth.incident.is_some();
        if let Some(incident) = truth.incident {
            *followed.incidents.entry(incident).or_default() |= prediction.alarm;
        }
        if prediction.alarm {
            followed.alarms += 1;
            followed.alarms_true += u64::from(anomaly);
            self.counts.alarms.fetch_add(1, Relaxed);
            self.counts.alarms_true.fetch_add(u64::from(anomaly), Relaxed);
            // The reviewer may have gone home.
            drop(self.alarms.send(Alarm {
                raised: telemetry::stopwatch(),
                event_id: prediction.event_id.to_owned(),
                request_id: truth.request_id,
                anomaly,
            }));
        }
        if prediction.warmup.is_some() {
            followed.warmup += 1;
            return;
        }
        let row = Row {
            index: truth.index,
            score: prediction.score,
            detector: prediction.scores.get(DETECTOR).copied().unwrap_or(0.0),
            alarm: prediction.alarm,
            incident: truth.incident,
        };
        if followed.first.len() < KEPT_MAX {
            followed.first.push(row);
        } else {
            followed.last.push_back(row);
            if followed.last.len() > KEPT_MAX {
                followed.last.pop_front();
            }
        }
    }
}
