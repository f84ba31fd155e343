//! What operators see: log lines, metrics, and the one clock of the shell.

use crate::config::Config;
use crate::engine::{Counters, Partition, Scored};
use crate::event::{Reason, Rejection};
use crate::learn::Globals;
use crate::service::{RefitOutcome, State, Uploaded};
use crate::store::{Committed, Maintained};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tracing_subscriber::EnvFilter;

/// Milliseconds since the Unix epoch.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the shell's one wall clock")]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// For measuring how long something takes.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the shell's one stop watch")]
pub fn stopwatch() -> Instant {
    Instant::now()
}

/// Log lines to standard error, by `RUST_LOG` or else at `default` and above.
pub fn init_logging(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // Colours only where a person reads; https://no-color.org.
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false);
    // A second call (in tests) leaves the first in place.
    drop(subscriber.try_init());
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPartition {
    partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    label: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLimit {
    limit: &'static str,
}

/// What a worker counts between two commits, for one partition.
#[derive(Debug, Default)]
pub struct Tally {
    scored: u64,
    alarms: u64,
    pub filtered: u64,
    rejected: BTreeMap<Reason, u64>,
    before: Counters,
}

impl Tally {
    pub fn scored(&mut self, scored: &Scored) {
        self.scored += 1;
        self.alarms += u64::from(scored.alarm);
    }

    pub fn rejected(&mut self, rejection: &Rejection) {
        *self.rejected.entry(rejection.reason).or_default() += 1;
    }
}

/// Every metric of a service, in base units.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Family<ByOutcome, Counter>,
    dead_letters: Family<ByReason, Counter>,
    alarms: Counter,
    alarms_suppressed: Family<ByReason, Counter>,
    late: Counter,
    held_back: Counter,
    limit_hits: Family<ByLimit, Counter>,
    lost: Family<ByPartition, Counter>,
    offset: Family<ByPartition, Gauge>,
    entities: Family<ByPartition, Gauge>,
    labels_received: Counter,
    labels_refused: Counter,
    labels_joined: Counter,
    labels_learned: Family<ByVerdict, Gauge>,
    examples: Family<ByOutcome, Counter>,
    refits: Family<ByOutcome, Counter>,
    promotions: Counter,
    tasks: Family<ByState, Gauge>,
    model_version: Gauge,
    stored_rows: Counter,
    commit_seconds: Histogram,
}

