//! The fold with everything that can happen to it: labels, corrections, uploads, samples, promotions and rollbacks, repeated and cut off at random. The models
//! are those of the clean log, in which everything was said once and was right from the start.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use larum::draw::{Draw, Purpose};
use larum::features::{Column, ColumnKind, FeatureVector};
use larum::learn::{Entry, EventKey, Fitted, Globals, LabelEntry, LabelSource, ONLINE, Trainer, TrainerLimits, refit};
use larum::model::{Kernel, KernelSettings, Kind, Label, ModelSpec, Shape};
use std::collections::BTreeMap;
use std::sync::Arc;

fn columns() -> Vec<Column> {
    let column = |name: &str, kind| Column { name: name.into(), kind };
    vec![
        column("latency", ColumnKind::Number),
        column("region", ColumnKind::Category),
        column("load", ColumnKind::Number),
    ]
}

fn specs() -> Vec<ModelSpec> {
    let rbf = KernelSettings { support_vectors_max: 24, ..KernelSettings::new(Shape::Rbf) };
    vec![
        ModelSpec::new("logistic", Kind::LogisticRegression),
        ModelSpec::new("rbf", Kind::Svm { kernel: Kernel::Curved(rbf) }),
        ModelSpec::new("regression", Kind::LabelRegression),
        ModelSpec::new("trees", Kind::ExtraTrees),
    ]
}

fn trainer() -> Trainer {
    Trainer::new(&specs(), &columns(), TrainerLimits::default()).unwrap()
}

/// All that is learned, but the offsets.
fn bits(globals: &Globals) -> (Vec<u8>, Vec<u64>, u64, u64) {
    let shares = globals.shares.iter().map(|share| share.to_bits()).collect();
    (postcard::to_stdvec(&globals.models).expect("plain data"), shares, globals.anomalies, globals.normals)
}

fn unit(i: u64, what: u64) -> f64 {
    Draw::new(what).unit(Purpose::Traffic, i)
}

fn truth(i: u64) -> Label {
    if unit(i, 1) < 0.3 { Label::Anomaly } else { Label::Normal }
}

fn other(label: Label) -> Label {
    if label == Label::Normal { Label::Anomaly } else { Label::Normal }
}

fn features(i: u64) -> FeatureVector {
    let strange = if truth(i) == Label::Anomaly { 3.0 } else { 0.0 };
    let load = if unit(i, 2) < 0.05 { f64::NAN } else { unit(i, 3) };
    let region = if unit(i, 4) < 0.1 { None } else { Some(["eu", "us"][usize::from(unit(i, 5) < 0.5)].into()) };
    FeatureVector { numbers: [4.0 * unit(i, 6) + strange, load].into(), categories: [region].into() }
}

fn key(i: u64) -> EventKey {
    EventKey { topic: "t".into(), partition: 0, offset: i.cast_signed() }
}

/// A verdict on event `i`; `at` is its offset on the labels topic.
fn label(i: u64, label: Label, at: i64) -> Entry {
    let source = LabelSource { partition: 0, offset: at };
    let surprises = (10..14).map(|what| 3.0 * unit(i, what) + 0.01).collect();
    Entry::Label(LabelEntry {
        source,
        event: key(i),
        event_id: format!("e{i}"),
        label,
        features: features(i),
        surprises,
    })
}

/// What is said, in the order in which it is meant.
#[derive(Debug, Clone, Copy)]
enum Said {
    Label(u64),
    Background(u64),
    Example(i64),
    /// Of the model at this place, fitted to all that was said before the entry at this index.
    Promote {
        place: usize,
        fitted: usize,
        before: usize,
    },
    /// Of the model at this place, the version that the entry at this index made; none: the online one.
    Activate {
        place: usize,
        promoted_by: Option<usize>,
    },
}

/// Forms for each model, to be promoted.
fn fitted() -> Vec<Vec<Arc<Fitted>>> {
    let of = |events: u64| {
        let mut trainer = trainer();
        for i in 1_000_000..1_000_000 + events {
            trainer.fold(trainer.version(), Some(label(i, truth(i), i.cast_signed())));
        }
        let examples = trainer.examples();
        (0..specs().len()).map(|place| Arc::new(refit::fit_all(&examples, place, 1).unwrap())).collect::<Vec<_>>()
    };
    vec![of(60), of(90)]
}

