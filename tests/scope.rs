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

/// The `i`-th event of hosts whose levels are so far apart, and whether its latency is `off` what it is for its host.
fn event(i: u64, apart: f64, off: f64) -> (String, bool) {
    let (host, draw) = (i % HOSTS, Draw::new(3));
    let unit = |n| draw.unit(Purpose::Traffic, 4 * i + n) - 0.5;
    let strange = i > EVENTS / 4 && draw.chance(Purpose::Reviewer, i, 0.02);
    // What is off is at the level of another host, where hosts are apart.
    let latency = 10.0
        + apart * host as f64
        + if strange { if host < HOSTS / 2 { off } else { -off } } else { 0.0 }
        + 20.0 * unit(0);
    (format!(r#"{{"host":"host-{host}","load":{:?},"latency":{latency:?}}}"#, 5.0 + unit(1)), strange)
}

/// The AUC of the scores after a quarter of the events.
fn auc_of(kind: Kind, scope: Scope, apart: f64, off: f64) -> f64 {
    let mut partition = partition(blueprint(kind, scope));
    let (mut scores, mut truth, mut alarms) = (Vec::new(), Vec::new(), 0);
    for i in 0..EVENTS {
        let (payload, strange) = event(i, apart, off);
        let offset = i as i64;
        let record = Record { offset, timestamp_ms: 1_000 * offset, key: None, payload: Some(payload.as_bytes()) };
        match partition.handle(&record) {
            Outcome::Scored(event) => {
                let columns = event.prediction.contributions.iter().flatten().map(|(column, _)| *column);
                assert!(!event.alarm || columns.eq([0, 1]), "a feature contributes once");
                alarms += u64::from(event.alarm);
                let counts = i > EVENTS / 4;
                scores.extend(counts.then_some(event.prediction.surprise));
                truth.extend(counts.then_some(strange));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(alarms > 10, "{alarms}");
    auc(&scores, &truth).unwrap()
}

fn kinds() -> [Kind; 7] {
    [
        Kind::LinearRegression { targets: Vec::new() },
        Kind::LinearRegression { targets: vec!["latency".into()] },
        Kind::NearestNeighbours { reach: Reach::Count(10) },
        Kind::NearestNeighbours { reach: Reach::Share(0.4) },
        Kind::IsolationForest,
        Kind::Marginal,
        Kind::OneClassSvm { nu: 0.5 },
    ]
}

#[test]
fn each_host_is_measured_by_its_own_history() {
    for kind in kinds() {
        let of = |scope, off| auc_of(kind.clone(), scope, 40.0, off);
        let (all, far, near) = (of(Scope::Partition, 800.0), of(Scope::Entity, 800.0), of(Scope::Entity, 40.0));
        println!("{kind:?}: by all events {all:.3}, by the host's own history {far:.3}, where little is off {near:.3}");
        assert!(all < 0.65, "{kind:?} by all events: {all}");
        assert!(far > 0.9, "{kind:?} by the host's own history: {far}");
        assert!(near > 0.85, "{kind:?} where the next host's level is strange: {near}");
    }
}

#[test]
fn where_hosts_are_alike_little_is_lost() {
    for kind in kinds() {
        let of = |scope| auc_of(kind.clone(), scope, 0.0, 12.0);
        let (all, own) = (of(Scope::Partition), of(Scope::Entity));
        println!("{kind:?}: by all events {all:.3}, by the host's own history {own:.3}");
        assert!(all > 0.6 && own > all - 0.03, "{kind:?}: {all} by all events, {own} by the host's own history");
    }
}
