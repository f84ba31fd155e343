//! Decode and features, per core: 269 to 279 bytes of JSON, 10 features, 3 windows, 1,000 entities.

mod workload;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::FixedState;
use larum::event::{Decoder, Record, Schema};
use larum::features::{Plan, WindowLimits, Windows};
use std::collections::HashMap;
use std::hint::black_box;

const EVENTS: usize = 20_000;

fn bench(c: &mut Criterion) {
    let spec = workload::spec();
    let plan = Plan::compile(workload::SQL, &Schema::new(&spec).expect("the bench's own schema"), &spec)
        .expect("the bench's own query");
    let decoder = Decoder::new(&spec, plan.inputs()).expect("the bench's own inputs");
    let payloads = workload::payloads(EVENTS);
    let limits = WindowLimits { rows_max: 10_000, lateness_ms: spec.lateness_ms };
    let record =
        |payload: &'static str| Record { offset: 0, timestamp_ms: -1, key: None, payload: Some(payload.as_bytes()) };

    let mut group = c.benchmark_group("features");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20);
    group.bench_function("decode_8_of_12_fields", |b| {
        b.iter(|| {
            for payload in &payloads {
                black_box(decoder.decode("t", 0, &record(payload)).expect("the bench's own event"));
            }
        });
    });
    let mut entities: HashMap<String, Windows, FixedState> = HashMap::default();
    group.bench_function("decode_and_10_features_3_windows_1000_entities", |b| {
        let mut lap = 0;
        b.iter(|| {
            for payload in &payloads {
                let mut event = decoder.decode("t", 0, &record(payload)).expect("the bench's own event");
                // Each lap continues the time of the last one, so that the windows stay in order and full.
                event.time_ms += lap * EVENTS as i64 * workload::STEP_MS;
                let windows = match entities.get_mut(&*event.entity) {
                    Some(windows) => windows,
                    None => entities.entry(event.entity.to_string()).or_default(),
                };
                if plan.selects(&event) {
                    black_box(plan.observe(&event, windows, &limits));
                }
            }
            lap += 1;
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