/// A story of `length` entries.
fn story(seed: u64, length: usize) -> Vec<Said> {
    let draw = Draw::new(seed);
    let pick = |i: usize, what: u64, n: usize| (draw.bits(Purpose::Traffic, 10 * i as u64 + what) % n as u64) as usize;
    let mut said = Vec::new();
    let (mut example, mut promotions) = (0, Vec::new());
    for i in 0..length {
        said.push(match pick(i, 0, 20) {
            0..9 => Said::Label(i as u64),
            9..13 => Said::Background(i as u64),
            13..17 => {
                example += 1;
                Said::Example(example)
            }
            17 | 18 => {
                let place = pick(i, 1, specs().len());
                promotions.push((place, i));
                Said::Promote { place, fitted: pick(i, 2, 2), before: i.saturating_sub(pick(i, 3, 12)) }
            }
            _ => {
                let place = pick(i, 1, specs().len());
                let of_place = || promotions.iter().filter(|(of, _)| *of == place).map(|(_, at)| *at);
                let promoted_by = of_place().nth(pick(i, 2, of_place().count() + 1));
                Said::Activate { place, promoted_by }
            }
        });
    }
    said
}

/// The log of a story. `corrected_at`: after which entry the label said at this index is corrected, if it is wrong at first; `mess`: how many entries come
/// again after each.
fn log(
    said: &[Said],
    fitted: &[Vec<Arc<Fitted>>],
    leave_out: impl Fn(usize) -> bool,
    corrected_at: impl Fn(usize) -> Option<usize>,
    mess: impl Fn(usize) -> usize,
) -> Vec<Entry> {
    let names: Vec<String> = specs().into_iter().map(|spec| spec.name).collect();
    let mut log: Vec<Entry> = Vec::new();
    // Where each entry of the story stands in the log.
    let mut offsets: BTreeMap<usize, i64> = BTreeMap::new();
    for (index, entry) in said.iter().enumerate() {
        offsets.insert(index, log.len() as i64);
        if leave_out(index) {
            continue;
        }
        log.push(match *entry {
            Said::Label(i) => {
                label(i, if corrected_at(index).is_some() { other(truth(i)) } else { truth(i) }, i.cast_signed())
            }
            Said::Background(i) => Entry::Background { event: key(i), features: features(i) },
            Said::Example(row) => {
                let i = 500_000 + row.cast_unsigned();
                Entry::Example { upload: "u".into(), row, label: truth(i), features: features(i) }
            }
            Said::Promote { place, fitted: which, before } => Entry::Promotion {
                model: names[place].clone(),
                fitted: fitted[which][place].clone(),
                trained_through: offsets[&before],
            },
            Said::Activate { place, promoted_by } => Entry::Activation {
                model: names[place].clone(),
                version: promoted_by.map_or(ONLINE, |at| offsets[&at]),
            },
        });
        for (earlier, entry) in said[..=index].iter().enumerate() {
            if let Said::Label(i) = entry
                && corrected_at(earlier) == Some(index)
            {
                log.push(label(*i, truth(*i), 10_000 + i.cast_signed()));
            }
        }
        // At-least-once writers: what was written of late comes again, but for promotions, which are sent once.
        let repeated: Vec<Entry> = log.iter().rev().take(mess(index)).rev().cloned().collect();
        log.extend(repeated.into_iter().filter(|e| !matches!(e, Entry::Promotion { .. } | Entry::Activation { .. })));
    }
    log
}

fn folded(log: &[Entry]) -> Trainer {
    let mut trainer = trainer();
    for entry in log {
        trainer.fold(trainer.version(), Some(entry.clone()));
    }
    trainer
}

