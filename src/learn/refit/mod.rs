//! Refits: a model of the same form, fitted at once to the labels that are kept, which takes over only when it has proved better.

use std::sync::Arc;

use thiserror::Error;

use super::entry::Fitted;
use super::trainer::{BACKGROUND_WEIGHT, Example, Examples};
use crate::model::{Encoded, Form, Label, Learner, Model, Platt};

mod compare;
mod design;
mod kernel;
mod linear;
mod trees;

pub use compare::{Comparison, Interval, Quality};

/// The newest share of the labels, which the challenger is not fitted to: it is scored on them, as the champion was before it learned them.
const HELD_OUT: f64 = 0.2;
/// Labels of each class that must be among the held-out ones, and among the others: fewer say nothing.
const CLASS_MIN: usize = 5;

/// Why there is no refit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RefitError {
    #[error(
        "there are too few labels: a refit needs {CLASS_MIN} anomalies and {CLASS_MIN} normals among the newest fifth, and as many before; the newest fifth has {held_out_anomalies} and {held_out_normals}, the rest {anomalies} and {normals}"
    )]
    TooFew { anomalies: usize, normals: usize, held_out_anomalies: usize, held_out_normals: usize },
    #[error("it learns from events, not from labels")]
    Detector,
    #[error("it was cancelled")]
    Cancelled,
    #[error("the fit failed: {0}")]
    Failed(String),
}

/// A refitted model, and how it compares with the one that scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Challenge {
    /// Fitted to all labels, once the form had been judged by what it makes of the older ones.
    pub fitted: Fitted,
    /// The label-log offset before which all of them stand.
    pub trained_through: i64,
    pub comparison: Comparison,
    /// The challenger that was judged: fitted to the older labels only.
    pub judged: Learner,
}

/// What a fit is made from: events with their verdicts, and unlabelled events that count as normals.
#[derive(Debug)]
struct Rows<'a> {
    labelled: Vec<(&'a Encoded, Label)>,
    /// All that are kept, for a fit in which rows have weights.
    unlabelled: &'a [Arc<Encoded>],
    /// What each of them weighs, as it does online.
    unlabelled_weight: f64,
    /// For a fit in which they have none: as many of them as weigh the same together.
    background: Vec<&'a Encoded>,
}

impl<'a> Rows<'a> {
    fn new(labelled: &'a [Example], examples: &'a Examples) -> Self {
        let unlabelled_weight = BACKGROUND_WEIGHT / (BACKGROUND_WEIGHT + examples.normals as f64);
        let unlabelled = &examples.background[..];
        let count = (unlabelled_weight * unlabelled.len() as f64).ceil() as usize;
        let background = (0..count).map(|i| &*unlabelled[i * unlabelled.len() / count]).collect();
        let labelled = labelled.iter().map(|example| (&*example.x, example.label)).collect();
        Self { labelled, unlabelled, unlabelled_weight, background }
    }

