//! The sections of the file, one function each: its keys, its defaults, what it refuses.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use toml::de::DeTable;

use super::kafka::kafka;
use super::models::models;
use super::problem::{FeatureQuery, Problem, Refused};
use super::table::{Document, Found, Table};
use super::{ApiConfig, Config, LearningConfig, Limits, RefitWhen, StoreConfig, text};
use crate::decision::{DecisionSpec, Direction, FeatureRule, QuietSpec};
use crate::event::{EventSpec, Field, FieldType};
use crate::suggest::nearest;

const SEED: u64 = 1;
const FIELDS_MAX: usize = 1_000;
const TYPES: [&str; 5] = ["string", "double", "bigint", "boolean", "timestamp"];

pub(super) fn config(path: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Refused> {
    let refused = |problems| Refused { name: path.display().to_string(), text: text.to_owned(), problems };
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What was recovered from broken syntax would bring errors that are none.
        let problem = |error: &toml::de::Error| Problem {
            message: error.message().to_owned(),
            span: error.span().unwrap_or_default(),
            here: "not TOML".into(),
            help: String::new(),
        };
        return Err(refused(errors.iter().map(problem).collect()));
    }
    let document = Document { text, env, problems: RefCell::default() };
    let keys = ["seed", "kafka", "event", "features", "models", "decision", "learning", "store", "api", "limits"];
    let root = Table::root(&document, root.get_ref(), &keys);
    let limits = limits(&root);
    let event = event(&root, &limits);
    let (decision, quiet) = decision(&root);
    let config = Config {
        kafka: kafka(&root),
        features: features(&root, path, &event),
        event,
        models: models(&root),
        decision,
        quiet,
        learning: learning(&root),
        store: store(&root),
        api: api(&root),
        seed: root.count("seed", SEED, 0..=i64::MAX as u64),
        limits,
    };
    let mut problems = document.problems.into_inner();
    problems.sort_by_key(|problem| problem.span.start);
    if problems.is_empty() { Ok(config) } else { Err(refused(problems)) }
}

pub(super) fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it may not be empty".into()) } else { Ok(text.to_owned()) }
}

fn event(root: &Table<'_>, limits: &Limits) -> EventSpec {
    let event = root.table("event", &["format", "id", "time", "entity", "lateness", "fields"]);
    event.parsed("format", |format| match format {
        "json" => Ok(()),
        "avro" => Err("avro is not there yet; json is".into()),
        _ => Err("json".into()),
    });
    let table = event.any_table("fields");
    let mut fields: Vec<Field> = Vec::new();
    for (key, value) in table.in_order() {
        let Some(Found { value, span }) = table.string_of(key.value, value.value, value.span) else { continue };
        match field(key.value, &value) {
            Ok(field) => fields.push(field),
            Err(help) => {
                let message = format!("field `{}` cannot be of type \"{value}\"", key.value);
                table.document.problem(span, message, "unknown type", help);
            }
        }
    }
    if fields.len() > FIELDS_MAX {
        let message = format!("{} fields are declared", fields.len());
        event.wrong("fields", message, "too many", format!("at most {FIELDS_MAX}; name only the ones the query uses"));
    }
    EventSpec {
        id: event.parsed("id", not_empty),
        time: event.parsed("time", not_empty),
        entity: event.parsed("entity", not_empty),
        fields,
        lateness_ms: event.duration_ms("lateness", 60_000),
        bytes_max: limits.event_bytes,
        depth_max: limits.event_depth,
    }
}

fn field(name: &str, declared: &str) -> Result<Field, String> {
    Field::parse(name, declared).map_err(|_| {
        let declared = declared.trim().to_lowercase();
        let kind = declared.strip_suffix(" not null").unwrap_or(&declared).trim_end();
        let near = nearest(kind, TYPES).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        format!("{near}one of {}, each also with ` not null`", TYPES.join(", "))
    })
}

