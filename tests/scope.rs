//! Hosts at levels of their own: what is strange for one of them is ordinary among all, and only its own history tells.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use larum::decision::DecisionSpec;
use larum::draw::{Draw, Purpose};
use larum::engine::{Blueprint, EngineLimits, Outcome, Partition};
use larum::event::{EventSpec, Field, Record};
use larum::learn::{Trainer, TrainerLimits};
use larum::model::{Kind, ModelSpec, Reach, Scope};
use larum::quality::auc;
use std::sync::Arc;

const HOSTS: u64 = 40;
const EVENTS: u64 = 12_000;

fn field(name: &str, kind: &str) -> Field {
    Field::parse(name, kind).unwrap()
}

fn event_spec(fields: Vec<Field>) -> EventSpec {
    EventSpec {
        id: None,
        time: None,
        entity: Some("host".into()),
        fields,
        lateness_ms: 60_000,
        bytes_max: 1 << 20,
        depth_max: 8,
    }
}

fn blueprint(kind: Kind, scope: Scope) -> Arc<Blueprint> {
    let fields = vec![field("host", "string"), field("load", "double"), field("latency", "double")];
    let models = vec![ModelSpec { scope, ..ModelSpec::new("detector", kind) }];
    let decision = DecisionSpec::FalseAlarmRate(0.01);
    let sql = "SELECT load, latency FROM events";
    Arc::new(Blueprint::new(&event_spec(fields), sql, models, decision, 1, EngineLimits::default()).unwrap())
}

fn partition(blueprint: Arc<Blueprint>) -> Partition {
    let trainer = Trainer::new(&blueprint.models, blueprint.plan.columns(), TrainerLimits::default()).unwrap();
    Partition::new(blueprint, "requests", 0, 1, 0, Arc::new(trainer.globals()))
}

/// The `i`-th event, and whether its latency is what it never is for its host, though it is for many others.
fn event(i: u64) -> (String, bool) {
    let (host, draw) = (i % HOSTS, Draw::new(3));
    let unit = |n| draw.unit(Purpose::Traffic, 4 * i + n) - 0.5;
    let strange = i > EVENTS / 4 && draw.chance(Purpose::Reviewer, i, 0.02);
    let level = |host: u64| 10.0 + 40.0 * host as f64;
    let latency = level(if strange { (host + HOSTS / 2) % HOSTS } else { host }) + 20.0 * unit(0);
    (format!(r#"{{"host":"host-{host}","load":{:?},"latency":{latency:?}}}"#, 5.0 + unit(1)), strange)
}

/// The AUC of the scores after a quarter of the events.
fn auc_of(kind: Kind, scope: Scope) -> f64 {
    let mut partition = partition(blueprint(kind, scope));
    let (mut scores, mut truth) = (Vec::new(), Vec::new());
    for i in 0..EVENTS {
        let (payload, strange) = event(i);
        let offset = i as i64;
        let record = Record { offset, timestamp_ms: 1_000 * offset, key: None, payload: Some(payload.as_bytes()) };
        match partition.handle(&record) {
            Outcome::Scored(event) => {
                let columns = event.prediction.contributions.iter().flatten().map(|(column, _)| *column);
                assert!(!event.alarm || columns.eq([0, 1]), "a feature contributes once");
                let counts = i > EVENTS / 4;
                scores.extend(counts.then_some(event.prediction.surprise));
                truth.extend(counts.then_some(strange));
            }
            other => panic!("{other:?}"),
        }
    }
    auc(&scores, &truth).unwrap()
}

#[test]
fn each_host_is_measured_by_its_own_history() {
    let kinds = [
        Kind::LinearRegression { targets: Vec::new() },
        Kind::LinearRegression { targets: vec!["latency".into()] },
        Kind::NearestNeighbours { reach: Reach::Count(10) },
        Kind::NearestNeighbours { reach: Reach::Share(0.4) },
        Kind::IsolationForest,
        Kind::Marginal,
        Kind::OneClassSvm { nu: 0.5 },
    ];
    for kind in kinds {
        let (all, own) = (auc_of(kind.clone(), Scope::Partition), auc_of(kind.clone(), Scope::Entity));
        println!("{kind:?} {all:.3} {own:.3}");
        assert!(all < 0.65, "{kind:?} by all events: {all}");
        assert!(own > 0.9, "{kind:?} by the host's own history: {own}");
    }
}
