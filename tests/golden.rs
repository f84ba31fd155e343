//! Model files in `models/`: one of every kind that learns from labels, which this and every later larum reads and scores to the bit, and those that
//! `larum demo --trained` starts with. `cargo test --test golden -- --ignored` makes them anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use flate2::read::GzDecoder;
use larum::config::Config;
use larum::engine::{Blueprint, TrainingData};
use larum::features::FeatureVector;
use larum::learn::{Entry, Fitted, Trainer, TrainerLimits, refit};
use larum::model::{Hashing, Kernel, Kind, Label, Learner, LearnsFrom, Model, ModelSpec, Shape};
use larum::replay::{Options, Source};
use larum::shop::{START_MS, Shop, larum_toml};
use larum::wire::{Names, artifact_from_json, artifact_to_json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PAYMENTS: &str = "datasets/payments.csv";
const EXPECTED: &str = "models/golden/expected.csv";
/// Payments that the golden models were fitted to.
const FITTED_ROWS: usize = 1_500;
/// Trees kept of the golden forest: all hundred would be 2 MB.
const TREES: usize = 8;
/// The shop that the demo's models were fitted to: another one than any demo is likely to show.
const SHOP_SEED: u64 = 20_260_301;
const SHOP_EVENTS: usize = 60_000;

/// The models of a configuration, and what it makes of a file.
struct Setting {
    blueprint: Arc<Blueprint>,
    names: Names,
}

impl Setting {
    fn of(config: &Config) -> Self {
        let blueprint = larum::cli::run::blueprint(config).unwrap();
        let names = Names::of(&blueprint);
        Self { blueprint, names }
    }

    /// What the golden models were fitted with. Its features must stay: they are the names that the files hold.
    fn payments() -> Self {
        Self::of(&Config::load(Path::new("datasets/payments.toml")).unwrap())
    }

    fn shop() -> Self {
        Self::of(&Config::parse(Path::new("larum.toml"), larum_toml(), &|_| None).unwrap())
    }

    fn rows(&self, file: &Path, label: &str) -> Vec<(FeatureVector, Label)> {
        let options = Options { label: Some(label.into()), ..Options::default() };
        let mut input = Source::open(file).unwrap().rows(&options).unwrap();
        let mut training = TrainingData::new(self.blueprint.clone());
        let mut rows = Vec::new();
        while let Some(row) = input.next_row().unwrap() {
            let event = row.event(&self.blueprint.decoder, "file", rows.len() as i64).unwrap();
            let label = if row.truth().unwrap() { Label::Anomaly } else { Label::Normal };
            rows.push((training.features(&event).unwrap(), label));
        }
        rows
    }

    fn label_learners(&self) -> Vec<&ModelSpec> {
        let models = self.blueprint.models.iter().zip(self.blueprint.parts());
        models.filter(|(_, part)| part.learns_from == LearnsFrom::Labels).map(|(spec, _)| spec).collect()
    }

    /// Every model that learns from labels, refitted to these rows, as a file.
    fn fitted(&self, rows: &[(FeatureVector, Label)]) -> Vec<(&ModelSpec, Vec<u8>)> {
        let columns = self.blueprint.plan.columns();
        let mut trainer = Trainer::new(&self.blueprint.models, columns, TrainerLimits::default()).unwrap();
        for ((features, label), row) in rows.iter().zip(1..) {
            let (upload, features) = ("rows".into(), features.clone());
            trainer.fold(row - 1, Some(Entry::Example { upload, row, label: *label, features }));
        }
        let examples = trainer.examples();
        let fit = |(place, spec): (usize, &ModelSpec)| {
            let challenge = refit::challenge(&examples, place, self.blueprint.seed, &mut |_| true).unwrap();
            artifact_to_json(&self.names, spec.kind.name(), &challenge.fitted).unwrap()
        };
        self.label_learners().into_iter().enumerate().map(|(place, spec)| (spec, fit((place, spec)))).collect()
    }

    /// A file, as the model of this configuration that it is for.
    fn learner(&self, spec: &ModelSpec, file: &Path) -> Learner {
        let (kind, Fitted { form, calibration }) = artifact_from_json(&self.names, &fs::read(file).unwrap()).unwrap();
        assert_eq!(kind, spec.kind.name());
        let model = Model::new(spec, self.blueprint.plan.columns()).unwrap();
        model.learner().unwrap().refitted(form, calibration)
    }
}

fn golden(spec: &ModelSpec) -> PathBuf {
    Path::new("models/golden").join(format!("{}.json", spec.name))
}

fn of_the_shop(spec: &ModelSpec) -> PathBuf {
    Path::new("models/shop").join(format!("{}.json", spec.name))
}

fn shop_lines(seed: u64, events: usize) -> Vec<u8> {
    let mut lines = Vec::new();
    for event in Shop::new(seed, START_MS).events().take(events) {
        event.write_json_with_truth(&mut lines);
        lines.push(b'\n');
    }
    lines
}

fn shop_rows(setting: &Setting, seed: u64, events: usize) -> Vec<(FeatureVector, Label)> {
    let mut file = tempfile::Builder::new().suffix(".ndjson").tempfile().unwrap();
    file.write_all(&shop_lines(seed, events)).unwrap();
    setting.rows(file.path(), "anomaly")
}

/// What the golden models are asked: payments that they were not fitted to, and such as are rare.
fn asked(setting: &Setting) -> Vec<FeatureVector> {
    let vector = |numbers: [f64; 3], categories: [Option<&str>; 2]| FeatureVector {
        numbers: numbers.into(),
        categories: categories.map(|category| category.map(Into::into)).into(),
    };
    let rows = setting.rows(Path::new(PAYMENTS), "fraud").into_iter().skip(FITTED_ROWS);
    let (frauds, normals): (Vec<_>, Vec<_>) = rows.partition(|(_, label)| *label == Label::Anomaly);
    let few = frauds.into_iter().step_by(12).take(12).chain(normals.into_iter().step_by(300).take(12));
    few.map(|(features, _)| features)
        .chain([
            vector([f64::NAN; 3], [None; 2]),
            vector([5.2, 3.1, f64::NAN], [Some("FR"), Some("gift_cards")]),
            vector([-1e30, 1e30, 1e-300], [Some("a country that nobody has seen"), Some("online")]),
            vector([0.1 + 0.2, -0.0, 1.0 / 3.0], [None, Some("online")]),
        ])
        .collect()
}

/// The header of `expected.csv`: the columns of the query, then f(x) and P(anomaly) by each model.
fn header(setting: &Setting) -> Vec<String> {
    let columns = setting.names.columns.iter().map(|column| column.name.clone());
    let said = setting.label_learners().into_iter().flat_map(|spec| ["f", "p"].map(|of| format!("{of}:{}", spec.name)));
    columns.chain(said).collect()
}

#[test]
fn golden_models_say_the_same_bits() {
    let setting = Setting::payments();
    let hashing = Hashing::new(setting.blueprint.plan.columns());
    let learners: Vec<(&ModelSpec, Learner)> =
        setting.label_learners().into_iter().map(|spec| (spec, setting.learner(spec, &golden(spec)))).collect();
    let mut expected = csv::Reader::from_path(EXPECTED).unwrap();
    assert_eq!(expected.headers().unwrap(), header(&setting));
    let mut rows = 0;
    for record in expected.records() {
        let record = record.unwrap();
        let number = |cell: &str| if cell.is_empty() { f64::NAN } else { cell.parse().unwrap() };
        let text = |cell: &str| Some(cell.into()).filter(|_| !cell.is_empty());
        let features = FeatureVector {
            numbers: (0..3).map(|at| number(&record[at])).collect(),
            categories: (3..5).map(|at| text(&record[at])).collect(),
        };
        let x = hashing.encode(&features);
        for ((spec, learner), at) in learners.iter().zip((5..).step_by(2)) {
            for (found, expected) in [(learner.margin(&x), &record[at]), (learner.probability(&x), &record[at + 1])] {
                // Written with as many digits as tell a number from its neighbours: read again, it is the same bits.
                let expected: f64 = expected.parse().unwrap();
                assert_eq!(
                    found.to_bits(),
                    expected.to_bits(),
                    "{}: {found} and {expected} of {features:?}",
                    spec.name
                );
            }
        }
        rows += 1;
    }
    assert_eq!(rows, 28);
}

#[test]
fn golden_models_are_of_every_kind_and_are_written_as_they_were_read() {
    let setting = Setting::payments();
    for spec in setting.label_learners() {
        let json = fs::read(golden(spec)).unwrap();
        let (kind, fitted) = artifact_from_json(&setting.names, &json).unwrap();
        assert_eq!(artifact_to_json(&setting.names, &kind, &fitted).unwrap(), json, "{}", spec.name);
    }
    let is_there = |wanted: &dyn Fn(&Kind) -> bool| setting.label_learners().into_iter().any(|spec| wanted(&spec.kind));
    assert!(is_there(&|kind| matches!(kind, Kind::LogisticRegression)));
    assert!(is_there(&|kind| matches!(kind, Kind::LabelRegression)));
    assert!(is_there(&|kind| matches!(kind, Kind::ExtraTrees)));
    assert!(is_there(&|kind| matches!(kind, Kind::Svm { kernel: Kernel::Linear })));
    for shape in [Shape::Rbf, Shape::Poly { degree: 3 }] {
        assert!(is_there(&|kind| {
            matches!(kind, Kind::Svm { kernel: Kernel::Curved(settings) } if settings.shape == shape)
        }));
    }
}

#[test]
fn the_demos_models_know_incidents_of_another_seed() {
    let setting = Setting::shop();
    let rows = shop_rows(&setting, 1, 20_000);
    let truth: Vec<bool> = rows.iter().map(|(_, label)| *label == Label::Anomaly).collect();
    let hashing = Hashing::new(setting.blueprint.plan.columns());
    for spec in setting.label_learners() {
        let learner = setting.learner(spec, &of_the_shop(spec));
        let said: Vec<f64> = rows.iter().map(|(features, _)| learner.probability(&hashing.encode(features))).collect();
        let found = larum::quality::average_precision(&said, &truth).unwrap();
        println!("{}: average precision {found:.3}", spec.name);
        assert!(found > 0.6, "{}: {found}", spec.name);
    }
}

#[test]
fn the_shops_sample_is_what_generate_writes() {
    let mut sample = Vec::new();
    GzDecoder::new(fs::File::open("datasets/shop.ndjson.gz").unwrap()).read_to_end(&mut sample).unwrap();
    assert!(sample == shop_lines(6, 16_000), "datasets/README.md says how to make it anew");
}

#[test]
#[ignore = "writes models/"]
fn write_the_models() {
    let setting = Setting::payments();
    let rows = setting.rows(Path::new(PAYMENTS), "fraud");
    for (spec, json) in setting.fitted(&rows[..FITTED_ROWS]) {
        let mut artifact: serde_json::Value = serde_json::from_slice(&json).unwrap();
        if let Some(trees) = artifact.pointer_mut("/model/trees").and_then(serde_json::Value::as_array_mut) {
            trees.truncate(TREES);
        }
        // Read and written once more, for the order of its keys.
        let (kind, fitted) = artifact_from_json(&setting.names, &serde_json::to_vec(&artifact).unwrap()).unwrap();
        let json = artifact_to_json(&setting.names, &kind, &fitted).unwrap();
        fs::write(golden(spec), json).unwrap();
    }
    let learners: Vec<Learner> =
        setting.label_learners().into_iter().map(|spec| setting.learner(spec, &golden(spec))).collect();
    let hashing = Hashing::new(setting.blueprint.plan.columns());
    let mut expected = csv::Writer::from_path(EXPECTED).unwrap();
    expected.write_record(header(&setting)).unwrap();
    for features in asked(&setting) {
        let x = hashing.encode(&features);
        let numbers = features.numbers.iter().map(|x| if x.is_nan() { String::new() } else { format!("{x:?}") });
        let categories = features.categories.iter().map(|text| text.as_deref().unwrap_or_default().to_owned());
        let said = learners.iter().flat_map(|learner| [learner.margin(&x), learner.probability(&x)]);
        expected.write_record(numbers.chain(categories).chain(said.map(|x| format!("{x:?}")))).unwrap();
    }
    expected.flush().unwrap();

    let setting = Setting::shop();
    for (spec, json) in setting.fitted(&shop_rows(&setting, SHOP_SEED, SHOP_EVENTS)) {
        fs::write(of_the_shop(spec), json).unwrap();
    }
}
