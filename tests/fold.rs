//! The fold over the label log: what came twice, corrections, background samples, bounds. The models are compared bit for bit.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use larum::draw::{Draw, Purpose};
use larum::features::{Column, ColumnKind, FeatureVector};
use larum::learn::{Entry, EventKey, Globals, LabelEntry, LabelSource, Trainer, TrainerLimits};
use larum::model::{Hashing, Kernel, Kind, Label, LearnsFrom, Lesson, Model, ModelSpec};

/// As in the trainer: so many unlabelled samples wait for a label.
const BACKGROUND_QUEUE: u64 = 4_096;

fn columns() -> Vec<Column> {
    let column = |name: &str, kind| Column { name: name.into(), kind };
    vec![
        column("latency", ColumnKind::Number),
        column("region", ColumnKind::Category),
        column("load", ColumnKind::Number),
    ]
}

fn specs() -> Vec<ModelSpec> {
    let spec = |name: &str, kind| ModelSpec::new(name, kind);
    vec![
        spec("logistic", Kind::LogisticRegression),
        spec("regression", Kind::LinearRegression { targets: vec![] }),
        spec("svm", Kind::Svm { kernel: Kernel::Linear }),
    ]
}

fn trainer(limits: TrainerLimits) -> Trainer {
    Trainer::new(&specs(), &columns(), limits).unwrap()
}

fn folded(log: &[Entry]) -> Globals {
    let mut trainer = trainer(TrainerLimits::default());
    fold(&mut trainer, log);
    trainer.globals()
}

fn fold(trainer: &mut Trainer, log: &[Entry]) {
    for entry in log {
        trainer.fold(trainer.version(), Some(entry.clone()));
    }
}

/// All of the globals but the version and how often labels moved them.
fn bits(globals: &Globals) -> (Vec<u8>, Vec<u64>, u64, u64) {
    let shares = globals.shares.iter().map(|share| share.to_bits()).collect();
    (models_bits(&globals.models), shares, globals.anomalies, globals.normals)
}

fn models_bits(models: &[Model]) -> Vec<u8> {
    postcard::to_stdvec(models).expect("plain data")
}

fn unit(i: u64, what: u64) -> f64 {
    Draw::new(what).unit(Purpose::Traffic, i)
}

fn truth(i: u64) -> Label {
    if unit(i, 1) < 0.2 { Label::Anomaly } else { Label::Normal }
}

fn other(label: Label) -> Label {
    if label == Label::Normal { Label::Anomaly } else { Label::Normal }
}

fn features(i: u64) -> FeatureVector {
    let strange = if truth(i) == Label::Anomaly { 3.0 } else { 0.0 };
    let load = if unit(i, 2) < 0.05 { f64::NAN } else { unit(i, 3) };
    let region = if unit(i, 4) < 0.1 { None } else { Some(["eu", "us"][usize::from(unit(i, 5) < 0.5)].into()) };
    FeatureVector { numbers: [10.0 * unit(i, 6) + strange, load].into(), categories: [region].into() }
}

/// Event `i` stands on one of two partitions, at growing offsets.
fn key(i: u64) -> EventKey {
    EventKey { topic: "t".into(), partition: (i % 2) as i32, offset: (i / 2).cast_signed() }
}

/// A verdict; `at` is its offset on its partition of the labels topic.
fn label(i: u64, label: Label, at: i64) -> Entry {
    let surprises = vec![3.0 * unit(i, 7) + 0.01, 2.0 * unit(i, 8) + 0.01, 3.0 * unit(i, 9) + 0.01];
    Entry::Label(LabelEntry {
        source: LabelSource { partition: (i % 2) as i32, offset: at },
        event: key(i),
        event_id: format!("e{i}"),
        label,
        features: features(i),
        surprises,
    })
}

fn background(i: u64) -> Entry {
    Entry::Background { event: key(i), features: features(i) }
}

/// A log in which every third event is a background sample, every fifth is labelled a little later, and some labels are wrong at first.
fn log(events: u64) -> Vec<Entry> {
    let (mut log, mut at) = (Vec::new(), 0);
    let mut say = |log: &mut Vec<Entry>, i: u64, verdict: Label| {
        log.push(label(i, verdict, at));
        at += 1;
    };
    for i in 0..events {
        if i % 3 == 0 {
            log.push(background(i));
        }
        if i % 5 == 0 && i >= 30 {
            let verdict = truth(i - 30);
            say(&mut log, i - 30, if i % 35 == 0 { other(verdict) } else { verdict });
        }
        if i % 35 == 0 && i >= 140 {
            say(&mut log, i - 135, truth(i - 135));
        }
    }
    log
}

