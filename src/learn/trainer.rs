//! The fold over the label log: the same entries in the same order give the same models, bit for bit, on every instance.

use super::blend::Blend;
use super::entry::{Entry, EventKey, Fitted, LabelEntry, LabelSource};
use super::versions::{Version, Versions};
use crate::features::{Column, FeatureVector};
use crate::model::{Encoded, Hashing, Kind, Label, LearnsFrom, Lesson, Model, ModelError, ModelSpec};
use foldhash::fast::FixedState;
use hashlink::LinkedHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Unlabelled samples wait this long (in samples) for a label before they are learned as weak normals.
pub const BACKGROUND_QUEUE: usize = 4_096;
/// Corrections remembered, for refits that were under way when they came.
const CORRECTIONS_MAX: usize = 1_000;
/// Uploads remembered by their highest row, some 100 bytes each. Beyond it the one that grew longest ago goes first: its rows would be learned anew.
const UPLOADS_MAX: usize = 10_000;
/// A weak normal weighs `BACKGROUND_WEIGHT / (BACKGROUND_WEIGHT + labelled normals)`.
pub(super) const BACKGROUND_WEIGHT: f64 = 20.0;

/// The bounds of a trainer.
#[derive(Debug, Clone, Copy)]
pub struct TrainerLimits {
    /// Labelled events remembered for corrections; the oldest are forgotten first.
    pub ledger_max: usize,
    /// Lessons kept to be folded again when a label is corrected. A correction of an older label is learned on top.
    pub lessons_max: usize,
    /// Labelled events kept for refits; the oldest are forgotten first.
    pub examples_max: usize,
}

impl Default for TrainerLimits {
    fn default() -> Self {
        Self { ledger_max: 1_000_000, lessons_max: 50_000, examples_max: 100_000 }
    }
}

/// The global models as of one label-log offset: what a partition adopts.
#[derive(Debug, Clone, PartialEq)]
pub struct Globals {
    /// The label-log offset up to which the models have learned (the first one not learned).
    pub version: i64,
    /// The models that learn from labels, in configuration order.
    pub models: Vec<Model>,
    /// What share each configured model has in the final p-value; they add up to 1.
    pub shares: Vec<f64>,
    /// Events whose current verdict is `anomaly`, and `normal`.
    pub anomalies: u64,
    pub normals: u64,
    /// Grows whenever a label changed the models; background samples alone leave it.
    pub labels_folded: u64,
    /// Which version of each model scores: where that changes, so does the scale of what it says.
    pub versions: Vec<i64>,
}

#[derive(Debug, Clone)]
struct Verdict {
    source: LabelSource,
    label: Label,
    /// The label-log offset at which the models learned of the event first.
    learned_at: i64,
}

/// A labelled event, kept for refits.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The label-log offset of its first verdict.
    pub offset: i64,
    pub x: Arc<Encoded>,
    pub label: Label,
    /// P(anomaly) by the version of each model that scores now, before it learned this label, in the order of [`Globals::models`]; `None` where it did not
    /// vote or was not there.
    pub said: Arc<[Option<f64>]>,
}

/// One step of the fold.
#[derive(Debug, Clone)]
enum Taught {
    /// A background sample came in: only the scaling of features sees it.
    Scale(Arc<Encoded>),
    /// A background sample left the queue unlabelled.
    Background(Arc<Encoded>),
    Label {
        offset: i64,
        x: Arc<Encoded>,
        label: Label,
        surprises: Arc<[f64]>,
    },
    Promotion {
        version: i64,
        place: usize,
        fitted: Arc<Fitted>,
        trained_through: i64,
    },
    Activation {
        place: usize,
        version: i64,
    },
    /// A promotion that was trained on a label which has been corrected.
    Void,
}

/// A labelled event with what every version said of it: (version, P(anomaly)), by model.
#[derive(Debug, Clone)]
struct Kept {
    offset: i64,
    x: Arc<Encoded>,
    label: Label,
    said: Said,
}

/// By model, what each version that voted said of an event before it learned the label.
type Said = Box<[Vec<(i64, f64)>]>;

#[derive(Debug, Clone)]
struct Student {
    learners: Vec<Versions>,
    blend: Blend,
    normals: u64,
    anomalies: u64,
}

