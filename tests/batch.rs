//! Online models against the optimum that a batch solver finds on the same rows, and refits against scikit-learn. tests/data/labels/make.py made the numbers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use larum::features::{Column, ColumnKind};
use larum::learn::{Example, Examples, refit};
use larum::model::{Description, Encoded, Kernel, KernelSettings, Kind, Label, Lesson, Model, ModelSpec, Shape};
use serde_json::Value;
use std::sync::Arc;

const PASSES: usize = 20;

struct Row {
    x: Encoded,
    label: Label,
}

impl Row {
    fn class(&self) -> f64 {
        if self.label == Label::Anomaly { 1.0 } else { -1.0 }
    }
}

/// The rows of one part: `train` or `test`.
fn rows(part: &str) -> Vec<Row> {
    let mut reader = csv::Reader::from_path("tests/data/labels/rows.csv").unwrap();
    let row = |record: csv::StringRecord| {
        let values = (1..6).map(|column| record[column].parse().unwrap()).collect();
        let label = if &record[6] == "1" { Label::Anomaly } else { Label::Normal };
        (&record[0] == part).then_some(Row { x: Encoded { values, buckets: vec![] }, label })
    };
    let rows: Vec<Row> = reader.records().filter_map(|record| row(record.unwrap())).collect();
    assert_eq!(rows.len(), 600);
    rows
}

fn reference(file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(format!("tests/data/labels/{file}")).unwrap()).unwrap()
}

fn model(kind: Kind) -> Model {
    let columns: Vec<Column> = (0..5).map(|i| Column { name: format!("x{i}"), kind: ColumnKind::Number }).collect();
    Model::new(&ModelSpec::new("m", kind), &columns).unwrap()
}

/// Each label weighs so little that all passes together push as one label of the batch.
fn curved(shape: Shape, c: f64) -> Kind {
    let settings = KernelSettings { c, support_vectors_max: 4_096, gamma: Some(0.2), ..KernelSettings::new(shape) };
    Kind::Svm { kernel: Kernel::Curved(settings) }
}

fn taught(kind: Kind, rows: &[Row]) -> Model {
    let mut model = model(kind);
    for _ in 0..PASSES {
        for row in rows {
            model.learn(&row.x, Lesson::Label { label: row.label, weight: 1.0 });
        }
    }
    model
}

type LossOfMargin = fn(f64) -> f64;

#[test]
fn linear_models_reach_the_optimum_of_a_batch_solver() {
    let (rows, optimum) = (rows("train"), reference("optimum.json"));
    let losses: [(Kind, &str, LossOfMargin); 3] = [
        (Kind::LogisticRegression, "logistic", |m| libm::log1p(libm::exp(-m))),
        (Kind::Svm { kernel: Kernel::Linear }, "hinge", |m| (1.0 - m).max(0.0)),
        (Kind::LabelRegression, "squared", |m| 0.5 * (1.0 - m) * (1.0 - m)),
    ];
    for (kind, name, loss) in losses {
        let model = taught(kind, &rows);
        let mean =
            rows.iter().map(|row| loss(row.class() * model.strangeness(&row.x))).sum::<f64>() / rows.len() as f64;
        let best = optimum[name]["mean_loss"].as_f64().unwrap();
        println!("{name}: {mean:.5} after {PASSES} passes, optimum {best:.5}, {:+.2} %", 100.0 * (mean / best - 1.0));
        assert!((0.99..1.01).contains(&(mean / best)), "{name}: {mean}, optimum {best}");
    }
}

#[test]
fn kernel_machines_reach_the_optimum_of_a_batch_solver() {
    let (rows, optimum) = (rows("train"), reference("optimum.json"));
    for (shape, name) in [(Shape::Rbf, "kernel_rbf"), (Shape::Poly { degree: 3 }, "kernel_poly")] {
        let model = taught(curved(shape, 1.0 / PASSES as f64), &rows);
        let hinge: f64 = rows.iter().map(|row| (1.0 - row.class() * model.strangeness(&row.x)).max(0.0)).sum();
        let Some(Description::Kernel { support_vectors, .. }) = Description::of(model.learner().unwrap().form()) else {
            panic!("a kernel machine")
        };
        // |f|^2 is the sum of the coefficients times f at their support vectors.
        let norm: f64 = (support_vectors.iter())
            .map(|vector| {
                let values = vector.values.iter().map(|x| x.unwrap()).collect();
                vector.coefficient * model.strangeness(&Encoded { values, buckets: vec![] })
            })
            .sum();
        let objective = 0.5 * norm + hinge;
        // What the dual reaches is below every optimum of the same rows and scaling: no more than this gap can be missing.
        let pushes: f64 = support_vectors.iter().map(|vector| vector.coefficient.abs()).sum();
        let gap = (objective - (pushes - 0.5 * norm)) / objective;
        let best = optimum[name]["primal"].as_f64().unwrap();
        let (beyond, vectors) = (objective / best - 1.0, support_vectors.len());
        println!(
            "{name}: {objective:.3} with {vectors} support vectors, duality gap {:.2} %; a batch solver found {best:.3}, {:+.2} %",
            100.0 * gap,
            100.0 * beyond
        );
        assert!((0.0..0.01).contains(&gap), "{name}: a gap of {gap}");
        // Its scaling differs in the tail: a running one learns of a value at most ten deviations.
        assert!((-0.02..0.01).contains(&beyond), "{name}: {objective}, optimum {best}");
    }
}

#[test]
fn refits_rank_as_those_of_scikit_learn_on_the_same_rows() {
    let (train, test, reference) = (rows("train"), rows("test"), reference("refit.json"));
    let truth: Vec<bool> = test.iter().map(|row| row.label == Label::Anomaly).collect();
    let auc = |kind: &Kind, seed: u64| {
        let mut model = model(kind.clone());
        for row in &train {
            model.learn(&row.x, Lesson::Label { label: row.label, weight: 1.0 });
        }
        let example = |(offset, row): (usize, &Row)| Example {
            offset: offset as i64,
            x: Arc::new(row.x.clone()),
            label: row.label,
            said: Arc::default(),
        };
        let examples = Examples {
            labelled: train.iter().enumerate().map(example).collect(),
            background: vec![],
            models: vec![model.clone()],
            normals: 0,
            through: 600,
        };
        let fitted = refit::fit_all(&examples, 0, seed).unwrap();
        let refitted = model.refitted(&fitted.form, &fitted.calibration);
        let scores: Vec<f64> = test.iter().map(|row| refitted.strangeness(&row.x)).collect();
        larum::quality::auc(&scores, &truth).unwrap()
    };
    let kinds = [
        (Kind::LogisticRegression, "logistic_regression", 1),
        (Kind::Svm { kernel: Kernel::Linear }, "svc_linear", 1),
        (Kind::LabelRegression, "ridge", 1),
        (curved(Shape::Rbf, 1.0), "svc_rbf", 1),
        (curved(Shape::Poly { degree: 3 }, 1.0), "svc_poly", 1),
        (Kind::ExtraTrees, "extra_trees", 5),
    ];
    let mut worse = Vec::new();
    for (kind, name, seeds) in kinds {
        let mean = (0..seeds).map(|seed| auc(&kind, seed)).sum::<f64>() / seeds as f64;
        let theirs = reference[name].as_f64().unwrap();
        println!("{name}: {mean:.4}, scikit-learn {theirs:.4}");
        if (mean - theirs).abs() > 0.005 {
            worse.push(format!("{name}: {mean}, scikit-learn {theirs}"));
        }
    }
    assert!(worse.is_empty(), "{worse:?}");
}
