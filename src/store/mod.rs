//! The operational store: its contract in plain Rust types. Only the files beside this one know that it is SQLite.
//!
//! One [`Writer`] on one thread commits; any number of [`Reader`]s answer from connections of their own. Scored rows live in
//! *segments*: tables that are appended to without random indexes, indexed at once when full, and dropped whole by retention.
//! The view `scored` puts them together for people.

use std::sync::Arc;

use crate::features::{Column, ColumnKind, FeatureVector};
use crate::model::Label;

mod columns;
mod error;
mod find;
mod ids;
mod labels;
mod models;
mod page;
mod reader;
mod retention;
mod rows;
mod schema;
mod segments;
mod sqlite;
mod state;
mod writer;

pub use columns::StoredColumns;
pub use error::StoreError;
pub use models::{ModelRow, QualityRow};
pub use page::{Filter, LabelFilter, Page};
pub use reader::{LabelCounts, Reader, Stats};
pub use retention::Maintained;
pub use sqlite::Store;
pub use writer::Writer;

/// What the rows to come look like.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    pub numbers: &'a [Column],
    pub categories: &'a [Column],
    /// The names of the models, in the order of [`ScoredRow::scores`].
    pub models: &'a [String],
}

/// The bounds of the store. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Scored rows kept; the oldest segment goes first.
    pub stored_rows_max: u64,
    /// Rows of a segment; `stored_rows_max` holds from 8 to 150 segments, whatever is asked for here.
    pub segment_rows: u64,
    /// How long ordinary rows stay, by event time.
    pub retention_ms: i64,
    /// How long alarms and labelled rows stay, and how long a label waits for its event.
    pub label_horizon_ms: i64,
    /// Labels whose event has not been seen; the oldest expires first.
    pub pending_labels_max: u64,
    /// Labels in the table; the oldest that no longer waits goes first.
    pub labels_max: u64,
    /// Rows of one page.
    pub page_rows_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 3600 * 1000;
        Self {
            stored_rows_max: 10_000_000,
            segment_rows: 250_000,
            retention_ms: 7 * DAY_MS,
            label_horizon_ms: 90 * DAY_MS,
            pending_labels_max: 100_000,
            labels_max: 1_000_000,
            page_rows_max: 1_000,
        }
    }
}

/// One scored event as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredRow {
    pub event_id: String,
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// Event time, milliseconds since the Unix epoch.
    pub time_ms: i64,
    pub entity: String,
    pub score: f64,
    pub p_value: f64,
    pub alarm: bool,
    /// (seen, needed) while the partition warms up.
    pub warmup: Option<(u64, u64)>,
    pub model_version: i64,
    /// By model, in the order of [`Layout::models`]; None where a model gave no score.
    pub scores: Vec<Option<f64>>,
    pub features: FeatureVector,
    /// What each feature added to the score. A contribution that is not finite comes back as NaN.
    pub contributions: Option<Vec<(String, f64)>>,
}

/// One transaction: all of it is stored, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub parts: Vec<PartitionCommit>,
    pub labels: LabelCommit,
    pub models: Vec<ModelRow>,
    pub quality: Vec<QualityRow>,
}

/// What one partition has reached.
#[derive(Debug, Clone)]
pub struct PartitionCommit {
    pub topic: Arc<str>,
    pub partition: i32,
    /// What the store must hold for this partition, None for nothing yet; otherwise the commit is refused.
    pub expected_offset: Option<i64>,
    /// Scored through: the offset after the last scored event.
    pub next_offset: i64,
    /// The rows to store; the caller has decided which ordinary ones are kept.
    pub rows: Vec<ScoredRow>,
    /// The model version (a label-log offset) that is valid from `next_offset` on, where it changes.
    pub adoption: Option<i64>,
    pub snapshot: Option<Snapshot>,
}

/// The partition state that changed since the last snapshot, as of `offset`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The next offset that the state has not seen; at most the commit's `next_offset`.
    pub offset: i64,
    pub plan_hash: u64,
    /// Named blobs, replaced whole: a name that is absent here is forgotten.
    pub parts: Vec<(String, Vec<u8>)>,
    /// (entity, last seen, state) of the entities that changed; None: evicted.
    pub entities: Vec<(String, i64, Option<Vec<u8>>)>,
}