impl Student {
    /// `examples`: the labels up to this step, of which a promotion may have missed the newest. P(anomaly) by each model, before it learned a label.
    fn learn(&mut self, taught: &Taught, examples: &VecDeque<Kept>) -> Option<Said> {
        match taught {
            Taught::Scale(x) => self.each(x, Lesson::Scale),
            Taught::Background(x) => {
                let weight = BACKGROUND_WEIGHT / (BACKGROUND_WEIGHT + self.normals as f64);
                self.each(x, Lesson::Background { weight });
            }
            Taught::Label { x, label, surprises, .. } => {
                // A labelled event of an upload comes without surprises: it says nothing of how models should be blended.
                self.blend.learn(surprises, *label);
                match label {
                    Label::Normal => self.normals += 1,
                    Label::Anomaly => self.anomalies += 1,
                }
                return Some(self.learners.iter_mut().map(|versions| versions.learn_label(x, *label)).collect());
            }
            Taught::Promotion { version, place, fitted, trained_through } => {
                let first = examples.partition_point(|example| example.offset < *trained_through);
                let through = examples.partition_point(|example| example.offset < *version);
                let missed = examples.range(first..through.max(first));
                self.learners[*place].promote(*version, fitted, missed.map(|example| (&*example.x, example.label)));
            }
            Taught::Activation { place, version } => self.learners[*place].activate(*version),
            Taught::Void => {}
        }
        None
    }

    fn each(&mut self, x: &Encoded, lesson: Lesson) {
        self.learners.iter_mut().for_each(|versions| versions.learn(x, lesson));
    }
}

/// Folds label-log entries into the global models.
#[derive(Debug)]
pub struct Trainer {
    hashing: Hashing,
    limits: TrainerLimits,
    /// The models as they are now.
    now: Student,
    /// The models before the first of `lessons`: where a correction folds again from.
    base: Student,
    lessons: VecDeque<Taught>,
    examples: VecDeque<Kept>,
    /// The newest corrections: where the wrong verdict was learned, and where it was corrected.
    corrections: VecDeque<(i64, i64)>,
    /// The names of the models that learn from labels.
    names: Vec<String>,
    ledger: LinkedHashMap<EventKey, Verdict, FixedState>,
    background: VecDeque<(EventKey, Arc<Encoded>)>,
    background_through: BTreeMap<(Arc<str>, i32), i64>,
    /// The highest row of each upload, the one that grew last at the end.
    uploads: LinkedHashMap<Arc<str>, i64, FixedState>,
    labels_folded: u64,
    version: i64,
}