impl Metrics {
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut registry = Registry::with_prefix("larum");
        let commit_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        registry.register_with_unit(
            "commit",
            "Time from a commit's request to its end, Kafka's acknowledgements included",
            Unit::Seconds,
            commit_seconds.clone(),
        );
        let info = Family::<Vec<(String, String)>, Gauge>::default();
        info.get_or_create(&vec![
            ("version".into(), env!("CARGO_PKG_VERSION").into()),
            ("events".into(), config.kafka.events.clone()),
            ("group".into(), config.kafka.group.clone()),
        ])
        .set(1);
        registry.register("build_info", "Always 1", info);
        macro_rules! register {
            ($($field:ident: $name:literal, $help:literal;)*) => {{
                let this = Self { registry, commit_seconds, $($field: Default::default()),* };
                let Self { mut registry, commit_seconds, $($field),* } = this;
                $(registry.register($name, $help, $field.clone());)*
                Self { registry, commit_seconds, $($field),* }
            }};
        }
        register! {
            events: "events", "Records taken in, by what became of them";
            dead_letters: "dead_letters", "Records that could not be used, by reason";
            alarms: "alarms", "Scored events that went to a person";
            alarms_suppressed: "alarms_suppressed", "Events strange enough for an alarm that raised none, by reason";
            late: "late_events", "Events later than the lateness: scored, but in no window";
            held_back: "held_back_events", "Events too strange for the detectors to learn from";
            limit_hits: "limit_hits", "What a bound of [limits] cost, by bound";
            lost: "lost_records", "Records that the broker had deleted before they were read";
            offset: "scored_through_offset", "The offset that a partition has scored through";
            entities: "entities", "Entities with windows";
            labels_received: "labels_received", "Verdicts read from the labels topic";
            labels_refused: "labels_refused", "Records of the labels topic that are no verdicts";
            labels_joined: "labels_joined", "Verdicts sent on to the label log, with their event";
            labels_learned: "labels_learned", "Events whose current verdict the models have learned";
            examples: "examples", "Rows of training data, by what became of them";
            refits: "refits", "Refits of models that learn from labels, by what became of them";
            promotions: "promotions", "Refitted models that took over, here or on another instance";
            tasks: "tasks", "Tasks that are remembered, by state";
            model_version: "model_version", "The label-log offset up to which the global models have learned";
            stored_rows: "stored_rows", "Scored rows written to the store";
        }
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }

    /// Takes over what a worker has counted.
    pub(crate) fn tally(&self, partition: i32, tally: &mut Tally, engine: &Partition) {
        let count = |outcome, n| {
            if n > 0 {
                self.events.get_or_create(&ByOutcome { outcome }).inc_by(n);
            }
        };
        count("scored", std::mem::take(&mut tally.scored));
        count("filtered", std::mem::take(&mut tally.filtered));
        count("dead_letter", tally.rejected.values().sum());
        for (reason, n) in std::mem::take(&mut tally.rejected) {
            self.dead_letters.get_or_create(&ByReason { reason: reason.as_str() }).inc_by(n);
        }
        self.alarms.inc_by(std::mem::take(&mut tally.alarms));
        let (now, before) = (engine.counters, std::mem::replace(&mut tally.before, engine.counters));
        for (reason, n) in [
            ("quiet_feature", now.alarms_quieted - before.alarms_quieted),
            ("open_alarm", now.alarms_in_open - before.alarms_in_open),
        ] {
            self.alarms_suppressed.get_or_create(&ByReason { reason }).inc_by(n);
        }
        self.late.inc_by(now.late - before.late);
        self.held_back.inc_by(now.held_back - before.held_back);
        self.limit("entities", now.entities_evicted - before.entities_evicted);
        self.limit("window_rows", now.window_rows_merged - before.window_rows_merged);
        self.limit("categories", now.categories_forgotten - before.categories_forgotten);
        self.offset.get_or_create(&ByPartition { partition }).set(engine.offset());
        self.entities
            .get_or_create(&ByPartition { partition })
            .set(i64::try_from(engine.entities()).unwrap_or(i64::MAX));
    }

    /// Counts what a bound of `[limits]`, named by its key, has cost.
    pub(crate) fn limit(&self, limit: &'static str, hits: u64) {
        if hits > 0 {
            self.limit_hits.get_or_create(&ByLimit { limit }).inc_by(hits);
        }
    }

    pub(crate) fn lost(&self, partition: i32, records: u64) {
        self.lost.get_or_create(&ByPartition { partition }).inc_by(records);
    }

    pub(crate) fn commit_timer(&self) -> Instant {
        stopwatch()
    }

    pub(crate) fn committed(&self, committed: &Committed, timer: Instant) {
        self.commit_seconds.observe(timer.elapsed().as_secs_f64());
        self.stored_rows.inc_by(committed.rows);
        self.limit("pending_labels", committed.pending_evicted);
        self.limit("labels", committed.labels_evicted);
    }

    pub(crate) fn maintained(&self, maintained: &Maintained) {
        self.limit("stored_rows", maintained.rows_evicted);
    }

    pub(crate) fn labels_received(&self, n: usize) {
        self.labels_received.inc_by(n as u64);
    }

    pub(crate) fn label_refused(&self) {
        self.labels_refused.inc();
    }

    pub(crate) fn labels_joined(&self, n: usize) {
        self.labels_joined.inc_by(n as u64);
    }

    pub(crate) fn uploaded(&self, uploaded: &Uploaded) {
        let Uploaded { accepted, already, filtered, refused, .. } = uploaded;
        for (outcome, n) in
            [("accepted", accepted - already), ("already", *already), ("filtered", *filtered), ("refused", *refused)]
        {
            self.examples.get_or_create(&ByOutcome { outcome }).inc_by(n);
        }
    }

    pub(crate) fn refitted(&self, outcome: RefitOutcome) {
        let outcome = match outcome {
            RefitOutcome::Promoted => "promoted",
            RefitOutcome::Kept => "kept",
            RefitOutcome::DryRun => "dry_run",
            RefitOutcome::Cancelled => "cancelled",
            RefitOutcome::Failed => "failed",
        };
        self.refits.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// A promotion was read from the label log.
    pub(crate) fn promoted(&self) {
        self.promotions.inc();
    }

    pub(crate) fn tasks(&self, states: &[State]) {
        for state in State::ALL {
            let count = states.iter().filter(|found| **found == state).count();
            let gauge = self.tasks.get_or_create(&ByState { state: state.name() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn trained(&self, globals: &Globals) {
        self.model_version.set(globals.version);
        let set = |label, n: u64| {
            self.labels_learned.get_or_create(&ByVerdict { label }).set(i64::try_from(n).unwrap_or(i64::MAX))
        };
        set("anomaly", globals.anomalies);
        set("normal", globals.normals);
    }

    /// Records since the start that could not be used.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.events.get_or_create(&ByOutcome { outcome: "dead_letter" }).get()
    }

    /// Events scored since the start.
    #[must_use]
    pub fn scored(&self) -> u64 {
        self.events.get_or_create(&ByOutcome { outcome: "scored" }).get()
    }
}
