//! One TOML file -> [`Config`]: every key with its default, every mistake with its line. Nothing here connects to anything.

mod kafka;
mod models;
mod problem;
mod sections;
mod table;
pub mod text;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

pub use models::default_models;
pub use problem::{FeatureQuery, Problem, Refused};

use crate::decision::{DecisionSpec, QuietSpec};
use crate::event::EventSpec;
use crate::model::ModelSpec;

/// The whole configuration, checked as far as one file can be: the query is compiled and the brokers are reached elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub kafka: KafkaConfig,
    pub event: EventSpec,
    pub features: FeatureQuery,
    pub models: Vec<ModelSpec>,
    pub decision: DecisionSpec,
    /// What of `[decision]` keeps alarms quiet.
    pub quiet: QuietSpec,
    pub learning: LearningConfig,
    pub store: StoreConfig,
    pub api: ApiConfig,
    pub limits: Limits,
    /// Of every draw: the same seed and input give the same bits.
    pub seed: u64,
}

/// `[kafka]`: topics and how to reach them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    pub brokers: String,
    pub group: String,
    pub events: String,
    pub predictions: String,
    pub labels: String,
    pub label_log: String,
    pub dead_letters: String,
    pub start: Start,
    /// `[kafka.client]`, handed to librdkafka unchanged; holds no key that larum must own.
    pub client: BTreeMap<String, String>,
}

/// Where a partition begins on its first start; afterwards it goes on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Latest,
    Earliest,
    /// The first event at or after this time, in milliseconds since the Unix epoch.
    Time(i64),
}

/// `[store]`: what is kept, where and how long.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreConfig {
    /// `sqlite:PATH`.
    pub url: String,
    /// Share of ordinary rows kept, in [0, 1].
    pub keep: f64,
    /// Life of ordinary rows.
    pub retention_ms: i64,
    /// Life of alarms, audit and sampled rows.
    pub label_horizon_ms: i64,
}

/// `[learning]`: how models that learn from labels go on learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearningConfig {
    pub refit: RefitWhen,
}

/// When models that learn from labels are refitted without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefitWhen {
    Never,
    /// So many milliseconds after the first label that the last refit had not.
    Every(i64),
    /// With so many labels that the last refit had not.
    Labels(u64),
}

impl RefitWhen {
    /// Fewer new labels change little: no refit is due before.
    pub const LABELS_MIN: u64 = 50;
}

impl std::fmt::Display for RefitWhen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Never => write!(f, "never by itself"),
            Self::Every(ms) => {
                let period = text::duration(*ms);
                write!(f, "{period} after new labels came, if there are {} at least", Self::LABELS_MIN)
            }
            Self::Labels(labels) => write!(f, "with every {labels} new labels"),
        }
    }
}

/// `[api]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiConfig {
    /// A loopback address: nobody is asked for a token yet.
    pub listen: SocketAddr,
}

/// `[limits]`: everything that can grow has its bound here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one event; a larger one is a dead letter.
    pub event_bytes: usize,
    /// Nested brackets of one event; a deeper one is a dead letter.
    pub event_depth: usize,
    /// Events handed over and not yet scored, per core; then reading waits.
    pub queue_events: usize,
    /// Entities with windows, per partition; then the one unseen for longest is dropped.
    pub entities: usize,
    /// Rows kept exactly per entity; older ones merge into panes.
    pub window_rows: usize,
    /// Values counted per text feature and partition; past it the rarest are forgotten.
    pub categories: usize,
    /// Labels waiting for their event; then new ones are refused.
    pub pending_labels: usize,
    /// Ordinary rows in the store; then the oldest leave before their retention.
    pub stored_rows: u64,
    /// Bytes of one HTTP request's body.
    pub body_bytes: usize,
    /// Bytes of one file of training data, as it is sent.
    pub upload_bytes: u64,
    /// Milliseconds for one HTTP request, or between two pieces of a file of training data.
    pub request_ms: u64,
    /// Open HTTP connections.
    pub connections: usize,
    /// Rows of one commit; then it is made before its time.
    pub commit_rows: usize,
    /// Milliseconds between commits.
    pub commit_ms: u64,
    /// Milliseconds between snapshots.
    pub snapshot_ms: u64,
}

impl Config {
    /// Reads the file, and the `.sql` file if it names one, with the process's environment.
    ///
    /// # Errors
    /// [`Refused`] with everything that is wrong, or a file that cannot be read.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.display().to_string(), source })?;
        Ok(Self::parse(path, &text, &|name| std::env::var(name).ok())?)
    }

    /// The same for a text at hand; `path` names it in errors, and a query file is looked for beside it.
    ///
    /// # Errors
    /// [`Refused`] with everything that is wrong.
    pub fn parse(path: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Refused> {
        sections::config(path, text, env)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error(transparent)]
    Refused(#[from] Refused),
}
