//! The versions of one model: every refit that was promoted is one, and all of them go on learning, so that taking one back loses no label.

use crate::model::{Encoded, Label, Lesson, Model};

use super::entry::Fitted;
use crate::quality::log_loss_of;

/// The version of a model that was never refitted.
pub const ONLINE: i64 = 0;
/// Versions kept of one model: the online one, the one that scores, and the newest. Each costs what learning a label costs.
const VERSIONS_MAX: usize = 4;

/// How one version of one model has done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Version {
    /// The offset of its promotion in the label log; [`ONLINE`] for the one that was never refitted.
    pub version: i64,
    /// Labels that came since it is there, and the sum of its log loss on them before it learned each.
    pub labels: u64,
    pub log_loss: f64,
}

/// The versions of one model, of which one scores.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Versions {
    active: i64,
    all: Vec<(Version, Model)>,
}

impl Versions {
    pub(super) fn new(model: Model) -> Self {
        Self { active: ONLINE, all: vec![(Version { version: ONLINE, labels: 0, log_loss: 0.0 }, model)] }
    }

    /// The number of the one that scores.
    pub(super) fn active(&self) -> i64 {
        self.active
    }

    /// The one that scores.
    pub(super) fn model(&self) -> &Model {
        let active = self.all.iter().find(|(version, _)| version.version == self.active);
        &active.expect("the version that scores is never forgotten").1
    }

    /// Oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = Version> + '_ {
        self.all.iter().map(|(version, _)| *version)
    }

    pub(super) fn learn(&mut self, x: &Encoded, lesson: Lesson) {
        self.all.iter_mut().for_each(|(_, model)| model.learn(x, lesson));
    }

    /// Teaches every version a verdict, and compares with it what each said before. (version, P(anomaly)) by each that voted.
    pub(super) fn learn_label(&mut self, x: &Encoded, label: Label) -> Vec<(i64, f64)> {
        let mut said = Vec::with_capacity(self.all.len());
        for (version, model) in &mut self.all {
            let Some(probability) = model.learn_label(x, label) else { continue };
            version.labels += 1;
            version.log_loss += log_loss_of(probability, label == Label::Anomaly);
            said.push((version.version, probability));
        }
        said
    }

    /// Puts a fitted model in charge, after it has learned the labels that came while it was fitted.
    pub(super) fn promote<'a>(
        &mut self,
        version: i64,
        fitted: &Fitted,
        missed: impl Iterator<Item = (&'a Encoded, Label)>,
    ) {
        let mut model = self.model().refitted(&fitted.form, &fitted.calibration);
        missed.for_each(|(x, label)| model.relearn(x, label));
        self.all.push((Version { version, labels: 0, log_loss: 0.0 }, model));
        self.active = version;
        if self.all.len() > VERSIONS_MAX {
            // The first is the online one, and the last scores.
            self.all.remove(1);
        }
    }

    /// Puts a version in charge that is kept. Another one changes nothing.
    pub(super) fn activate(&mut self, version: i64) {
        if self.all.iter().any(|(known, _)| known.version == version) {
            self.active = version;
        }
    }
}
