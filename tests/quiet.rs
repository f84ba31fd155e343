//! What stays quiet: harmless changes and what an open alarm has said raise no alarm, and change nothing else.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use larum::decision::{DecisionSpec, Direction, FeatureRule, QuietSpec};
use larum::draw::{Draw, Purpose};
use larum::engine::{Blueprint, EngineLimits, Outcome, Partition, Scored};
use larum::event::{EventSpec, Field, Record};
use larum::learn::{Trainer, TrainerLimits};
use larum::model::{Kind, ModelSpec};
use std::sync::Arc;

/// Ordinary latencies: 20, 200 and 1,000 ms, give or take 5 %.
const HOSTS: [(&str, f64); 3] = [("fast", 20.0), ("middle", 200.0), ("slow", 1_000.0)];
const TRAINING: i64 = 6_000;
/// p = .00018: far above what ordinary events show, far below what the strange ones here do.
const STRANGE: DecisionSpec = DecisionSpec::Threshold(0.555);
/// p = .05: what stays strange when an incident has begun to enter the calibration.
const STRANGER_THAN_MOST: DecisionSpec = DecisionSpec::Threshold(0.3);

fn blueprint(decision: DecisionSpec, quiet: &QuietSpec) -> Arc<Blueprint> {
    let field = |name: &str, kind: &str| Field::parse(name, kind).unwrap();
    let event = EventSpec {
        id: None,
        time: Some("ts".into()),
        entity: Some("host".into()),
        fields: vec![
            field("ts", "timestamp"),
            field("host", "string"),
            field("region", "string"),
            field("latency_ms", "double"),
            field("load", "double"),
        ],
        lateness_ms: 60_000,
        bytes_max: 1 << 20,
        depth_max: 8,
    };
    let sql = "SELECT region, latency_ms, load FROM events";
    let models = vec![ModelSpec::new("regression", Kind::LinearRegression { targets: Vec::new() })];
    let blueprint = Blueprint::new(&event, sql, models, decision, 1, EngineLimits::default()).unwrap();
    Arc::new(blueprint.quieted(quiet).unwrap())
}

fn rule(feature: &str, direction: Direction, min_change: f64, min_relative_change: f64) -> FeatureRule {
    FeatureRule { feature: feature.into(), direction, min_change, min_relative_change }
}

fn quiet(features: impl Into<Vec<FeatureRule>>) -> QuietSpec {
    QuietSpec { period_ms: 0, features: features.into() }
}

fn engine(blueprint: &Arc<Blueprint>) -> Partition {
    let trainer = Trainer::new(&blueprint.models, blueprint.plan.columns(), TrainerLimits::default()).unwrap();
    Partition::new(blueprint.clone(), "requests", 0, 1, 0, Arc::new(trainer.globals()))
}

/// One event a second.
fn feed(engine: &mut Partition, host: &str, latency_ms: f64, load: f64) -> Scored {
    let offset = engine.offset();
    feed_at(engine, offset * 1_000, host, latency_ms, load)
}