fn features(root: &Table<'_>, path: &Path, event: &EventSpec) -> FeatureQuery {
    let features = root.table("features", &["file", "sql"]);
    let name = path.display().to_string();
    if features.has("file") && features.has("sql") {
        features.wrong("sql", "[features] has both `file` and `sql`".into(), "a second query", "keep one of them");
    }
    if let Some(file) = features.string("file") {
        let file_path = path.parent().unwrap_or(Path::new("")).join(&file.value);
        return match std::fs::read_to_string(&file_path) {
            Ok(sql) => FeatureQuery::alone(file_path.display().to_string(), sql),
            Err(error) => {
                let message = format!("cannot read the feature query {}", file_path.display());
                let help = format!("{error}; the path is relative to the configuration file");
                features.wrong("file", message, "this file", help);
                FeatureQuery::alone(file.value, String::new())
            }
        };
    }
    if let Some(sql) = features.string("sql") {
        // Escapes and ${ENV} make the value differ from the file's text; then it is shown by itself.
        let document = features.document.text;
        return match document[sql.span.clone()].find(&sql.value) {
            Some(at) => FeatureQuery { sql: sql.value, name, text: document.to_owned(), start: sql.span.start + at },
            None => FeatureQuery::alone(format!("{name}, [features] sql"), sql.value),
        };
    }
    let sql = every_field(event);
    // A `file`, `sql` or field that is there and wrong was reported already.
    let declared = root.any_table("event");
    if sql.is_none() && !features.has("file") && !features.has("sql") {
        let help = "declare the fields of an event, latency_ms = \"double\", or give a query in [features]";
        if !declared.has("fields") {
            declared.missing("fields", help);
        } else if declared.any_table("fields").in_order().len() == event.fields.len() {
            declared.wrong("fields", "no field is left to make a feature of".into(), "only id, entity and times", help);
        }
    }
    FeatureQuery::alone("the default feature query".into(), sql.unwrap_or_default())
}

/// Every declared field as a feature, but the id, the entity and all times: a time as a number only ever grows.
fn every_field(event: &EventSpec) -> Option<String> {
    let special = [&event.id, &event.time, &event.entity];
    let is_feature = |field: &&Field| {
        field.kind != FieldType::Timestamp && !special.iter().any(|name| name.as_ref() == Some(&field.name))
    };
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> = event.fields.iter().filter(is_feature).map(|field| quoted(&field.name)).collect();
    (!columns.is_empty()).then(|| format!("SELECT {}\nFROM events", columns.join(",\n       ")))
}

fn decision(root: &Table<'_>) -> (DecisionSpec, QuietSpec) {
    let keys = ["alarm_budget", "false_alarm_rate", "threshold", "quiet_period", "features"];
    let decision = root.table("decision", &keys);
    let mut given = keys[..3].iter().filter(|key| decision.has(key));
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        let message = format!("[decision] has both `{first}` and `{second}`");
        decision.wrong(second, message, "a second rule", "take one of alarm_budget, false_alarm_rate and threshold");
    }
    let budget = decision.parsed("alarm_budget", text::rate);
    let rate = decision.number(
        "false_alarm_rate",
        |rate| 0.0 < rate && rate < 1.0,
        "a share of the events, above 0 and below 1",
    );
    let threshold = decision.number("threshold", |score| 0.0 < score && score < 1.0, "a score, above 0 and below 1");
    let quiet = QuietSpec {
        period_ms: decision.parsed("quiet_period", text::duration_or_zero_ms).unwrap_or(0),
        features: feature_rules(&decision.any_table("features")),
    };
    let decision = match (budget, rate, threshold) {
        (_, Some(rate), _) => DecisionSpec::FalseAlarmRate(rate),
        (_, _, Some(score)) => DecisionSpec::Threshold(score),
        (budget, ..) => {
            let (alarms, per_ms) = budget.unwrap_or((20.0, 86_400_000.0));
            DecisionSpec::AlarmBudget { alarms, per_ms }
        }
    };
    (decision, quiet)
}

/// `[decision.features.<name>]`, in the order of the file.
fn feature_rules(features: &Table<'_>) -> Vec<FeatureRule> {
    let rule = |name: &str| {
        let rule = features.table(name, &["direction", "min_change", "min_relative_change"]);
        let at_least_zero = |number| (0.0..f64::INFINITY).contains(&number);
        FeatureRule {
            feature: name.into(),
            direction: rule.parsed("direction", direction).unwrap_or_default(),
            min_change: rule
                .number("min_change", at_least_zero, "a change in the feature's unit, at least 0")
                .unwrap_or(0.0),
            min_relative_change: rule
                .number("min_relative_change", at_least_zero, "a share of the expected value, at least 0: 0.2 is 20 %")
                .unwrap_or(0.0),
        }
    };
    features.in_order().iter().map(|(name, _)| rule(name.value)).collect()
}

fn direction(text: &str) -> Result<Direction, String> {
    match text {
        "up" => Ok(Direction::Up),
        "down" => Ok(Direction::Down),
        "both" => Ok(Direction::Both),
        _ => Err("\"up\", \"down\" or \"both\"".into()),
    }
}

fn learning(root: &Table<'_>) -> LearningConfig {
    let refit = root.table("learning", &["refit"]).parsed("refit", refit_when);
    LearningConfig { refit: refit.unwrap_or(RefitWhen::Every(86_400_000)) }
}