    /// Every row with its class: +1 an anomaly, -1 normal.
    fn all(&self) -> impl Iterator<Item = (&'a Encoded, f64)> + Clone + '_ {
        let labelled = self.labelled.iter().map(|(x, label)| (*x, if *label == Label::Anomaly { 1.0 } else { -1.0 }));
        labelled.chain(self.background.iter().map(|x| (*x, -1.0)))
    }

    fn len(&self) -> usize {
        self.labelled.len() + self.background.len()
    }

    /// At most so many rows: anomalies up to half of them (more where normals leave room), then normals, labels before background, and of each the newest.
    fn at_most(mut self, rows: usize) -> Self {
        let anomalies = self.labelled.iter().filter(|(_, label)| *label == Label::Anomaly).count();
        let mut anomalies_left = anomalies.min(rows / 2 + (rows / 2).saturating_sub(self.len() - anomalies));
        let mut normals_left = rows - anomalies_left;
        self.labelled.reverse();
        self.labelled.retain(|(_, label)| {
            let left = if *label == Label::Anomaly { &mut anomalies_left } else { &mut normals_left };
            let takes = *left > 0;
            *left -= usize::from(takes);
            takes
        });
        self.labelled.reverse();
        let more = self.background.len().saturating_sub(normals_left);
        self.background.drain(..more);
        self
    }
}

/// Fits the form of the model at `place` to the older labels, judges it on the newest beside what the model said of those before it learned them, and fits
/// it to all of them. `watch` is told the share of the work that is done, and answers whether to go on.
///
/// # Errors
/// When there are too few labels, the fit fails, or `watch` says to stop.
pub fn challenge(
    examples: &Examples,
    place: usize,
    seed: u64,
    watch: &mut dyn FnMut(f64) -> bool,
) -> Result<Challenge, RefitError> {
    let champion = examples.models.get(place).and_then(Model::learner).ok_or(RefitError::Detector)?;
    let held_out = ((examples.labelled.len() as f64 * HELD_OUT).ceil() as usize).min(examples.labelled.len());
    let (older, newest) = examples.labelled.split_at(examples.labelled.len() - held_out);
    enough(older, newest)?;

    let go_on = |share: f64, watch: &mut dyn FnMut(f64) -> bool| {
        if watch(share) { Ok(()) } else { Err(RefitError::Cancelled) }
    };
    go_on(0.0, watch)?;
    let form = fit(champion.form(), Rows::new(older, examples), seed)?;
    go_on(0.4, watch)?;
    let judged = champion.refitted(form, Platt::default());
    let (judged, comparison) = compare::on(newest, place, judged, seed);
    go_on(0.5, watch)?;
    let form = fit(champion.form(), Rows::new(&examples.labelled, examples), seed)?;
    go_on(1.0, watch)?;
    let fitted = Fitted { form, calibration: judged.calibration().clone() };
    Ok(Challenge { fitted, trained_through: examples.through, comparison, judged })
}

/// The form fitted to all labels, where there is nothing to compare it with. It is not calibrated: that needs labels it was not fitted to.
///
/// # Errors
/// When it is no label learner, there are not two classes, or the fit fails.
pub fn fit_all(examples: &Examples, place: usize, seed: u64) -> Result<Fitted, RefitError> {
    let champion = examples.models.get(place).and_then(Model::learner).ok_or(RefitError::Detector)?;
    let count = |label| examples.labelled.iter().filter(|example| example.label == label).count();
    let (anomalies, normals) = (count(Label::Anomaly), count(Label::Normal));
    if anomalies == 0 || normals == 0 {
        return Err(RefitError::TooFew { anomalies, normals, held_out_anomalies: 0, held_out_normals: 0 });
    }
    let form = fit(champion.form(), Rows::new(&examples.labelled, examples), seed)?;
    Ok(Fitted { form, calibration: Platt::default() })
}

fn enough(older: &[Example], newest: &[Example]) -> Result<(), RefitError> {
    let count = |examples: &[Example], label| examples.iter().filter(|example| example.label == label).count();
    let (anomalies, normals) = (count(older, Label::Anomaly), count(older, Label::Normal));
    let (held_out_anomalies, held_out_normals) = (count(newest, Label::Anomaly), count(newest, Label::Normal));
    if [anomalies, normals, held_out_anomalies, held_out_normals].iter().all(|count| *count >= CLASS_MIN) {
        Ok(())
    } else {
        Err(RefitError::TooFew { anomalies, normals, held_out_anomalies, held_out_normals })
    }
}

fn fit(form: &Form, rows: Rows<'_>, seed: u64) -> Result<Form, RefitError> {
    match form {
        Form::Linear(model) => linear::fit(model, rows).map(Form::Linear),
        Form::Kernel(model) => kernel::fit(model, rows).map(|machine| Form::Kernel(Box::new(machine))),
        Form::Trees(_) => trees::fit(&rows, seed).map(|trees| Form::Trees(Some(trees))),
    }
}
