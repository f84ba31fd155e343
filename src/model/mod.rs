//! The models: a closed enum of kinds, one file or folder per family.

use serde::{Deserialize, Serialize};

use crate::draw::Draw;
use crate::features::Column;

mod columns;
mod description;
mod encode;
mod entity;
mod forest;
mod kernel;
mod kth;
mod learner;
mod linear;
mod loss;
mod marginal;
mod matrix;
mod moments;
mod neighbours;
mod one_class;
mod platt;
mod regression;
mod sample;
mod spec;
mod trees;

pub use columns::Columns;
pub use description::{Description, VectorDescription};
pub use encode::{BUCKET_MISSING, BUCKETS, CATEGORIES_MAX, Encoded, Encoder, Hashing};
pub use entity::EntityMoments;
pub use forest::Forest;
pub use kernel::{KernelMachine, KernelSettings, Shape, SupportVector};
pub use learner::{Form, Learner};
pub use linear::Linear;
pub use loss::Loss;
pub use marginal::Marginal;
pub(crate) use moments::{compressed, expanded};
pub use neighbours::{Neighbours, ROWS_NEAR, Reach};
pub use one_class::{NU, OneClassSvm};
pub use platt::Platt;
pub use regression::Regression;
pub use spec::{Kernel, Kind, ModelError, ModelSpec, Scope};
pub use trees::{Branch, TreeInput, Trees};

/// A verdict on one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Label {
    Normal,
    Anomaly,
}

/// What moves a model: the events of its partition, or the label log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LearnsFrom {
    /// Partition state: it learns every event that the guard lets through, after scoring it.
    Events,
    /// A global model: it learns what the label log says, and a partition adopts its versions.
    Labels,
}

/// What one model is to the final p-value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub learns_from: LearnsFrom,
    /// What its score weighs among the detectors', before labels say more.
    pub weight: f64,
    /// It looks at the remembered events as a whole, of which few say little: until the calibration has 1,000 of its scores, it weighs by the square
    /// of how many there are, and the other detectors the more. In proportion, AUC on ionosphere (351 rows) was .015 lower, and F1 on SKAB (1,100
    /// rows a file) .04.
    pub broad: bool,
}

/// One thing to learn. A model passes over what is not for its kind: a detector learns only events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lesson {
    /// An event without a label.
    Event,
    /// An event that the guard let through though it is strange: models that keep averages learn it, those that keep events do not.
    Leaked,
    /// A verdict; `weight` is its importance, usually 1.
    Label { label: Label, weight: f64 },
    /// An unlabelled event that counts as a weak normal. It is no verdict: it does not make a model vote.
    Background { weight: f64 },
    /// Only the scaling of the features.
    Scale,
}

/// How far the warm-up is: ready when `seen >= needed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub seen: u64,
    pub needed: u64,
}

impl Progress {
    #[must_use]
    pub fn ready(self) -> bool {
        self.seen >= self.needed
    }
}

/// A model of one kind, and the columns it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Model {
    LinearRegression(Columns, Regression),
    NearestNeighbours(Columns, Neighbours),
    IsolationForest(Columns, Forest),
    Marginal(Columns, Marginal),
    OneClassSvm(Columns, OneClassSvm),
    /// `logistic_regression`, `svm`, `extra_trees`, and `linear_regression` on the label.
    Labelled(Columns, Learner),
}

impl Model {
    /// # Errors
    /// When the query has no columns, a target is not among its numeric ones, or there are too many of these for the scope of the entity.
    pub fn new(spec: &ModelSpec, columns: &[Column]) -> Result<Self, ModelError> {
        let columns = Columns::new(spec, columns)?;
        let (numbers, categories, width) = (columns.numbers.len(), columns.categories.len(), columns.width());
        let linear = |loss| Form::Linear(Linear::new(loss, numbers, categories));
        let labelled = |columns, form| Model::Labelled(columns, Learner::new(form));
        Ok(match &spec.kind {
            Kind::LinearRegression { targets } => {
                let targets = columns.targets(&spec.name, targets)?;
                Model::LinearRegression(columns, Regression::new(width, targets))
            }
            Kind::NearestNeighbours { reach } => Model::NearestNeighbours(columns, Neighbours::new(width, *reach)),
            Kind::IsolationForest => Model::IsolationForest(columns, Forest::new(width)),
            Kind::Marginal => Model::Marginal(columns, Marginal::new(width, numbers..numbers + categories)),
            Kind::OneClassSvm { nu } => Model::OneClassSvm(columns, OneClassSvm::new(width, *nu)),
            Kind::LogisticRegression => labelled(columns, linear(Loss::Logistic)),
            Kind::Svm { kernel: Kernel::Linear } => labelled(columns, linear(Loss::Hinge)),
            Kind::LabelRegression => labelled(columns, linear(Loss::Squared)),
            Kind::Svm { kernel: Kernel::Curved(settings) } => {
                labelled(columns, Form::Kernel(Box::new(KernelMachine::new(*settings, numbers, categories))))
            }
            Kind::ExtraTrees => labelled(columns, Form::Trees(None)),
        })
    }

