//! How fast labels are folded: a prepared label log with 20 dense features into one logistic regression, with and without reading its JSON.
//! `benches/labels/run --parts speed` folds the same examples into Vowpal Wabbit, in the same run.

use std::hint::black_box;
use std::io::Write;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use larum::draw::{Draw, Purpose};
use larum::features::{Column, ColumnKind, FeatureVector};
use larum::learn::{Entry, Trainer, TrainerLimits};
use larum::model::{Encoded, Hashing, Kind, Label, Lesson, Model, ModelSpec};
use larum::wire::{LabelLogReader, Names, example_to_label_log};

const FEATURES: usize = 20;
const EXAMPLES: i64 = 50_000;

fn features(row: i64) -> FeatureVector {
    let unit = |column: usize| Draw::new(column as u64).unit(Purpose::Traffic, row.unsigned_abs());
    // Six digits, as in the file that is prepared for Vowpal Wabbit.
    let numbers = (0..FEATURES).map(|column| (1e6 * (unit(column) + unit(99))).round() / 1e6).collect();
    FeatureVector { numbers, categories: [].into() }
}

fn label(row: i64) -> Label {
    let x = features(row).numbers;
    if x[0] + x[1] > 2.9 { Label::Anomaly } else { Label::Normal }
}

fn names() -> Names {
    let columns = (0..FEATURES).map(|i| Column { name: format!("f{i}"), kind: ColumnKind::Number }).collect();
    Names { columns, models: vec!["logistic".into()] }
}

fn spec() -> ModelSpec {
    ModelSpec::new("logistic", Kind::LogisticRegression)
}

fn fold(c: &mut Criterion) {
    let names = names();
    let records: Vec<Vec<u8>> =
        (0..EXAMPLES).map(|row| example_to_label_log(&names, "bench", row, label(row), &features(row))).collect();
    // The same examples for Vowpal Wabbit, where somebody wants them.
    if let Ok(path) = std::env::var("LARUM_FOLD_VW") {
        write_vw(&path).expect("the file can be written");
    }
    let entry = |row| Entry::Example { upload: "bench".into(), row, label: label(row), features: features(row) };
    let entries: Vec<Entry> = (0..EXAMPLES).map(entry).collect();
    let trainer = || Trainer::new(&[spec()], &names.columns, TrainerLimits::default()).expect("twenty features");

    let mut group = c.benchmark_group("fold/20 features, one logistic regression");
    group.throughput(Throughput::Elements(EXAMPLES.unsigned_abs())).sample_size(10);
    group.bench_function("from the JSON of the label log", |b| {
        b.iter(|| {
            let (mut trainer, mut reader) = (trainer(), LabelLogReader::new(names.clone()));
            for (record, offset) in records.iter().zip(0..) {
                trainer.fold(offset, reader.read(record).expect("an example"));
            }
            black_box(trainer.version())
        });
    });
    group.bench_function("from entries that have been read", |b| {
        b.iter_with_setup(
            || entries.clone(),
            |entries| {
                let mut trainer = trainer();
                for (entry, offset) in entries.into_iter().zip(0..) {
                    trainer.fold(offset, Some(entry));
                }
                black_box(trainer.version())
            },
        );
    });
    group.finish();

    // Where the time of one label goes.
    let hashing = Hashing::new(&names.columns);
    let encoded: Vec<(Encoded, Label)> =
        (0..EXAMPLES).map(|row| (hashing.encode(&features(row)), label(row))).collect();
    let mut model = Model::new(&spec(), &names.columns).expect("twenty features");
    let mut group = c.benchmark_group("one label, 20 features");
    let mut at = 0;
    let mut next = || {
        at = (at + 1) % encoded.len();
        &encoded[at]
    };
    group.bench_function("scaling", |b| b.iter(|| model.learn(&next().0, Lesson::Scale)));
    group.bench_function("all of it", |b| {
        b.iter(|| {
            let (x, label) = next();
            model.learn(x, Lesson::Label { label: *label, weight: 1.0 });
        });
    });
    group.bench_function("margin", |b| b.iter(|| model.strangeness(&next().0)));
    group.bench_function("probability", |b| b.iter(|| model.probability(&next().0)));
    group.finish();
}

fn write_vw(path: &str) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    for row in 0..EXAMPLES {
        write!(out, "{} |", if label(row) == Label::Anomaly { 1 } else { -1 })?;
        for (i, x) in features(row).numbers.iter().enumerate() {
            write!(out, " f{i}:{x}")?;
        }
        writeln!(out)?;
    }
    out.flush()
}

criterion_group!(benches, fold);
criterion_main!(benches);