#[test]
fn what_comes_twice_changes_nothing_but_the_version() {
    // Long enough that background samples leave the queue.
    let log = log(13_500);
    let once = folded(&log);
    assert!(once.anomalies > 100 && once.normals > 100 && once.models.iter().all(Model::votes));
    assert_eq!(once.version, log.len() as i64);
    let whole: Vec<Entry> = log.iter().chain(&log).cloned().collect();
    let each: Vec<Entry> = log.iter().flat_map(|entry| [entry.clone(), entry.clone()]).collect();
    // A writer that began anew 25 entries back, again and again.
    let stutter: Vec<Entry> = (0..log.len())
        .step_by(25)
        .flat_map(|from| log[from.saturating_sub(25)..(from + 25).min(log.len())].to_vec())
        .collect();
    for (name, twice) in [("whole", whole), ("each", each), ("stutter", stutter)] {
        let globals = folded(&twice);
        assert!(bits(&globals) == bits(&once), "{name}");
        assert_eq!(globals.labels_folded, once.labels_folded, "{name}");
        assert_eq!(globals.version, twice.len() as i64, "{name}");
    }
}

#[test]
fn an_unreadable_record_moves_only_the_version() {
    let mut trainer = trainer(TrainerLimits::default());
    fold(&mut trainer, &log(500));
    let before = trainer.globals();
    trainer.fold(before.version + 7, None);
    assert_eq!(trainer.globals(), Globals { version: before.version + 8, ..before });
}

#[test]
fn a_correction_gives_the_models_of_a_log_that_was_right_from_the_start() {
    // The samples that leave the queue weigh less the more normals there are: they are folded again, too.
    let samples = BACKGROUND_QUEUE + 300;
    let of = |first: &dyn Fn(u64) -> Label, corrections: &[Entry]| {
        let mut log: Vec<Entry> = (0..samples).map(background).collect();
        for n in 0..60 {
            // Spread through the last samples, of events that are no sample.
            let at = log.len() - 1 - 5 * n as usize;
            log.insert(at, label(samples + n, first(n), 1_000 - n.cast_signed()));
        }
        log.extend(corrections.iter().cloned());
        folded(&log)
    };
    let truth = |n: u64| truth(samples + n);
    let wrong = |n: u64| if n.is_multiple_of(7) { other(truth(n)) } else { truth(n) };
    let right = of(&truth, &[]);
    let uncorrected = of(&wrong, &[]);
    assert!(bits(&uncorrected) != bits(&right));
    let corrections: Vec<Entry> =
        (0..60).filter(|n| n % 7 == 0).map(|n| label(samples + n, truth(n), 2_000 + n.cast_signed())).collect();
    let corrected = of(&wrong, &corrections);
    assert!(bits(&corrected) == bits(&right), "{} {} {:?}", corrected.anomalies, right.anomalies, corrected.shares);
    assert_eq!(corrected.labels_folded, right.labels_folded + corrections.len() as u64);

    // There and back: two corrections are as none. The same verdict again by someone else is no correction.
    let back = [label(samples + 3, other(truth(3)), 3_000), label(samples + 3, truth(3), 3_001)];
    assert!(bits(&of(&truth, &back)) == bits(&right));
    let again = of(&truth, &[label(samples + 3, truth(3), 3_000)]);
    assert_eq!((bits(&again), again.labels_folded), (bits(&right), right.labels_folded));
}

#[test]
fn a_later_verdict_wins_by_its_place_on_the_labels_topic() {
    let (first, second) = (label(0, Label::Normal, 5), label(0, Label::Anomaly, 9));
    for log in
        [vec![first.clone(), second.clone()], vec![first.clone(), second.clone(), first.clone()], vec![second, first]]
    {
        let globals = folded(&log);
        assert_eq!((globals.anomalies, globals.normals), (1, 0), "{log:?}");
    }
}

#[test]
fn a_background_sample_at_or_below_the_highest_offset_is_dropped() {
    let sample = |partition: i32, offset: i64, i: u64| Entry::Background {
        event: EventKey { topic: "t".into(), partition, offset },
        features: features(i),
    };
    let log = vec![sample(0, 10, 1), sample(1, 3, 2), sample(0, 12, 3)];
    let expected = folded(&log);
    for (partition, offset) in [(0, 12), (0, 11), (0, 10), (0, 0), (1, 3)] {
        let mut longer = log.clone();
        longer.push(sample(partition, offset, 4));
        assert!(bits(&folded(&longer)) == bits(&expected), "{partition} {offset}");
    }
    for (topic, partition, offset) in [("t", 0, 13), ("t", 1, 4), ("t", 2, 0), ("u", 0, 0)] {
        let mut longer = log.clone();
        let event = EventKey { topic: topic.into(), partition, offset };
        longer.push(Entry::Background { event, features: features(4) });
        assert!(bits(&folded(&longer)) != bits(&expected), "{topic} {partition} {offset}");
    }
}