    /// The same model, which has learned nothing yet, with its random choices drawn from `draw`.
    #[must_use]
    pub fn seeded(mut self, draw: Draw) -> Self {
        match &mut self {
            Model::NearestNeighbours(_, model) => model.reseed(draw),
            Model::IsolationForest(_, model) => model.reseed(draw),
            Model::Marginal(_, model) => model.reseed(draw),
            Model::OneClassSvm(_, model) => model.reseed(draw),
            Model::LinearRegression(..) | Model::Labelled(..) => {}
        }
        self
    }

    /// This model in a form that was fitted to labels elsewhere. A detector stays as it is.
    #[must_use]
    pub fn refitted(&self, form: &Form, calibration: &Platt) -> Self {
        match self {
            Model::Labelled(columns, model) => {
                Model::Labelled(columns.clone(), model.refitted(form.clone(), calibration.clone()))
            }
            detector => detector.clone(),
        }
    }

    /// The label learner in it.
    #[must_use]
    pub fn learner(&self) -> Option<&Learner> {
        match self {
            Model::Labelled(_, learner) => Some(learner),
            _ => None,
        }
    }

    #[must_use]
    pub fn learns_from(&self) -> LearnsFrom {
        match self {
            Model::LinearRegression(..)
            | Model::NearestNeighbours(..)
            | Model::IsolationForest(..)
            | Model::Marginal(..)
            | Model::OneClassSvm(..) => LearnsFrom::Events,
            Model::Labelled(..) => LearnsFrom::Labels,
        }
    }

    #[must_use]
    pub fn part(&self) -> Part {
        let (weight, broad) = match self {
            Model::NearestNeighbours(_, model) => model.part(),
            Model::IsolationForest(..) => (forest::WEIGHT, true),
            Model::LinearRegression(_, model) => (model.weight(), false),
            _ => (1.0, false),
        };
        Part { learns_from: self.learns_from(), weight, broad }
    }

    /// Higher is stranger; always finite. Regression: the largest squared residual over its variance, at least 0. Label learners: the
    /// signed distance f(x), positive for an anomaly; for logistic regression and trees these are log odds.
    #[must_use]
    pub fn strangeness(&self, encoded: &Encoded) -> f64 {
        match self {
            Model::LinearRegression(columns, model) => model.strangeness(columns.of(encoded)),
            Model::NearestNeighbours(columns, model) => model.strangeness(columns.of(encoded)),
            Model::IsolationForest(columns, model) => model.strangeness(columns.of(encoded)),
            Model::Marginal(columns, model) => model.strangeness(columns.of(encoded)),
            Model::OneClassSvm(columns, model) => model.strangeness(columns.of(encoded)),
            Model::Labelled(_, model) => model.margin(encoded),
        }
    }

    /// Learns one event. What a lesson means to a kind that it is not for: nothing.
    pub fn learn(&mut self, encoded: &Encoded, lesson: Lesson) {
        let (whole, leaked) = (lesson == Lesson::Event, lesson == Lesson::Leaked);
        match self {
            Model::Labelled(_, model) => model.learn(encoded, lesson),
            Model::LinearRegression(columns, model) if whole || leaked => model.learn(columns.of(encoded)),
            Model::OneClassSvm(columns, model) if whole || leaked => model.learn(columns.of(encoded)),
            Model::NearestNeighbours(columns, model) if whole => model.learn(columns.of(encoded)),
            Model::IsolationForest(columns, model) if whole => model.learn(columns.of(encoded)),
            Model::Marginal(columns, model) if whole => model.learn(columns.of(encoded)),
            Model::LinearRegression(..)
            | Model::OneClassSvm(..)
            | Model::NearestNeighbours(..)
            | Model::IsolationForest(..)
            | Model::Marginal(..) => {}
        }
    }

    /// Learns a verdict, and answers what the model said of the event before: P(anomaly), if it is a label learner and voted.
    pub fn learn_label(&mut self, encoded: &Encoded, label: Label) -> Option<f64> {
        match self {
            Model::Labelled(_, model) => model.learn_label(encoded, label, 1.0),
            _ => None,
        }
    }