fn feed_at(engine: &mut Partition, time_ms: i64, host: &str, latency_ms: f64, load: f64) -> Scored {
    let payload =
        format!(r#"{{"ts":{time_ms},"host":"{host}","region":"eu","latency_ms":{latency_ms:?},"load":{load:?}}}"#);
    let record =
        Record { offset: engine.offset(), timestamp_ms: time_ms, key: None, payload: Some(payload.as_bytes()) };
    match engine.handle(&record) {
        Outcome::Scored(scored) => *scored,
        other => panic!("{other:?}"),
    }
}

fn ordinary(engine: &mut Partition) -> Scored {
    let (i, draw) = (engine.offset().unsigned_abs(), Draw::new(3));
    let unit = |n| draw.unit(Purpose::Traffic, 4 * i + n);
    let (host, level) = HOSTS[(unit(0) * 3.0) as usize];
    feed(engine, host, level * (0.95 + 0.1 * unit(1)), 1.0 + unit(2))
}

fn trained(decision: DecisionSpec, quiet: &QuietSpec) -> Partition {
    let mut engine = engine(&blueprint(decision, quiet));
    for _ in 0..TRAINING {
        ordinary(&mut engine);
    }
    engine
}

#[test]
fn a_change_that_nobody_asked_about_is_scored_as_before_and_raises_no_alarm() {
    // (rules, host, latency, load, alarm without the rules, with them)
    let up = || vec![rule("latency_ms", Direction::Up, 0.0, 0.0)];
    let large = || vec![rule("latency_ms", Direction::Both, 500.0, 0.0)];
    let doubled = || vec![rule("latency_ms", Direction::Both, 0.0, 1.0)];
    let cases = [
        (up(), "slow", -20_000.0, 1.5, false),
        (up(), "slow", 20_000.0, 1.5, true),
        // What else is strange about it is not kept quiet.
        (up(), "slow", -20_000.0, 90.0, true),
        (up(), "slow", 1_000.0, 90.0, true),
        (
            vec![rule("latency_ms", Direction::Up, 0.0, 0.0), rule("load", Direction::Down, 0.0, 0.0)],
            "slow",
            -20_000.0,
            90.0,
            false,
        ),
        (vec![rule("latency_ms", Direction::Both, 30_000.0, 0.0)], "slow", 20_000.0, 1.5, false),
        (large(), "slow", 20_000.0, 1.5, true),
        (doubled(), "slow", 20_000.0, 1.5, true),
        (vec![rule("latency_ms", Direction::Both, 0.0, 30.0)], "slow", 20_000.0, 1.5, false),
        // The same change from the same value, and from what is usual for this host.
        (vec![rule("latency_ms", Direction::Both, 0.0, 30.0)], "fast", 20_000.0, 1.5, true),
        // A host never seen before: what is usual for all together.
        (vec![rule("latency_ms", Direction::Both, 0.0, 30.0)], "new", 20_000.0, 1.5, true),
        (vec![rule("latency_ms", Direction::Both, 0.0, 60.0)], "new", 20_000.0, 1.5, false),
    ];
    for (rules, host, latency_ms, load, alarm) in cases {
        let name = format!("{rules:?}: {host}, {latency_ms} ms, load {load}");
        let (mut loud, mut quiet) = (trained(STRANGE, &QuietSpec::default()), trained(STRANGE, &quiet(rules)));
        let (before, after) = (feed(&mut loud, host, latency_ms, load), feed(&mut quiet, host, latency_ms, load));
        assert!(before.alarm, "{name}: not strange: {}", before.prediction.score());
        assert_eq!(before.prediction.surprise.to_bits(), after.prediction.surprise.to_bits(), "{name}");
        assert_eq!(after.alarm, alarm, "{name}");
        assert_eq!(after.prediction.contributions.is_some(), alarm, "{name}");
        assert_eq!(quiet.counters.alarms_quieted, u64::from(!alarm), "{name}");
        assert_eq!(loud.detectors(), quiet.detectors(), "{name}: learned otherwise");
    }
}

#[test]
fn quieted_events_cost_no_budget() {
    let budget = DecisionSpec::AlarmBudget { alarms: 20.0, per_ms: 86_400_000.0 };
    let rules = quiet([rule("latency_ms", Direction::Up, 0.0, 0.0)]);
    let (mut loud, mut quiet) = (trained(budget, &QuietSpec::default()), trained(budget, &rules));
    let mut alarms = [0, 0];
    for i in 0..20 {
        for (engine, alarms) in [&mut loud, &mut quiet].into_iter().zip(&mut alarms) {
            *alarms += u32::from(feed(engine, "slow", -20_000.0 - f64::from(i), 1.5).alarm);
        }
    }
    assert!(alarms[0] > 0 && alarms[1] == 0, "{alarms:?}");
    assert!(quiet.counters.alarms_quieted > 10, "{:?}", quiet.counters);
    assert!(!feed(&mut loud, "slow", 20_000.0, 9_000.0).alarm, "the budget was not spent");
    assert!(feed(&mut quiet, "slow", 20_000.0, 9_000.0).alarm, "the budget was spent by what is quiet");
}

#[test]
fn a_false_alarm_rate_stays_one_of_p_values() {
    // Half of what is strange is quieted; the other half must not alarm twice as often for it.
    let rate = DecisionSpec::FalseAlarmRate(0.02);
    let run = |quiet: &QuietSpec| {
        let mut engine = engine(&blueprint(rate, quiet));
        let alarms = (0..30_000).filter(|_| ordinary(&mut engine).alarm).count();
        (alarms as f64, engine.counters.alarms_quieted as f64)
    };
    let (all, none) = run(&QuietSpec::default());
    let (loud, quieted) =
        run(&quiet([rule("load", Direction::Up, 0.0, 0.0), rule("latency_ms", Direction::Up, 0.0, 0.0)]));
    assert!(none == 0.0 && quieted > 50.0, "{quieted}");
    assert!((540.0..660.0).contains(&all), "{all}");
    assert!((540.0..660.0).contains(&(loud + quieted)), "{loud} and {quieted}");
}

#[test]
fn an_entity_has_one_open_alarm_and_others_have_their_own() {
    let spec = QuietSpec { period_ms: 600_000, features: Vec::new() };
    let mut engine = trained(STRANGER_THAN_MOST, &spec);
    // An incident of half an hour on one host, an event every 10 s; in its sixth minute another host joins in.
    let mut alarms = Vec::new();
    // An hour later: what was strange in the training is closed.
    let (start, before) = (engine.offset() * 1_000 + 3_600_000, engine.counters);
    for second in (0..1_800).step_by(10) {
        let at = start + second * 1_000;
        if feed_at(&mut engine, at, "slow", 20_000.0 + 10.0 * second as f64, 1.5).alarm {
            alarms.push(("slow", second));
        }
        if second == 300 && feed_at(&mut engine, at, "fast", 900_000.0, 1.5).alarm {
            alarms.push(("fast", second));
        }
    }
    assert_eq!(alarms, [("slow", 0), ("fast", 300), ("slow", 600), ("slow", 1_200)]);
    assert_eq!(engine.counters.alarms_in_open - before.alarms_in_open, 180 - 3);
    assert_eq!(engine.counters.alarms_quieted, 0);
}

#[test]
fn an_incident_that_becomes_much_worse_is_told_at_once() {
    let mut engine = trained(STRANGE, &QuietSpec { period_ms: 86_400_000, features: Vec::new() });
    let start = engine.offset() * 1_000 + 86_400_000;
    let alarms: Vec<usize> = [1_500.0, 1_500.0, 20_000.0, 20_000.0, 1_500.0]
        .into_iter()
        .enumerate()
        .filter(|(i, latency_ms)| feed_at(&mut engine, start + *i as i64 * 1_000, "slow", *latency_ms, 1.5).alarm)
        .map(|(i, _)| i)
        .collect();
    assert_eq!(alarms, [0, 2]);
}

#[test]
fn alarms_are_restored_bit_for_bit_and_rules_may_change() {
    let rules = |feature| QuietSpec { period_ms: 40_000, features: vec![rule(feature, Direction::Up, 1.0, 0.1)] };
    let old = blueprint(STRANGER_THAN_MOST, &rules("latency_ms"));
    let strange = |engine: &mut Partition| {
        let i = engine.offset();
        let latency_ms = if i % 2 == 0 { 20_000.0 } else { -20_000.0 };
        if i % 17 == 0 { feed(engine, "odd", latency_ms, 1.5) } else { ordinary(engine) }
    };
    let run = |engine: &mut Partition, n: usize| (0..n).map(|_| strange(engine)).collect::<Vec<_>>();
    let mut whole = trained(STRANGER_THAN_MOST, &rules("latency_ms"));
    let held = whole.snapshot();
    let restore = |blueprint: &Arc<Blueprint>| {
        let entities = held.entities.iter().map(|(name, seen, kept)| (name.clone(), *seen, kept.clone().unwrap()));
        let mut entities: Vec<_> = entities.collect();
        entities.sort_by_key(|(_, seen, _)| *seen);
        let globals = engine(blueprint).globals().clone();
        let mut engine =
            Partition::restore(blueprint.clone(), "requests", 0, 1, globals, &held.state, entities).unwrap();
        // What the first snapshot of an engine changes is all of it.
        engine.snapshot();
        engine
    };
    let mut restored = restore(&old);
    assert_eq!(run(&mut whole, 1_000), run(&mut restored, 1_000));
    assert_eq!(whole.snapshot(), restored.snapshot());
    assert!(whole.counters.alarms_in_open > 5 && whole.counters.alarms_quieted > 5, "{:?}", whole.counters);

    // Under other rules it goes on, and what was kept quiet alarms.
    let mut changed = restore(&blueprint(STRANGER_THAN_MOST, &rules("load")));
    let fell = |scored: &Scored| scored.alarm && scored.prediction.features.numbers[0] < 0.0;
    assert!(!run(&mut restore(&old), 1_000).iter().any(fell) && run(&mut changed, 1_000).iter().any(fell));
}