fn example(upload: &str, row: i64) -> Entry {
    let i = row.cast_unsigned();
    Entry::Example { upload: upload.into(), row, label: truth(i), features: features(i) }
}

#[test]
fn a_row_at_or_below_the_highest_of_its_upload_is_dropped() {
    let rows: Vec<Entry> = (0..200).map(|row| example("a", row)).collect();
    let once = folded(&rows);
    assert_eq!(once.labels_folded, 200);
    assert!(once.anomalies > 20 && once.anomalies + once.normals == 200 && once.models.iter().all(Model::votes));
    let whole: Vec<Entry> = rows.iter().chain(&rows).cloned().collect();
    let each: Vec<Entry> = rows.iter().flat_map(|entry| [entry.clone(), entry.clone()]).collect();
    // Killed after 120 rows, and sent from the first one again.
    let again: Vec<Entry> = rows[..120].iter().chain(&rows).cloned().collect();
    for (name, twice) in [("whole", whole), ("each", each), ("again", again)] {
        let globals = folded(&twice);
        assert!(bits(&globals) == bits(&once) && globals.labels_folded == 200, "{name}");
    }
    // Rows that were refused or filtered leave holes; the same rows under another key are other rows.
    let other: Vec<Entry> = rows.iter().cloned().chain((0..200).map(|row| example("b", row))).collect();
    let globals = folded(&other);
    assert_eq!((globals.labels_folded, globals.normals), (400, 2 * once.normals));
}

#[test]
fn two_uploads_are_told_apart_row_by_row() {
    let (mut interleaved, mut trainer) = (Vec::new(), trainer(TrainerLimits::default()));
    for row in 0..50 {
        // Each comes twice, and the second time behind rows of the other.
        interleaved.extend([
            example("a", row),
            example("b", 1_000 + row),
            example("a", row),
            example("b", 1_000 + row),
        ]);
    }
    fold(&mut trainer, &interleaved);
    let each_once: Vec<Entry> = (0..50).flat_map(|row| [example("a", row), example("b", 1_000 + row)]).collect();
    assert!(bits(&trainer.globals()) == bits(&folded(&each_once)));
    assert_eq!(trainer.uploads().collect::<Vec<_>>(), [("a".into(), 49), ("b".into(), 1_049)]);
}

#[test]
fn an_example_teaches_the_models_as_a_label_does_and_the_blend_nothing() {
    let mut reference = Reference::new();
    let examples: Vec<Entry> = (0..60).map(|row| example("a", row)).collect();
    (0..60).for_each(|i| reference.verdict(i, truth(i)));
    let taught = folded(&examples);
    assert!(models_bits(&taught.models) == models_bits(&reference.models));
    assert_eq!(taught.shares, folded(&[]).shares);

    // Labels of scored events come after: the blend learns these alone, and a correction folds the examples again.
    let mut log = examples;
    for i in 100..160 {
        log.push(label(i, if i == 130 { other(truth(i)) } else { truth(i) }, i.cast_signed()));
        reference.verdict(i, truth(i));
    }
    log.push(label(130, truth(130), 1_000));
    let globals = folded(&log);
    assert!(models_bits(&globals.models) == models_bits(&reference.models));
    assert_eq!(globals.shares, folded(&log[60..]).shares);
    assert!(globals.shares != taught.shares);
    assert_eq!((globals.anomalies + globals.normals, globals.labels_folded), (120, 121));
}

/// The lessons that a log comes to, learned by models of its own.
struct Reference {
    models: Vec<Model>,
    hashing: Hashing,
}

impl Reference {
    fn new() -> Self {
        let models = specs().into_iter().map(|spec| Model::new(&spec, &columns()).unwrap());
        let models = models.filter(|model| model.learns_from() == LearnsFrom::Labels).collect();
        Self { models, hashing: Hashing::new(&columns()) }
    }

    fn learn(&mut self, i: u64, lesson: Lesson) {
        let x = self.hashing.encode(&features(i));
        self.models.iter_mut().for_each(|model| model.learn(&x, lesson));
    }

    fn verdict(&mut self, i: u64, label: Label) {
        self.learn(i, Lesson::Label { label, weight: 1.0 });
    }
}

