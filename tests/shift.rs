//! A change that stays becomes the new normal, and one that passes does not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use larum::decision::DecisionSpec;
use larum::draw::{Draw, Purpose};
use larum::engine::{Blueprint, EngineLimits, Outcome, Partition};
use larum::event::{EventSpec, Field, Record};
use larum::learn::{Trainer, TrainerLimits};
use larum::model::{Kind, ModelSpec, Reach};
use std::sync::Arc;

const BEFORE: u64 = 30_000;
/// Within so many events a lasting change is learned.
const PATIENCE: u64 = 10_000;
const RATE: f64 = 0.01;

fn partition(seed: u64) -> Partition {
    let field = |name: &str| Field::parse(name, "double").unwrap();
    let event = EventSpec {
        id: None,
        time: None,
        entity: None,
        fields: vec![field("a"), field("b"), field("c")],
        lateness_ms: 60_000,
        bytes_max: 1 << 20,
        depth_max: 8,
    };
    let model = |name: &str, kind| ModelSpec::new(name, kind);
    let models = vec![
        model("regression", Kind::LinearRegression { targets: Vec::new() }),
        model("near", Kind::NearestNeighbours { reach: Reach::Count(10) }),
        model("wide", Kind::NearestNeighbours { reach: Reach::Share(0.4) }),
        model("forest", Kind::IsolationForest),
    ];
    let decision = DecisionSpec::FalseAlarmRate(RATE);
    let blueprint =
        Blueprint::new(&event, "SELECT a, b, c FROM events", models, decision, seed, EngineLimits::default());
    let blueprint = Arc::new(blueprint.unwrap());
    let trainer = Trainer::new(&blueprint.models, blueprint.plan.columns(), TrainerLimits::default()).unwrap();
    Partition::new(blueprint, "requests", 0, 1, 0, Arc::new(trainer.globals()))
}

/// How many of so many events, each number of which is moved by `shift` standard deviations, are as strange as one in a hundred.
fn strange(partition: &mut Partition, events: u64, shift: f64) -> f64 {
    let draw = Draw::new(5);
    let mut strange = 0;
    for _ in 0..events {
        let i = partition.offset().unsigned_abs();
        // A uniform number deviates by 1 / sqrt(12).
        let unit = |n| draw.unit(Purpose::Traffic, 4 * i + n) + shift / 12.0_f64.sqrt();
        let payload = format!(r#"{{"a":{:?},"b":{:?},"c":{:?}}}"#, unit(0), unit(1), unit(2) + unit(0));
        let record = Record {
            offset: partition.offset(),
            timestamp_ms: 1_000 * partition.offset(),
            key: None,
            payload: Some(payload.as_bytes()),
        };
        match partition.handle(&record) {
            Outcome::Scored(scored) => strange += u64::from(scored.prediction.p_value() < RATE),
            other => panic!("{other:?}"),
        }
    }
    strange as f64 / events as f64
}

#[test]
fn a_lasting_shift_is_learned_within_ten_thousand_events() {
    let mut partition = partition(1);
    strange(&mut partition, BEFORE, 0.0);
    let at_once = strange(&mut partition, 500, 3.0);
    assert!(at_once > 0.3, "it is strange at first: {at_once}");
    strange(&mut partition, PATIENCE - 500, 3.0);
    let after = strange(&mut partition, 10_000, 3.0);
    assert!(after < 1.5 * RATE, "and then ordinary: {after}");
    let back = strange(&mut partition, 500, 0.0);
    assert!(back < 0.5, "what was ordinary for long is not forgotten at once: {back}");
}

#[test]
fn a_burst_does_not_make_the_next_one_ordinary() {
    let mut partition = partition(1);
    strange(&mut partition, BEFORE, 0.0);
    for _ in 0..3 {
        let burst = strange(&mut partition, 200, 6.0);
        assert!(burst > 0.9, "{burst}");
        strange(&mut partition, 3_000, 0.0);
    }
}

#[test]
fn in_a_young_stream_an_incident_stays_strange_and_a_lasting_shift_is_learned() {
    for seed in 1..=6 {
        let mut partition = partition(seed);
        strange(&mut partition, 600, 0.0);
        let incident = strange(&mut partition, 400, 6.0);
        assert!(incident > 0.9, "seed {seed}: for as long as an incident may last: {incident}");
        strange(&mut partition, 1_600, 6.0);
        let after = strange(&mut partition, 2_000, 6.0);
        assert!(after < 3.0 * RATE, "seed {seed}: and then ordinary: {after}");
        strange(&mut partition, PATIENCE - 4_000, 6.0);
        let after = strange(&mut partition, 2_000, 6.0);
        assert!(after < 2.0 * RATE, "seed {seed}: and stays so: {after}");
    }
}

#[test]
fn an_incident_stays_strange_at_any_age() {
    for age in [1_500, 7_000, 10_000, 20_000] {
        let mut partition = partition(1);
        strange(&mut partition, age, 0.0);
        let incident = strange(&mut partition, 100, 6.0);
        assert!(incident > 0.9, "after {age} events: {incident}");
    }
}

#[test]
fn what_recurs_is_ordinary_in_the_end() {
    let mut partition = partition(1);
    let mut cycles = |count: u32| {
        let cycle = |_| {
            strange(&mut partition, 660, 0.0);
            strange(&mut partition, 60, 6.0)
        };
        (0..count).map(cycle).sum::<f64>() / f64::from(count)
    };
    let first = cycles(5);
    assert!(first > 0.9, "at first it is strange: {first}");
    let soon = cycles(10);
    assert!(soon < 0.5, "soon less than half of it is: {soon}");
    cycles(25);
    let later = cycles(20);
    assert!(later < 0.2, "and then it is not: {later}");
}