#[test]
fn the_state_is_that_of_the_clean_log_whatever_happens_to_it() {
    let forms = fitted();
    let (mut promoted, mut voided) = (0, 0);
    for seed in 0..60 {
        let said = story(seed, 120);
        let draw = Draw::new(seed + 1_000);
        let wrong = |index: usize| draw.chance(Purpose::Reviewer, index as u64, 0.05);
        let mess = |index: usize| (draw.bits(Purpose::Reviewer, 1_000 + index as u64) % 7) as usize;
        // Every wrong verdict is corrected: at once, later, or with the last entry.
        let corrected_at = |index: usize| {
            let later = (draw.bits(Purpose::Reviewer, 2_000 + index as u64) % 60) as usize;
            wrong(index).then_some((index + later).min(said.len() - 1))
        };
        let dirty = log(&said, &forms, |_| false, corrected_at, mess);
        // A promotion is void that was fitted to a verdict which was still wrong then.
        let void = |index: usize| {
            matches!(said[index], Said::Promote { before, .. } if (0..before)
                .any(|i| matches!(said[i], Said::Label(_)) && corrected_at(i).is_some_and(|at| at >= before)))
        };
        let clean = folded(&log(&said, &forms, void, |_| None, |_| 0));
        let trainer = folded(&dirty);
        assert!(bits(&trainer.globals()) == bits(&clean.globals()), "story {seed}: the models differ");
        let seen = |trainer: &Trainer| {
            let examples = trainer.examples();
            let labelled = examples.labelled.into_iter().map(|example| (example.x, example.label, example.said));
            (labelled.collect::<Vec<_>>(), examples.normals)
        };
        // Missing values are NaN, which is not itself: compared as text.
        assert_eq!(format!("{:?}", seen(&trainer)), format!("{:?}", seen(&clean)), "story {seed}: what refits see");
        // A restart folds the whole log anew, wherever the last one was cut off.
        let again = folded(&dirty);
        assert!(bits(&again.globals()) == bits(&trainer.globals()), "story {seed}: after a restart");
        promoted += said.iter().filter(|said| matches!(said, Said::Promote { .. })).count();
        voided += (0..said.len()).filter(|index| void(*index)).count();
    }
    assert!(promoted > 300 && voided > 50 && voided < promoted, "{promoted} promotions, {voided} void");
}

#[test]
fn a_version_that_is_taken_back_has_lost_no_label() {
    let forms = fitted();
    let mut online = trainer();
    let mut trainer = trainer();
    let say = |trainer: &mut Trainer, entry: Entry| trainer.fold(trainer.version(), Some(entry));
    for i in 0..50 {
        for trainer in [&mut online, &mut trainer] {
            say(trainer, label(i, truth(i), i.cast_signed()));
        }
    }
    let through = trainer.version();
    say(&mut trainer, Entry::Promotion { model: "rbf".into(), fitted: forms[0][1].clone(), trained_through: through });
    let promoted = trainer.versions()[1].0;
    assert!(bits(&trainer.globals()) != bits(&online.globals()));
    for i in 50..100 {
        for trainer in [&mut online, &mut trainer] {
            say(trainer, label(i, truth(i), i.cast_signed()));
        }
    }
    let both = trainer.versions()[1].1.iter().map(|version| (version.version, version.labels)).collect::<Vec<_>>();
    assert_eq!(both.iter().map(|(version, _)| *version).collect::<Vec<_>>(), [ONLINE, promoted]);
    assert_eq!(both[1].1, 50, "each is compared with the labels that came since");
    let as_promoted = bits(&trainer.globals());
    say(&mut trainer, Entry::Activation { model: "rbf".into(), version: ONLINE });
    assert!(bits(&trainer.globals()) == bits(&online.globals()), "as if it had never been promoted");
    say(&mut trainer, Entry::Activation { model: "rbf".into(), version: promoted });
    assert!(bits(&trainer.globals()) == as_promoted);
    // What is not there changes nothing.
    say(&mut trainer, Entry::Activation { model: "rbf".into(), version: 12_345 });
    say(&mut trainer, Entry::Activation { model: "nobody".into(), version: ONLINE });
    let of_another_kind =
        Entry::Promotion { model: "logistic".into(), fitted: forms[0][1].clone(), trained_through: 1 };
    say(&mut trainer, of_another_kind);
    assert!(bits(&trainer.globals()) == as_promoted);
}