/// What recovery starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// Where to seek, None where there is no snapshot under this plan: the partition warms up anew.
    pub snapshot_offset: Option<i64>,
    /// Run silently up to here, then go on scoring.
    pub scored_through: i64,
    pub parts: Vec<(String, Vec<u8>)>,
    /// (entity, last seen, state), the one seen longest ago first.
    pub entities: Vec<(String, i64, Vec<u8>)>,
    /// (from offset, label offset), from the one valid at the snapshot on.
    pub adoptions: Vec<(i64, i64)>,
}

/// The label part of a commit, written in this order.
#[derive(Debug, Clone, Default)]
pub struct LabelCommit {
    /// Verdicts read from the labels topic. A later one of the same event corrects an earlier one.
    pub verdicts: Vec<Verdict>,
    /// Verdicts that the label log has acknowledged.
    pub joined: Vec<Joined>,
    /// How far the labels topic has been consumed.
    pub consumed: Vec<Consumed>,
}

impl LabelCommit {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.verdicts.is_empty() && self.joined.is_empty() && self.consumed.is_empty()
    }

    /// Adds what comes after this part.
    pub fn append(&mut self, later: Self) {
        self.verdicts.extend(later.verdicts);
        self.joined.extend(later.joined);
        self.consumed.extend(later.consumed);
    }
}

/// Where in the labels topic a verdict stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSource {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
}

/// One verdict on one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub event_id: String,
    /// None revokes the earlier verdict.
    pub label: Option<Label>,
    pub who: String,
    pub at_ms: i64,
    pub note: Option<String>,
    pub source: LabelSource,
}

/// The verdict at `source` is in the label log. Changes nothing once the verdict has been corrected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub event_id: String,
    pub source: LabelSource,
}

/// One partition of the labels topic, fenced as [`PartitionCommit`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    pub topic: Arc<str>,
    pub partition: i32,
    pub expected_offset: Option<i64>,
    pub next_offset: i64,
}

/// Where a label is on its way to the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelState {
    /// Its event is unknown, or it is not yet in the label log.
    Pending,
    /// In the label log.
    Joined,
    /// Its event did not come within the label horizon.
    Expired,
}

/// The current verdict on one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRow {
    pub verdict: Verdict,
    pub state: LabelState,
}

/// A stored row, with the names of its values and its label.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPrediction {
    pub row: ScoredRow,
    /// The names that `row.scores` and `row.features` had when they were stored: an earlier query may have had others.
    pub columns: Arc<StoredColumns>,
    pub label: Option<LabelRow>,
}

impl StoredPrediction {
    /// The surprise (-log10 p) of each of these models when the event was scored; 0 where one did not speak.
    #[must_use]
    pub fn surprises_for(&self, models: &[String]) -> Vec<f64> {
        let score = |name: &String| {
            let at = self.columns.models.iter().position(|known| known == name)?;
            self.row.scores[at]
        };
        models.iter().map(|name| score(name).map_or(0.0, crate::decision::surprise)).collect()
    }

    /// The features under these columns: those that an earlier query did not have are missing.
    #[must_use]
    pub fn features_for(&self, columns: &[Column]) -> FeatureVector {
        let place = |names: &[String], name: &str| names.iter().position(|known| known == name);
        let (mut numbers, mut categories) = (Vec::new(), Vec::new());
        for column in columns {
            match column.kind {
                ColumnKind::Number => {
                    let at = place(&self.columns.numbers, &column.name);
                    numbers.push(at.map_or(f64::NAN, |at| self.row.features.numbers[at]));
                }
                ColumnKind::Category => {
                    let at = place(&self.columns.categories, &column.name);
                    categories.push(at.and_then(|at| self.row.features.categories[at].clone()));
                }
            }
        }
        FeatureVector { numbers: numbers.into(), categories: categories.into() }
    }
}

/// What a commit did beside storing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    pub rows: u64,
    /// Verdicts that changed a label; the others were older than what is stored.
    pub verdicts: u64,
    /// Pending labels that expired because `pending_labels_max` was reached.
    pub pending_evicted: u64,
    /// Labels deleted because `labels_max` was reached.
    pub labels_evicted: u64,
}