impl Trainer {
    /// A trainer that has read nothing, for the models of `specs` that learn from labels.
    ///
    /// # Errors
    /// When a model cannot be built over these columns.
    pub fn new(specs: &[ModelSpec], columns: &[Column], limits: TrainerLimits) -> Result<Self, ModelError> {
        let (mut learners, mut parts, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for spec in specs {
            let model = Model::new(spec, columns)?;
            parts.push(model.part());
            if model.learns_from() == LearnsFrom::Labels {
                learners.push(Versions::new(model));
                names.push(spec.name.clone());
            }
        }
        let by_refits: Vec<bool> = specs.iter().map(|spec| spec.kind == Kind::ExtraTrees).collect();
        let student = Student { learners, blend: Blend::new(&parts, &by_refits), normals: 0, anomalies: 0 };
        Ok(Self {
            hashing: Hashing::new(columns),
            limits,
            base: student.clone(),
            now: student,
            lessons: VecDeque::new(),
            examples: VecDeque::new(),
            corrections: VecDeque::new(),
            names,
            ledger: LinkedHashMap::with_hasher(FixedState::default()),
            background: VecDeque::new(),
            background_through: BTreeMap::new(),
            uploads: LinkedHashMap::with_hasher(FixedState::default()),
            labels_folded: 0,
            version: 0,
        })
    }

    /// The models as they are now, to be adopted.
    #[must_use]
    pub fn globals(&self) -> Globals {
        Globals {
            version: self.version,
            models: self.now.learners.iter().map(|versions| versions.model().clone()).collect(),
            shares: self.now.blend.shares(),
            anomalies: self.now.anomalies,
            normals: self.now.normals,
            labels_folded: self.labels_folded,
            versions: self.now.learners.iter().map(|versions| versions.active()).collect(),
        }
    }

    /// The versions of each model that learns from labels, the oldest first, and which of them scores.
    #[must_use]
    pub fn versions(&self) -> Vec<(i64, Vec<Version>)> {
        let all = self.now.learners.iter();
        all.map(|versions| (versions.active(), versions.all().collect())).collect()
    }

    /// With what the versions that score now said of it.
    fn example(&self, kept: &Kept) -> Example {
        let of = |(versions, said): (&Versions, &Vec<(i64, f64)>)| {
            let active = versions.active();
            said.iter().find(|(version, _)| *version == active).map(|(_, probability)| *probability)
        };
        let said = self.now.learners.iter().zip(&kept.said).map(of).collect();
        Example { offset: kept.offset, x: kept.x.clone(), label: kept.label, said }
    }

    /// What a refit is fitted to: labelled events, and unlabelled ones.
    #[must_use]
    pub fn examples(&self) -> Examples {
        Examples {
            labelled: self.examples.iter().map(|kept| self.example(kept)).collect(),
            background: (self.background.iter())
                .filter(|(event, _)| !self.ledger.contains_key(event))
                .map(|(_, x)| x.clone())
                .collect(),
            models: self.globals().models,
            normals: self.now.normals,
            through: self.version,
        }
    }

    /// The label-log offset of the first entry not folded yet.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// How often a label has changed the models.
    #[must_use]
    pub fn labels_folded(&self) -> u64 {
        self.labels_folded
    }

    /// The highest row folded of each upload that is remembered.
    pub fn uploads(&self) -> impl Iterator<Item = (Arc<str>, i64)> {
        self.uploads.iter().map(|(upload, row)| (upload.clone(), *row))
    }

    /// Folds the entry at `offset`. What came twice changes nothing but the version; an unreadable record is `None`.
    pub fn fold(&mut self, offset: i64, entry: Option<Entry>) {
        debug_assert!(offset >= self.version, "the label log is folded in offset order");
        match entry {
            Some(Entry::Label(entry)) => self.fold_label(offset, entry),
            Some(Entry::Background { event, features }) => self.fold_background(event, &features),
            Some(Entry::Promotion { model, fitted, trained_through }) => {
                // A verdict that it was fitted to was corrected while it was fitted.
                let is_void = self.corrections.iter().any(|(learned_at, corrected_at)| {
                    *learned_at < trained_through && trained_through <= *corrected_at
                });
                if let Some(place) = self.place(&model, &fitted).filter(|_| !is_void) {
                    self.teach(Taught::Promotion { version: offset, place, fitted, trained_through });
                    self.labels_folded += 1;
                }
            }
            Some(Entry::Activation { model, version }) => {
                if let Some(place) = self.names.iter().position(|name| *name == model) {
                    self.teach(Taught::Activation { place, version });
                    self.labels_folded += 1;
                }
            }
            Some(Entry::Example { upload, row, label, features }) => {
                self.fold_example(offset, upload, row, label, &features)
            }
            None => {}
        }
        self.version = offset + 1;
    }

    /// The place of a model that can take this form on. A model that is configured otherwise by now does not take up what was fitted for the earlier one.
    fn place(&self, model: &str, fitted: &Fitted) -> Option<usize> {
        let place = self.names.iter().position(|name| name == model)?;
        let learner = self.now.learners[place].model().learner()?;
        learner.takes(&fitted.form).then_some(place)
    }

    fn fold_label(&mut self, offset: i64, entry: LabelEntry) {
        let earlier = self.ledger.get(&entry.event).cloned();
        if let Some(earlier) = &earlier {
            let again =
                earlier.source.partition == entry.source.partition && entry.source.offset <= earlier.source.offset;
            if again {
                return;
            }
        }
        let learned_at = earlier.as_ref().map_or(offset, |earlier| earlier.learned_at);
        self.ledger.insert(entry.event.clone(), Verdict { source: entry.source, label: entry.label, learned_at });
        if self.ledger.len() > self.limits.ledger_max {
            self.ledger.pop_front();
        }
        match earlier {
            Some(earlier) if earlier.label == entry.label => {}
            Some(earlier) => self.correct(offset, earlier.learned_at, entry),
            None => self.teach_label(offset, entry),
        }
    }

    fn teach_label(&mut self, offset: i64, entry: LabelEntry) {
        let x = Arc::new(self.hashing.encode(&entry.features));
        let LabelEntry { label, surprises, .. } = entry;
        self.teach(Taught::Label { offset, x, label, surprises: surprises.into() });
        self.labels_folded += 1;
    }

    /// The models become what they would be had the corrected verdict stood from the start.
    fn correct(&mut self, offset: i64, learned_at: i64, entry: LabelEntry) {
        self.corrections.push_back((learned_at, offset));
        if self.corrections.len() > CORRECTIONS_MAX {
            self.corrections.pop_front();
        }
        let mut voids = false;
        for taught in &mut self.lessons {
            if matches!(taught, Taught::Promotion { trained_through, .. } if *trained_through > learned_at) {
                *taught = Taught::Void;
                voids = true;
            }
        }
        let example = self.examples.binary_search_by_key(&learned_at, |example| example.offset);
        let lesson = self.lessons.iter_mut().find_map(|taught| match taught {
            Taught::Label { offset, label, surprises, .. } if *offset == learned_at => Some((label, surprises)),
            _ => None,
        });
        if let Some((label, surprises)) = lesson {
            (*label, *surprises) = (entry.label, entry.surprises.as_slice().into());
            if let Ok(at) = example {
                self.examples[at].label = entry.label;
            }
            self.fold_again();
            self.labels_folded += 1;
        } else {
            // Older than the lessons kept: the wrong lesson cannot be taken back, the right one is learned on top. Refits see the right one alone.
            example.map(|at| self.examples.remove(at)).ok();
            if voids {
                self.fold_again();
            }
            if let Some(verdict) = self.ledger.get_mut(&entry.event) {
                verdict.learned_at = offset;
            }
            self.teach_label(offset, entry);
        }
    }

    /// Folds the lessons kept again, as they are now.
    fn fold_again(&mut self) {
        let mut student = self.base.clone();
        for taught in &self.lessons {
            let said = student.learn(taught, &self.examples);
            if let (Taught::Label { offset, .. }, Some(said)) = (taught, said)
                && let Ok(at) = self.examples.binary_search_by_key(offset, |example| example.offset)
            {
                self.examples[at].said = said;
            }
        }
        self.now = student;
    }

    fn fold_background(&mut self, event: EventKey, features: &FeatureVector) {
        let through = self.background_through.entry((event.topic.clone(), event.partition)).or_insert(-1);
        if event.offset <= *through {
            return;
        }
        *through = event.offset;
        let x = Arc::new(self.hashing.encode(features));
        self.teach(Taught::Scale(x.clone()));
        self.background.push_back((event, x));
        if self.background.len() > BACKGROUND_QUEUE
            && let Some((event, x)) = self.background.pop_front()
            && !self.ledger.contains_key(&event)
        {
            self.teach(Taught::Background(x));
        }
    }

    fn fold_example(&mut self, offset: i64, upload: Arc<str>, row: i64, label: Label, features: &FeatureVector) {
        if self.uploads.get(&upload).is_some_and(|through| row <= *through) {
            return;
        }
        // An insertion moves its key to the end.
        self.uploads.insert(upload, row);
        if self.uploads.len() > UPLOADS_MAX {
            self.uploads.pop_front();
        }
        let x = Arc::new(self.hashing.encode(features));
        self.teach(Taught::Label { offset, x, label, surprises: Arc::default() });
        self.labels_folded += 1;
    }

    fn teach(&mut self, taught: Taught) {
        let said = self.now.learn(&taught, &self.examples);
        if let (Taught::Label { offset, x, label, .. }, Some(said)) = (&taught, said) {
            self.examples.push_back(Kept { offset: *offset, x: x.clone(), label: *label, said });
            if self.examples.len() > self.limits.examples_max {
                self.examples.pop_front();
            }
        }
        self.lessons.push_back(taught);
        if self.lessons.len() > self.limits.lessons_max
            && let Some(taught) = self.lessons.pop_front()
        {
            self.base.learn(&taught, &self.examples);
        }
    }
}

/// What a refit is fitted to.
#[derive(Debug, Clone)]
pub struct Examples {
    /// By the offset of their first verdict.
    pub labelled: Vec<Example>,
    /// Unlabelled events, the oldest first.
    pub background: Vec<Arc<Encoded>>,
    /// The models that learn from labels, as they are.
    pub models: Vec<Model>,
    /// Labelled normals, which say how little the unlabelled ones weigh.
    pub normals: u64,
    /// The label-log offset before which all of these stand.
    pub through: i64,
}
