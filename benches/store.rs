//! How fast the store takes rows: 10 features, commits of 10,000 rows, sealing included. Run with `cargo bench --bench store`.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::sync::Arc;
use std::time::Instant;

use larum::features::{Column, ColumnKind, FeatureVector};
use larum::store::{Commit, Filter, Layout, Limits, PartitionCommit, ScoredRow, Store};

const FEATURES: usize = 10;
const PARTITIONS: i32 = 4;
const COMMIT_ROWS: usize = 10_000;

fn main() {
    // `cargo test --benches` runs this too: then a little is enough.
    let rows: usize = if std::env::args().any(|arg| arg == "--bench") { 1_000_000 } else { 20_000 };
    let directory = tempfile::tempdir().expect("a directory for the database");
    let numbers: Vec<Column> =
        (0..FEATURES).map(|n| Column { name: format!("feature_{n}"), kind: ColumnKind::Number }).collect();
    let models = vec!["covariance".to_owned()];
    let layout = Layout { numbers: &numbers, categories: &[], models: &models };
    let url = format!("sqlite:{}", directory.path().join("bench.db").display());
    let (store, mut writer) = Store::open(&url, layout, Limits::default()).expect("the store opens");
    let mut seconds = 0.0;
    let mut slowest = (0.0, 0.0);
    let mut offsets = [0; PARTITIONS as usize];
    for start in (0..rows).step_by(COMMIT_ROWS) {
        let commit = commit(start, &mut offsets);
        let began = Instant::now();
        writer.commit(&commit).expect("the commit is taken");
        let committed = began.elapsed().as_secs_f64();
        while writer.maintain(0).expect("maintenance works").more {}
        let maintained = began.elapsed().as_secs_f64();
        seconds += maintained;
        slowest = (f64::max(slowest.0, committed), f64::max(slowest.1, maintained - committed));
    }
    println!("commit+seal/{rows}_rows_of_{FEATURES}: {:.0} rows/s", rows as f64 / seconds);
    println!("slowest commit {:.1} ms, slowest maintenance {:.1} ms", slowest.0 * 1e3, slowest.1 * 1e3);
    let stats = store.read(|reader| reader.stats()).expect("figures");
    println!("{} segments, {:.0} bytes per row", stats.segments, stats.bytes as f64 / stats.rows as f64);
    time("prediction by event id", || {
        store.read(|reader| reader.prediction(&event_id(rows / 3))).expect("found").expect("stored");
    });
    time("prediction of an unknown event", || {
        assert!(store.read(|reader| reader.prediction("nobody")).expect("searched").is_none());
    });
    let filters = [
        ("newest 100", Filter { limit: 100, ..Filter::default() }),
        ("newest 100 of an entity", Filter { limit: 100, entity: Some("host-17".to_owned()), ..Filter::default() }),
        ("newest 100 alarms", Filter { limit: 100, alarm: Some(true), ..Filter::default() }),
        ("100 from the middle", Filter { limit: 100, to_ms: Some(rows as i64 / 2), ..Filter::default() }),
    ];
    for (name, filter) in &filters {
        time(name, || {
            assert!(!store.read(|reader| reader.predictions(filter)).expect("a page").rows.is_empty());
        });
    }
}

fn time(name: &str, mut once: impl FnMut()) {
    once();
    let began = Instant::now();
    for _ in 0..20 {
        once();
    }
    println!("{name}: {:.2} ms", began.elapsed().as_secs_f64() * 1e3 / 20.0);
}

/// A number without a pattern.
fn scatter(n: usize) -> u64 {
    (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn event_id(n: usize) -> String {
    format!("{:016x}{:08x}", scatter(n), n)
}

fn commit(start: usize, offsets: &mut [i64; PARTITIONS as usize]) -> Commit {
    let topic: Arc<str> = Arc::from("requests");
    let per_partition = COMMIT_ROWS / PARTITIONS as usize;
    let part = |partition: i32| {
        let first = offsets[partition as usize];
        let next_offset = first + per_partition as i64;
        let row = |offset: i64| {
            let n = start + (offset - first) as usize * PARTITIONS as usize + partition as usize;
            ScoredRow {
                event_id: event_id(n),
                topic: Arc::clone(&topic),
                partition,
                offset,
                time_ms: n as i64,
                entity: format!("host-{}", scatter(n) % 1_000),
                score: (scatter(n) >> 11) as f64 / (1u64 << 53) as f64 * 0.4,
                p_value: 0.37,
                alarm: n.is_multiple_of(10_000),
                warmup: None,
                model_version: 12,
                scores: vec![Some(0.123_456_789)],
                features: FeatureVector {
                    numbers: (0..FEATURES).map(|f| (scatter(n + f) >> 11) as f64 * 1e-9).collect(),
                    categories: Box::default(),
                },
                contributions: None,
            }
        };
        PartitionCommit {
            topic: Arc::clone(&topic),
            partition,
            expected_offset: (first > 0).then_some(first),
            next_offset,
            rows: (first..next_offset).map(row).collect(),
            adoption: None,
            snapshot: None,
        }
    };
    let parts: Vec<PartitionCommit> = (0..PARTITIONS).map(part).collect();
    for part in &parts {
        offsets[part.partition as usize] = part.next_offset;
    }
    Commit { parts, ..Commit::default() }
}
