//! What one event costs: each kind of model at 10 features, the default ones together, and the calibration of a detector and two label learners.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use larum::decision::Calibration;
use larum::draw::{Draw, Purpose};
use larum::features::{Column, ColumnKind};
use larum::learn::{Example, Examples, refit};
use larum::model::{
    Encoded, Kernel, KernelSettings, Kind, Label, LearnsFrom, Lesson, Model, ModelSpec, Part, Reach, Shape,
};
use std::sync::Arc;

const FEATURES: u64 = 10;

/// Ten features that share a factor.
fn event(i: u64) -> Encoded {
    let unit = |column| Draw::new(column).unit(Purpose::Traffic, i);
    let values = (0..FEATURES).map(|column| unit(column + 1) + column as f64 * unit(0)).collect();
    Encoded { values, ..Encoded::default() }
}

fn columns() -> Vec<Column> {
    (0..FEATURES).map(|i| Column { name: format!("f{i}"), kind: ColumnKind::Number }).collect()
}

fn lesson(kind: &Kind, i: usize) -> Lesson {
    match kind {
        Kind::LogisticRegression | Kind::Svm { .. } | Kind::LabelRegression | Kind::ExtraTrees => {
            Lesson::Label { label: if i.is_multiple_of(10) { Label::Anomaly } else { Label::Normal }, weight: 1.0 }
        }
        _ => Lesson::Event,
    }
}

fn models(c: &mut Criterion) {
    let columns = columns();
    let events: Vec<Encoded> = (0..4096).map(event).collect();
    let kinds = [
        ("linear_regression", Kind::LinearRegression { targets: vec![] }),
        ("nearest_neighbours", Kind::NearestNeighbours { reach: Reach::Count(10) }),
        ("wide_neighbours", Kind::NearestNeighbours { reach: Reach::Share(0.4) }),
        ("isolation_forest", Kind::IsolationForest),
        ("marginal", Kind::Marginal),
        ("one_class_svm", Kind::OneClassSvm { nu: 0.5 }),
        ("logistic_regression", Kind::LogisticRegression),
        ("svm", Kind::Svm { kernel: Kernel::Linear }),
        ("linear_regression on the label", Kind::LabelRegression),
        // Labels without sense: every support vector that there may be is there.
        ("rbf svm with 256 support vectors", Kind::Svm { kernel: Kernel::Curved(KernelSettings::new(Shape::Rbf)) }),
        ("extra_trees of 4,096 labels", Kind::ExtraTrees),
    ];
    for (name, kind) in kinds {
        let spec = ModelSpec::new(name, kind.clone());
        let mut model = Model::new(&spec, &columns).expect("ten features");
        let mut i = 0;
        let mut next = || {
            i += 1;
            i % events.len()
        };
        for _ in 0..20_000 {
            let i = next();
            model.learn(&events[i], lesson(&kind, i));
        }
        if kind == Kind::ExtraTrees {
            model = refitted(&model, &events);
        }
        c.bench_function(&format!("{name}/10 features/score"), |b| b.iter(|| model.strangeness(&events[next()])));
        c.bench_function(&format!("{name}/10 features/score and learn"), |b| {
            b.iter(|| {
                let i = next();
                black_box(model.strangeness(&events[i]));
                model.learn(&events[i], lesson(&kind, i));
            });
        });
    }
}

/// The model fitted to these events; one label in ten is an anomaly without a reason, so that trees grow deep.
fn refitted(model: &Model, events: &[Encoded]) -> Model {
    let label = |x: &Encoded| if x.values[0] * x.values[1] > 0.7 { Label::Anomaly } else { Label::Normal };
    let example = |(i, x): (usize, &Encoded)| {
        let label = if i.is_multiple_of(10) { Label::Anomaly } else { label(x) };
        Example { offset: i as i64, x: Arc::new(x.clone()), label, said: Arc::default() }
    };
    let labelled: Vec<Example> = events.iter().enumerate().map(example).collect();
    let through = labelled.len() as i64;
    let examples = Examples { labelled, background: vec![], models: vec![model.clone()], normals: 0, through };
    let fitted = refit::fit_all(&examples, 0, 1).expect("labels of both classes");
    model.refitted(&fitted.form, &fitted.calibration)
}

/// All models of a configuration that names none; one event of a hundred has a label.
fn default_models(c: &mut Criterion) {
    let columns = columns();
    let events: Vec<Encoded> = (0..4096).map(event).collect();
    let build = |spec: &ModelSpec| Model::new(spec, &columns).expect("ten features");
    let mut models: Vec<Model> = larum::config::default_models().iter().map(build).collect();
    let mut i = 0;
    let mut step = |models: &mut [Model]| {
        i += 1;
        let event = &events[i % events.len()];
        models.iter().for_each(|model| _ = black_box(model.strangeness(event)));
        models.iter_mut().for_each(|model| model.learn(event, Lesson::Event));
        if i.is_multiple_of(100) {
            let label = if i.is_multiple_of(1000) { Label::Anomaly } else { Label::Normal };
            models.iter_mut().for_each(|model| model.learn(event, Lesson::Label { label, weight: 1.0 }));
        }
    };
    (0..20_000).for_each(|_| step(&mut models));
    c.bench_function("default models/10 features/score and learn", |b| b.iter(|| step(&mut models)));
}

fn calibration(c: &mut Criterion) {
    let draw = Draw::new(1);
    let events: Vec<Encoded> = (0..4096).map(event).collect();
    let strangeness = |i: u64| {
        let unit = |column| -libm::log(1.0 - Draw::new(column).unit(Purpose::Traffic, i));
        [Some(unit(1)), Some(unit(2) - 5.0), Some(unit(3) - 2.0)]
    };
    let part = |learns_from| Part { learns_from, weight: 1.0, broad: false };
    let parts = [part(LearnsFrom::Events), part(LearnsFrom::Labels), part(LearnsFrom::Labels)];
    let mut calibration = Calibration::new(&parts, draw);
    let mut i = 0;
    let mut step = |calibration: &mut Calibration| {
        let strangeness = strangeness(i);
        let judgement = calibration.judge(&strangeness);
        calibration.learn(i, &events[i as usize % events.len()], &strangeness, &judgement);
        i += 1;
        judgement
    };
    for _ in 0..150_000 {
        step(&mut calibration);
    }
    c.bench_function("calibration/3 models/judge and learn", |b| b.iter(|| step(&mut calibration)));
    c.bench_function("calibration/3 models/adopt", |b| {
        b.iter(|| calibration.adopt(&[1.0; 3], |encoded| vec![Some(encoded.values[0]), Some(encoded.values[1])]));
    });
}

criterion_group!(benches, models, default_models, calibration);
criterion_main!(benches);