#[test]
fn a_sample_is_a_weak_normal_when_it_leaves_the_queue_unless_it_was_labelled() {
    let mut trainer = trainer(TrainerLimits::default());
    let mut reference = Reference::new();
    for i in 0..BACKGROUND_QUEUE {
        trainer.fold(trainer.version(), Some(background(i)));
        reference.learn(i, Lesson::Scale);
    }
    for (n, i) in [1, 4].into_iter().enumerate() {
        trainer.fold(trainer.version(), Some(label(i, Label::Normal, n as i64)));
        reference.verdict(i, Label::Normal);
    }
    assert!(models_bits(&trainer.globals().models) == models_bits(&reference.models), "nothing has left yet");
    for i in 0..8 {
        trainer.fold(trainer.version(), Some(background(BACKGROUND_QUEUE + i)));
        reference.learn(BACKGROUND_QUEUE + i, Lesson::Scale);
        if ![1, 4].contains(&i) {
            reference.learn(i, Lesson::Background { weight: 20.0 / 22.0 });
        }
        assert!(models_bits(&trainer.globals().models) == models_bits(&reference.models), "sample {i} left");
    }
    assert_eq!((trainer.globals().anomalies, trainer.globals().normals), (0, 2), "a sample is no verdict");
    assert_eq!(trainer.labels_folded(), 2);
}

#[test]
fn a_model_votes_when_both_classes_are_labelled() {
    let votes = |log: &[Entry]| folded(log).models.iter().map(Model::votes).collect::<Vec<_>>();
    let samples: Vec<Entry> = (0..BACKGROUND_QUEUE + 50).map(background).collect();
    let said = |verdicts: &[Label]| {
        let labels = verdicts.iter().zip(0..).map(|(verdict, n)| label(10_000 + n, *verdict, n.cast_signed()));
        samples.iter().cloned().chain(labels).collect::<Vec<_>>()
    };
    assert_eq!(votes(&samples), [false, false]);
    assert_eq!(votes(&said(&[Label::Anomaly; 5])), [false, false], "samples are no verdicts");
    assert_eq!(votes(&said(&[Label::Normal; 5])), [false, false]);
    assert_eq!(votes(&said(&[Label::Anomaly, Label::Normal])), [true, true]);
    // The only anomaly was a mistake.
    let mut corrected = said(&[Label::Anomaly, Label::Normal]);
    corrected.push(label(10_000, Label::Normal, 9));
    assert_eq!(votes(&corrected), [false, false]);
}

#[test]
fn beyond_the_lessons_kept_a_correction_is_learned_on_top() {
    for later in 0..8 {
        let mut trainer = trainer(TrainerLimits { lessons_max: 5, ..TrainerLimits::default() });
        let mut said = Reference::new();
        let mut right = Reference::new();
        for i in 0..=later {
            trainer.fold(trainer.version(), Some(label(i, truth(i), i.cast_signed())));
            said.verdict(i, truth(i));
            right.verdict(i, if i == 0 { other(truth(i)) } else { truth(i) });
        }
        trainer.fold(trainer.version(), Some(label(0, other(truth(0)), 100)));
        said.verdict(0, other(truth(0)));
        let expected = if later < 5 { right } else { said };
        assert!(models_bits(&trainer.globals().models) == models_bits(&expected.models), "after {later} others");
    }
}

#[test]
fn beyond_the_ledger_a_label_is_not_remembered() {
    for later in 0..8 {
        let mut trainer = trainer(TrainerLimits { ledger_max: 5, ..TrainerLimits::default() });
        for i in 0..=later {
            trainer.fold(trainer.version(), Some(label(i, truth(i), i.cast_signed())));
        }
        let before = trainer.labels_folded();
        trainer.fold(trainer.version(), Some(label(0, truth(0), 0)));
        assert_eq!(trainer.labels_folded() - before, u64::from(later >= 5), "after {later} others");
    }
}

#[test]
fn small_bounds_break_nothing_and_shares_add_up_to_1() {
    let log = log(3_000);
    for (ledger_max, lessons_max) in [(0, 0), (1, 1), (3, 40), (40, 3), (1_000, 1_000)] {
        let mut trainer = trainer(TrainerLimits { ledger_max, lessons_max, ..TrainerLimits::default() });
        for entry in &log {
            trainer.fold(trainer.version(), Some(entry.clone()));
            let globals = trainer.globals();
            let sum: f64 = globals.shares.iter().sum();
            assert!(
                (sum - 1.0).abs() < 1e-12 && globals.shares.iter().all(|share| *share > 0.015),
                "{:?}",
                globals.shares
            );
        }
        let globals = trainer.globals();
        assert!(globals.models.iter().all(Model::votes), "{ledger_max} {lessons_max}");
        assert!(globals.models.iter().flat_map(Model::parameters).all(|(_, value)| value.is_finite()));
    }
    let shares = folded(&log).shares;
    assert!((shares[0] - shares[1]).abs() > 0.05, "labels moved the shares: {shares:?}");
}
