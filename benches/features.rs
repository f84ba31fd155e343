//! Decode and features, per core: 269 to 279 bytes of JSON, 10 features, 3 windows, 1,000 entities; and what an entity takes of memory.

mod workload;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::FixedState;
use larum::event::{Decoder, Event, Record, Schema, Value};
use larum::features::{Plan, WindowLimits, Windows};
use std::collections::HashMap;
use std::hint::black_box;

const EVENTS: usize = 20_000;

/// Bytes of memory that this process holds, as far as the system says so.
fn resident_bytes() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split(' ').nth(1)?.parse::<usize>().ok().map(|pages| pages * 4096)
}

/// What the process grows by for so many entities of so many rows each, name and hash table included.
fn memory(plan: &Plan, entities: usize, rows: usize) {
    let limits = WindowLimits { rows_max: 10_000, lateness_ms: 60_000 };
    // With the lateness, the five minutes hold all rows but the ones of `ROWS 19 PRECEDING` when there are fewer.
    let step_ms = 360_000 / rows as i64;
    let before = resident_bytes();
    let mut windows: HashMap<Box<str>, Windows, FixedState> =
        HashMap::with_capacity_and_hasher(entities, FixedState::default());
    let mut kept = 0;
    for entity in 0..entities {
        let name = format!("web-{entity:06}.shop.example.net");
        let of_entity = windows.entry(name.clone().into()).or_default();
        // Half as many again, so that rows have left and the stacks are as they are for ever after.
        for row in 0..rows * 3 / 2 + entity % rows {
            let time_ms = row as i64 * step_ms;
            let field = |field: &String| match field.as_str() {
                "status" => Value::Bigint(200),
                "bytes" => Value::Bigint((row * entity) as i64 % 65_521),
                "latency_ms" => Value::Double(row as f64 / 3.0),
                _ => Value::Null,
            };
            let fields = plan.inputs().iter().map(field).collect();
            let event = Event { id: "".into(), time_ms, entity: name.as_str().into(), fields };
            black_box(plan.observe(&event, of_entity, &limits));
        }
        kept += of_entity.rows();
    }
    let (Some(before), Some(after)) = (before, resident_bytes()) else {
        println!("how much memory a process holds is only known on Linux");
        return;
    };
    let per_entity = (after - before) as f64 / entities as f64;
    let exact = (kept * plan.window_row_bytes()) as f64 / entities as f64;
    println!(
        "{entities} entities with 3 windows and {:.1} rows of {} bytes each: {per_entity:.0} bytes an entity, {:.0} beside the exact rows",
        kept as f64 / entities as f64,
        plan.window_row_bytes(),
        per_entity - exact,
    );
    // Freed memory would be used again, and the next measurement would not see it.
    std::mem::forget(windows);
}

fn bench(c: &mut Criterion) {
    let spec = workload::spec();
    let plan = Plan::compile(workload::SQL, &Schema::new(&spec).expect("the bench's own schema"), &spec)
        .expect("the bench's own query");
    // Whoever asks for one bench does not ask for this; `--test` only sees that it runs.
    if std::env::args().skip(1).all(|argument| argument.starts_with("--")) {
        let share = if std::env::args().any(|argument| argument == "--test") { 100 } else { 1 };
        for (entities, rows) in [(100_000, 18), (20_000, 64), (200, 5_000)] {
            memory(&plan, entities / share, rows);
        }
    }
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
