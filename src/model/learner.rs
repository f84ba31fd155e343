//! A model that learns from labels: one of three forms, its calibration to a probability, and the labels it has learned.

use serde::{Deserialize, Serialize};

use super::columns::Columns;
use super::encode::{BUCKET_MISSING, Encoded};
use super::kernel::KernelMachine;
use super::linear::Linear;
use super::platt::Platt;
use super::trees::Trees;
use super::{Label, Lesson, Progress};

/// What computes the signed distance f(x), higher for an anomaly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Form {
    Linear(Linear),
    Kernel(Box<KernelMachine>),
    /// `None` until a first refit.
    Trees(Option<Trees>),
}

impl Form {
    /// Whether it can be asked about events of so many numbers and categories.
    #[must_use]
    pub fn reads(&self, numbers: usize, categories: usize) -> bool {
        match self {
            Form::Linear(model) => model.scaling().len() == numbers,
            Form::Kernel(model) => model.scaling().len() == numbers && model.categories() == categories,
            Form::Trees(trees) => trees.as_ref().is_none_or(|trees| trees.reads(numbers, categories)),
        }
    }
}

/// A form with all that is learned beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    form: Form,
    calibration: Platt,
    /// The form comes from a refit.
    fitted: bool,
    normals: u64,
    anomalies: u64,
}

impl Learner {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, calibration: Platt::default(), fitted: false, normals: 0, anomalies: 0 }
    }

    /// This model with a form that was fitted to labels, and its calibration. It goes on learning from there.
    #[must_use]
    pub fn refitted(&self, form: Form, calibration: Platt) -> Self {
        Self { form, calibration, fitted: true, ..*self }
    }

    #[must_use]
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Whether a form is of the kind and the shape of this one.
    pub(crate) fn takes(&self, form: &Form) -> bool {
        match (&self.form, form) {
            (Form::Linear(own), Form::Linear(other)) => own.is_like(other),
            (Form::Kernel(own), Form::Kernel(other)) => own.is_like(other),
            (Form::Trees(_), Form::Trees(Some(_))) => true,
            _ => false,
        }
    }

    #[must_use]
    pub fn calibration(&self) -> &Platt {
        &self.calibration
    }

    /// Labelled normals and anomalies learned.
    pub(crate) fn labels(&self) -> (u64, u64) {
        (self.normals, self.anomalies)
    }

    /// Classes labelled, of two: both where the form was fitted to labels, none while there are no trees.
    pub(crate) fn progress(&self) -> Progress {
        let classes = match self.form {
            Form::Trees(None) => 0,
            _ if self.fitted => 2,
            _ => self.normals.min(1) + self.anomalies.min(1),
        };
        Progress { seen: classes, needed: 2 }
    }

    /// f(x), always finite; for logistic regression and trees these are log odds. 0 while there are no trees.
    #[must_use]
    pub fn margin(&self, encoded: &Encoded) -> f64 {
        match &self.form {
            Form::Linear(model) => model.margin(encoded),
            Form::Kernel(model) => model.margin(encoded),
            Form::Trees(Some(trees)) => trees.margin(encoded),
            Form::Trees(None) => 0.0,
        }
    }

    /// P(anomaly given features), calibrated on what the model said before each label came.
    #[must_use]
    pub fn probability(&self, encoded: &Encoded) -> f64 {
        self.calibration.probability(self.margin(encoded))
    }

    pub(crate) fn learn(&mut self, encoded: &Encoded, lesson: Lesson) {
        match lesson {
            Lesson::Event | Lesson::Leaked => {}
            Lesson::Scale => self.learn_scale(encoded),
            Lesson::Background { weight } => self.push(encoded, Label::Normal, weight, |_, _| {}),
            Lesson::Label { label, weight } => drop(self.learn_label(encoded, label, weight)),
        }
    }

    /// Learns a verdict. Answers what it said before: P(anomaly), if it voted. A second look would cost half as much again.
    pub(crate) fn learn_label(&mut self, encoded: &Encoded, label: Label, weight: f64) -> Option<f64> {
        let (votes, mut said) = (self.progress().ready(), None);
        self.push(encoded, label, weight, |calibration, margin| {
            if votes {
                said = Some(calibration.probability(margin));
                calibration.learn(margin, label == Label::Anomaly);
            }
        });
        match label {
            Label::Normal => self.normals += 1,
            Label::Anomaly => self.anomalies += 1,
        }
        said
    }

    /// Moves the form towards a class; `calibrate` is given the margin from before. The scale knows no labels: it moves first.
    fn push(&mut self, encoded: &Encoded, label: Label, weight: f64, mut calibrate: impl FnMut(&mut Platt, f64)) {
        self.learn_scale(encoded);
        let y = if label == Label::Anomaly { 1.0 } else { -1.0 };
        let calibration = &mut self.calibration;
        match &mut self.form {
            Form::Linear(model) => {
                let inputs = model.inputs(encoded);
                let sum = model.sum(&inputs);
                calibrate(calibration, sum);
                if weight > 0.0 {
                    model.update(&inputs, sum, y, weight);
                }
            }
            Form::Kernel(model) => {
                let found = model.find(encoded);
                calibrate(calibration, found.margin());
                model.update(encoded, found, y, weight);
            }
            Form::Trees(Some(trees)) => calibrate(calibration, trees.margin(encoded)),
            Form::Trees(None) => {}
        }
    }

    /// Learns a label that this model has counted already, before it took its form.
    pub(crate) fn relearn(&mut self, encoded: &Encoded, label: Label) {
        let counted = (self.normals, self.anomalies);
        self.learn(encoded, Lesson::Label { label, weight: 1.0 });
        (self.normals, self.anomalies) = counted;
    }

    fn learn_scale(&mut self, encoded: &Encoded) {
        match &mut self.form {
            Form::Linear(model) => model.learn_scale(encoded),
            Form::Kernel(model) => model.learn_scale(encoded),
            Form::Trees(_) => {}
        }
    }

    /// (index among the query's columns, contribution) for each column. Linear: the terms of f(x). Others: by how much f(x) falls when the column is missing.
    pub(crate) fn contributions(&self, columns: &Columns, encoded: &Encoded) -> Vec<(usize, f64)> {
        let numbers = columns.numbers.len();
        let without = |margin: &dyn Fn(&[f64], &[u32]) -> f64| {
            columns.falls_of_learner(|missing| {
                let mut values = encoded.values[..numbers].to_vec();
                let mut buckets = encoded.buckets.clone();
                match missing {
                    Some(place) if place < numbers => values[place] = f64::NAN,
                    Some(place) => buckets[place - numbers] = BUCKET_MISSING,
                    None => {}
                }
                margin(&values, &buckets)
            })
        };
        match &self.form {
            Form::Linear(model) => columns.summed(&model.terms(encoded)),
            Form::Kernel(model) => without(&|values, buckets| model.margin_of(values, buckets)),
            Form::Trees(Some(trees)) => without(&|values, buckets| trees.margin_of(values, buckets)),
            Form::Trees(None) => without(&|_, _| 0.0),
        }
    }

    /// Names and values for people.
    pub(crate) fn parameters<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<(String, f64)> {
        match &self.form {
            Form::Linear(model) => model.parameters(names),
            // Support vectors and trees are no parameters that a person could read.
            Form::Kernel(model) => vec![("support_vectors".into(), model.support_vectors() as f64)],
            Form::Trees(trees) => vec![("trees".into(), trees.as_ref().map_or(0, Trees::len) as f64)],
        }
    }
}