fn refit_when(text: &str) -> Result<RefitWhen, String> {
    let labels = text.strip_suffix(" labels").and_then(|count| count.trim().replace('_', "").parse().ok());
    match (text, labels) {
        ("never", _) => Ok(RefitWhen::Never),
        (_, Some(labels)) if labels >= RefitWhen::LABELS_MIN => Ok(RefitWhen::Labels(labels)),
        (_, Some(_)) => Err(format!("at least {} labels: fewer change little", RefitWhen::LABELS_MIN)),
        _ => text::duration_ms(text)
            .map(RefitWhen::Every)
            .map_err(|_| "\"never\", a duration such as \"1d\", or a count such as \"500 labels\"".into()),
    }
}

fn store(root: &Table<'_>) -> StoreConfig {
    let store = root.table("store", &["url", "keep", "retention", "label_horizon"]);
    let url = store.parsed("url", |url| match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(url.to_owned()),
        Some(("postgres" | "postgresql", _)) => Err("PostgreSQL is not there yet: sqlite:PATH".into()),
        _ => Err("sqlite:PATH, for example sqlite:larum.db".into()),
    });
    let config = StoreConfig {
        url: url.unwrap_or_else(|| "sqlite:larum.db".into()),
        keep: store.number("keep", |share| (0.0..=1.0).contains(&share), "a share, from 0 to 1").unwrap_or(1.0),
        retention_ms: store.duration_ms("retention", 7 * 86_400_000),
        label_horizon_ms: store.duration_ms("label_horizon", 90 * 86_400_000),
    };
    if config.label_horizon_ms < config.retention_ms {
        let key = if store.has("label_horizon") { "label_horizon" } else { "retention" };
        let help = "alarms outlive ordinary rows: label_horizon is at least retention (defaults: 90d and 7d)";
        store.wrong(key, "`label_horizon` is shorter than `retention`".into(), "does not fit the other", help);
    }
    config
}

fn api(root: &Table<'_>) -> ApiConfig {
    let listen = root.table("api", &["listen"]).parsed("listen", |listen| {
        let address = match listen.strip_prefix("localhost:") {
            Some(port) => port.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).ok(),
            None => listen.parse::<SocketAddr>().ok(),
        };
        match address {
            Some(address) if address.ip().is_loopback() => Ok(address),
            Some(_) => {
                Err("nobody is asked for a token yet, so larum listens on loopback only: 127.0.0.1:8080; a proxy \
                           in front of it can let others in"
                    .into())
            }
            None => Err("an address and a port: 127.0.0.1:8080".into()),
        }
    });
    ApiConfig { listen: listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))) }
}

/// Key, default and range of every bound. The ranges keep a slip of the finger from being a limit that is none.
const LIMITS: [(&str, u64, u64, u64); 15] = [
    ("event_bytes", 1 << 20, 64, 1 << 27),
    ("event_depth", 32, 1, 127), // serde_json's own recursion ends at 128
    ("queue_events", 10_000, 1, 10_000_000),
    ("entities", 100_000, 1, 100_000_000),
    ("window_rows", 10_000, 1, 10_000_000),
    ("categories", 4_096, 1, 10_000_000),
    ("pending_labels", 100_000, 1, 100_000_000),
    ("stored_rows", 50_000_000, 1_000, 100_000_000_000),
    ("body_bytes", 8 << 20, 1_024, 1 << 30),
    ("upload_bytes", 1 << 30, 1_024, 1 << 40),
    ("request_ms", 10_000, 10, 600_000),
    ("connections", 1_000, 1, 100_000),
    ("commit_rows", 50_000, 1, 10_000_000),
    ("commit_ms", 1_000, 10, 60_000),
    ("snapshot_ms", 30_000, 100, 3_600_000),
];

fn limits(root: &Table<'_>) -> Limits {
    let table = root.table("limits", &LIMITS.map(|(key, ..)| key));
    let [
        event_bytes,
        event_depth,
        queue_events,
        entities,
        window_rows,
        categories,
        pending_labels,
        stored_rows,
        body_bytes,
        upload_bytes,
        request_ms,
        connections,
        commit_rows,
        commit_ms,
        snapshot_ms,
    ] = LIMITS.map(|(key, default, min, max)| table.count(key, default, min..=max));
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Limits {
        event_bytes: size(event_bytes),
        event_depth: size(event_depth),
        queue_events: size(queue_events),
        entities: size(entities),
        window_rows: size(window_rows),
        categories: size(categories),
        pending_labels: size(pending_labels),
        stored_rows,
        body_bytes: size(body_bytes),
        upload_bytes,
        request_ms,
        connections: size(connections),
        commit_rows: size(commit_rows),
        commit_ms,
        snapshot_ms,
    }
}