    /// Learns a label that a label learner has counted already, before it took its form.
    pub fn relearn(&mut self, encoded: &Encoded, label: Label) {
        if let Model::Labelled(_, model) = self {
            model.relearn(encoded, label);
        }
    }

    /// Events learned of those needed before its score means something; for label learners, classes labelled of two.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match self {
            Model::LinearRegression(_, model) => Progress { seen: model.seen(), needed: EVENTS_MIN },
            Model::NearestNeighbours(_, model) => Progress { seen: model.seen(), needed: EVENTS_MIN },
            Model::IsolationForest(_, model) => Progress { seen: model.seen(), needed: EVENTS_MIN },
            Model::Marginal(_, model) => Progress { seen: model.seen(), needed: EVENTS_MIN },
            Model::OneClassSvm(_, model) => Progress { seen: model.seen(), needed: EVENTS_MIN },
            Model::Labelled(_, model) => model.progress(),
        }
    }

    /// Whether its strangeness may be used: its warm-up is over (detectors), both classes were labelled (label learners).
    #[must_use]
    pub fn votes(&self) -> bool {
        self.progress().ready()
    }

    /// Labelled (normals, anomalies) learned; none for a detector.
    #[must_use]
    pub fn labels(&self) -> (u64, u64) {
        match self {
            Model::Labelled(_, model) => model.labels(),
            _ => (0, 0),
        }
    }

    /// P(anomaly given features), calibrated on what the model said before each label came. None for a detector, and while the model does not vote.
    #[must_use]
    pub fn probability(&self, encoded: &Encoded) -> Option<f64> {
        match self {
            Model::Labelled(_, model) => self.votes().then(|| model.probability(encoded)),
            _ => None,
        }
    }

    /// (index among the query's columns, contribution) for each column, in the query's order. Label learners: the terms of the sum
    /// f(x), exact but for the bias. Regression: each feature's own squared residual over its variance. Marginal: the terms of its sum.
    /// Neighbours: the squared differences from the neighbour that the distance is to.
    /// Forest and one-class SVM: by how much the strangeness falls when the feature is missing, at least 0.
    #[must_use]
    pub fn contributions(&self, encoded: &Encoded) -> Vec<(usize, f64)> {
        match self {
            Model::LinearRegression(columns, model) => columns.summed(&model.terms(columns.of(encoded))),
            Model::NearestNeighbours(columns, model) => columns.summed(&model.terms(columns.of(encoded))),
            Model::IsolationForest(columns, model) => columns.falls(columns.of(encoded), |x| model.strangeness(x)),
            Model::OneClassSvm(columns, model) => columns.falls(columns.of(encoded), |x| model.strangeness(x)),
            Model::Marginal(columns, model) => columns.summed(&model.terms(columns.of(encoded))),
            Model::Labelled(columns, model) => model.contributions(columns, encoded),
        }
    }

    /// What regression expected each numeric column to be, given the others: (index among the query's columns, value). Empty for
    /// the other kinds, and where the scope is the entity: there are no values but deviations.
    #[must_use]
    pub fn expected(&self, encoded: &Encoded) -> Vec<(usize, f64)> {
        match self {
            Model::LinearRegression(columns, model) => {
                columns.numbers.iter().map(|(place, _)| *place).zip(model.expected(columns.of(encoded))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Names and values for people: weights by feature (per standard deviation; `bucket <i>` for hashed categories; `bias`), or for
    /// regression each feature's `mean` and `deviation`.
    #[must_use]
    pub fn parameters(&self) -> Vec<(String, f64)> {
        match self {
            Model::LinearRegression(columns, model) => {
                let each = columns.all().map(|(_, name)| name).zip(model.moments());
                each.flat_map(|(name, (mean, deviation))| {
                    [(format!("{name}.mean"), mean), (format!("{name}.deviation"), deviation)]
                })
                .collect()
            }
            Model::Labelled(columns, model) => {
                let names = columns.numbers.iter().map(|(_, name)| name.as_str());
                model.parameters(names)
            }
            // Samples, trees and random features are no parameters that a person could read.
            Model::NearestNeighbours(..)
            | Model::IsolationForest(..)
            | Model::Marginal(..)
            | Model::OneClassSvm(..) => Vec::new(),
        }
    }
}

/// Events that a detector learns before its score counts. Short streams need it soon: among 20 rows a neighbour says something, and
/// shrinkage keeps regression calm before it knows the correlations.
const EVENTS_MIN: u64 = 20;
