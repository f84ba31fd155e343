//! Events per second of one core, step by step: JSON, decode, features, scoring and learning, the prediction as JSON.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod workload;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::FixedState;
use larum::config::Config;
use larum::decision::DecisionSpec;
use larum::engine::{Blueprint, EngineLimits, Outcome, Partition, Scored};
use larum::event::{Event, Record};
use larum::features::{WindowLimits, Windows};
use larum::learn::{Trainer, TrainerLimits};
use larum::model::{Kernel, Kind, ModelSpec};
use larum::wire::{Names, PredictionWriter};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const EVENTS: usize = 20_000;
const TOPIC: &str = "requests";

/// Drives one engine over the same payloads lap by lap; event time and offsets go on, so that windows stay in order and full.
struct Lane {
    blueprint: Arc<Blueprint>,
    engine: Partition,
    lap: i64,
}

impl Lane {
    fn new(payloads: &[&str], models: Vec<ModelSpec>) -> Self {
        let decision = DecisionSpec::AlarmBudget { alarms: 20.0, per_ms: 86_400_000.0 };
        let (spec, limits) = (workload::spec(), EngineLimits::default());
        let blueprint = Blueprint::new(&spec, workload::SQL, models, decision, 1, limits).expect("the bench's own");
        let blueprint = Arc::new(blueprint);
        let trainer = Trainer::new(&blueprint.models, blueprint.plan.columns(), TrainerLimits::default());
        let globals = Arc::new(trainer.expect("the bench's own models").globals());
        let engine = Partition::new(blueprint.clone(), TOPIC, 0, 1, 0, globals);
        let mut lane = Self { blueprint, engine, lap: 0 };
        lane.lap(payloads, |_| {}); // past the warm-up
        lane
    }

    fn lap(&mut self, payloads: &[&str], mut each: impl FnMut(&Scored)) {
        for (index, payload) in payloads.iter().enumerate() {
            let event = decode(&self.blueprint, payload, self.lap);
            let offset = self.lap * EVENTS as i64 + index as i64;
            match self.engine.handle_event(offset, &event) {
                Outcome::Scored(scored) => each(black_box(&scored)),
                other => panic!("the workload's events are scored, not {other:?}"),
            }
        }
        self.lap += 1;
    }
}

fn one_detector() -> Vec<ModelSpec> {
    let model = |name: &str, kind| ModelSpec::new(name, kind);
    vec![
        model("linear_regression", Kind::LinearRegression { targets: Vec::new() }),
        model("logistic_regression", Kind::LogisticRegression),
        model("svm", Kind::Svm { kernel: Kernel::Linear }),
    ]
}

fn default_models() -> Vec<ModelSpec> {
    let least =
        "[kafka]\nevents = \"requests\"\n[event.fields]\nx = \"double\"\n[features]\nsql = \"SELECT x FROM events\"\n";
    Config::parse("least".as_ref(), least, &|_| None).expect("the least configuration").models
}

fn decode<'a>(blueprint: &Blueprint, payload: &'a str, lap: i64) -> Event<'a> {
    let record = Record { offset: 0, timestamp_ms: -1, key: None, payload: Some(payload.as_bytes()) };
    let mut event = blueprint.decoder.decode(TOPIC, 0, &record).expect("the workload's own event");
    event.time_ms += lap * EVENTS as i64 * workload::STEP_MS;
    event
}

/// Decode and features alone, by the blueprint of a lane.
struct Features {
    blueprint: Arc<Blueprint>,
    entities: HashMap<String, Windows, FixedState>,
    lap: i64,
}

impl Features {
    fn lap(&mut self, payloads: &[&str]) {
        let limits = WindowLimits { rows_max: 10_000, lateness_ms: workload::spec().lateness_ms };
        for payload in payloads {
            let event = decode(&self.blueprint, payload, self.lap);
            let windows = match self.entities.get_mut(&*event.entity) {
                Some(windows) => windows,
                None => self.entities.entry(event.entity.to_string()).or_default(),
            };
            if self.blueprint.plan.selects(&event) {
                black_box(self.blueprint.plan.observe(&event, windows, &limits));
            }
        }
        self.lap += 1;
    }
}

fn write_json(writer: &PredictionWriter, scored: &Scored, payload: &mut Vec<u8>) {
    payload.clear();
    writer.write(payload, 0, scored);
}

fn timed(run: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    run();
    begin.elapsed()
}

fn bench(c: &mut Criterion) {
    let payloads = workload::payloads(EVENTS);
    let (mut lane, mut default_lane) = (Lane::new(&payloads, one_detector()), Lane::new(&payloads, default_models()));
    let blueprint = lane.blueprint.clone();
    let names = Names {
        columns: blueprint.plan.columns().to_vec(),
        models: blueprint.models.iter().map(|model| model.name.clone()).collect(),
    };
    let writer = PredictionWriter::new(&names, TOPIC);
    let mut features = Features { blueprint: blueprint.clone(), entities: HashMap::default(), lap: 0 };
    features.lap(&payloads);

    let mut group = c.benchmark_group("engine_10_features_3_windows_1000_entities");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20);
    // What merely reading the same bytes as JSON costs, for ratios.
    group.bench_function("json_alone", |b| {
        b.iter(|| {
            for payload in &payloads {
                black_box(serde_json::from_str::<serde::de::IgnoredAny>(payload).expect("the workload is JSON"));
            }
        });
    });
    group.bench_function("decode", |b| {
        b.iter(|| {
            for payload in &payloads {
                black_box(decode(&blueprint, payload, 0));
            }
        });
    });
    group.bench_function("decode_features", |b| b.iter(|| features.lap(&payloads)));
    // The engine does both in one go: each lap of it follows one of decode and features, and the difference counts.
    group.bench_function("score_learn", |b| {
        b.iter_custom(|laps| {
            let (mut without, mut with) = (Duration::ZERO, Duration::ZERO);
            for _ in 0..laps {
                without += timed(|| features.lap(&payloads));
                with += timed(|| lane.lap(&payloads, |_| {}));
            }
            // Only noise could make the difference vanish; criterion takes no zero.
            with.saturating_sub(without).max(Duration::from_nanos(1))
        });
    });
    group.bench_function("whole", |b| b.iter(|| lane.lap(&payloads, |_| {})));
    group.bench_function("whole_default_models", |b| b.iter(|| default_lane.lap(&payloads, |_| {})));
    let mut payload = Vec::new();
    group.bench_function("whole_and_prediction_json", |b| {
        b.iter(|| lane.lap(&payloads, |scored| write_json(&writer, scored, black_box(&mut payload))));
    });
    let mut kept = Vec::new();
    lane.lap(&payloads, |scored| kept.push(scored.clone()));
    group.bench_function("prediction_json", |b| {
        b.iter(|| kept.iter().for_each(|scored| write_json(&writer, scored, black_box(&mut payload))));
    });
    group.finish();
    println!("a prediction has {} bytes", payload.len());
}

criterion_group!(benches, bench);
criterion_main!(benches);
