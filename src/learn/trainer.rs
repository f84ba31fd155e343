//! The fold over the label log: the same entries in the same order give the same models, bit for bit, on every instance.

use super::blend::Blend;
use super::entry::{Entry, EventKey, LabelEntry, LabelSource};
use crate::features::{Column, FeatureVector};
use crate::model::{Encoded, Hashing, Label, LearnsFrom, Lesson, Model, ModelError, ModelSpec};
use foldhash::fast::FixedState;
use hashlink::LinkedHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Unlabelled samples wait this long (in samples) for a label before they are learned as weak normals.
const BACKGROUND_QUEUE: usize = 4_096;
/// Uploads remembered by their highest row, some 100 bytes each. Beyond it the one that grew longest ago goes first: its rows would be learned anew.
const UPLOADS_MAX: usize = 10_000;
/// A weak normal weighs `BACKGROUND_WEIGHT / (BACKGROUND_WEIGHT + labelled normals)`.
const BACKGROUND_WEIGHT: f64 = 20.0;

/// The bounds of a trainer.
#[derive(Debug, Clone, Copy)]
pub struct TrainerLimits {
    /// Labelled events remembered for corrections; the oldest are forgotten first.
    pub ledger_max: usize,
    /// Lessons kept to be folded again when a label is corrected. A correction of an older label is learned on top.
    pub lessons_max: usize,
}

impl Default for TrainerLimits {
    fn default() -> Self {
        Self { ledger_max: 1_000_000, lessons_max: 50_000 }
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
}

#[derive(Debug, Clone)]
struct Verdict {
    source: LabelSource,
    label: Label,
}

#[derive(Debug, Clone)]
enum Taught {
    /// A background sample came in: only the scaling of features sees it.
    Scale,
    /// A background sample left the queue unlabelled.
    Background,
    Label(EventKey, Label, Arc<[f64]>),
    /// A labelled event that no model had scored before: it says nothing of how models should be blended.
    Example(Label),
}

#[derive(Debug, Clone)]
struct Student {
    models: Vec<Model>,
    blend: Blend,
    normals: u64,
    anomalies: u64,
}

impl Student {
    fn learn(&mut self, x: &Encoded, taught: &Taught) {
        let lesson = match taught {
            Taught::Scale => Lesson::Scale,
            Taught::Background => {
                Lesson::Background { weight: BACKGROUND_WEIGHT / (BACKGROUND_WEIGHT + self.normals as f64) }
            }
            Taught::Label(_, label, surprises) => {
                self.blend.learn(surprises, *label);
                self.count(*label)
            }
            Taught::Example(label) => self.count(*label),
        };
        for model in &mut self.models {
            model.learn(x, lesson);
        }
    }

    fn count(&mut self, label: Label) -> Lesson {
        match label {
            Label::Normal => self.normals += 1,
            Label::Anomaly => self.anomalies += 1,
        }
        Lesson::Label { label, weight: 1.0 }
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
    lessons: VecDeque<(Arc<Encoded>, Taught)>,
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
        let (mut models, mut parts) = (Vec::new(), Vec::new());
        for spec in specs {
            let model = Model::new(spec, columns)?;
            parts.push(model.part());
            if model.learns_from() == LearnsFrom::Labels {
                models.push(model);
            }
        }
        let student = Student { models, blend: Blend::new(&parts), normals: 0, anomalies: 0 };
        Ok(Self {
            hashing: Hashing::new(columns),
            limits,
            base: student.clone(),
            now: student,
            lessons: VecDeque::new(),
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
            models: self.now.models.clone(),
            shares: self.now.blend.shares(),
            anomalies: self.now.anomalies,
            normals: self.now.normals,
            labels_folded: self.labels_folded,
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
            Some(Entry::Label(entry)) => self.fold_label(entry),
            Some(Entry::Background { event, features }) => self.fold_background(event, &features),
            Some(Entry::Example { upload, row, label, features }) => self.fold_example(upload, row, label, &features),
            None => {}
        }
        self.version = offset + 1;
    }

    fn fold_label(&mut self, entry: LabelEntry) {
        let earlier = self.ledger.get(&entry.event).cloned();
        if let Some(earlier) = &earlier {
            let again =
                earlier.source.partition == entry.source.partition && entry.source.offset <= earlier.source.offset;
            if again {
                return;
            }
        }
        self.ledger.insert(entry.event.clone(), Verdict { source: entry.source, label: entry.label });
        if self.ledger.len() > self.limits.ledger_max {
            self.ledger.pop_front();
        }
        match earlier {
            Some(earlier) if earlier.label == entry.label => {}
            Some(_) => self.correct(&entry),
            None => {
                let x = Arc::new(self.hashing.encode(&entry.features));
                self.teach(x, Taught::Label(entry.event, entry.label, entry.surprises.into()));
                self.labels_folded += 1;
            }
        }
    }

    /// The models become what they would be had the corrected verdict stood from the start.
    fn correct(&mut self, entry: &LabelEntry) {
        let lesson = self
            .lessons
            .iter_mut()
            .find(|(_, taught)| matches!(taught, Taught::Label(event, ..) if *event == entry.event));
        if let Some((_, taught)) = lesson {
            *taught = Taught::Label(entry.event.clone(), entry.label, entry.surprises.as_slice().into());
            let mut student = self.base.clone();
            for (x, taught) in &self.lessons {
                student.learn(x, taught);
            }
            self.now = student;
        } else {
            // Older than the lessons kept: the wrong lesson cannot be taken back, the right one is learned on top.
            let x = Arc::new(self.hashing.encode(&entry.features));
            self.teach(x, Taught::Label(entry.event.clone(), entry.label, entry.surprises.as_slice().into()));
        }
        self.labels_folded += 1;
    }

    fn fold_background(&mut self, event: EventKey, features: &FeatureVector) {
        let through = self.background_through.entry((event.topic.clone(), event.partition)).or_insert(-1);
        if event.offset <= *through {
            return;
        }
        *through = event.offset;
        let x = Arc::new(self.hashing.encode(features));
        self.teach(x.clone(), Taught::Scale);
        self.background.push_back((event, x));
        if self.background.len() > BACKGROUND_QUEUE
            && let Some((event, x)) = self.background.pop_front()
            && !self.ledger.contains_key(&event)
        {
            self.teach(x, Taught::Background);
        }
    }

    fn fold_example(&mut self, upload: Arc<str>, row: i64, label: Label, features: &FeatureVector) {
        if self.uploads.get(&upload).is_some_and(|through| row <= *through) {
            return;
        }
        // An insertion moves its key to the end.
        self.uploads.insert(upload, row);
        if self.uploads.len() > UPLOADS_MAX {
            self.uploads.pop_front();
        }
        let x = Arc::new(self.hashing.encode(features));
        self.teach(x, Taught::Example(label));
        self.labels_folded += 1;
    }

    fn teach(&mut self, x: Arc<Encoded>, taught: Taught) {
        self.now.learn(&x, &taught);
        self.lessons.push_back((x, taught));
        if self.lessons.len() > self.limits.lessons_max
            && let Some((x, taught)) = self.lessons.pop_front()
        {
            self.base.learn(&x, &taught);
        }
    }
}
