//! What a configured model is, and why it cannot be built.

use thiserror::Error;

use super::entity::EntityMoments;
use super::kernel::{KernelSettings, Shape};
use super::neighbours::Reach;

/// The kernel of an `svm`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kernel {
    Linear,
    Curved(KernelSettings),
}

/// What a configured model is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `targets`: the numeric features to predict; empty means all, and how rare each category is. In the scope of the entity, each
    /// number is its deviation from the entity's history, and not its value as well.
    LinearRegression {
        targets: Vec<String>,
    },
    NearestNeighbours {
        reach: Reach,
    },
    IsolationForest,
    Marginal,
    /// `nu`: the share of the events that is to be outside, above 0 and at most 1.
    OneClassSvm {
        nu: f64,
    },
    LogisticRegression,
    Svm {
        kernel: Kernel,
    },
    /// `linear_regression` with `target = "label"`.
    LabelRegression,
    ExtraTrees,
}

impl Kind {
    /// As in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Kind::LinearRegression { .. } | Kind::LabelRegression => "linear_regression",
            Kind::NearestNeighbours { .. } => "nearest_neighbours",
            Kind::IsolationForest => "isolation_forest",
            Kind::Marginal => "marginal",
            Kind::OneClassSvm { .. } => "one_class_svm",
            Kind::LogisticRegression => "logistic_regression",
            Kind::Svm { .. } => "svm",
            Kind::ExtraTrees => "extra_trees",
        }
    }
}

/// What a detector measures the numeric features of an event by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// All events of the partition.
    #[default]
    Partition,
    /// Those, and as further features the history of the event's own entity.
    Entity,
}

/// One `[[models]]` table of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    pub name: String,
    pub kind: Kind,
    /// Of a detector; what is learned from labels holds for all entities.
    pub scope: Scope,
}

impl ModelSpec {
    /// What its `[[models]]` table says beside its name.
    #[must_use]
    pub fn settings(&self) -> String {
        let setting = match &self.kind {
            Kind::LinearRegression { targets } if !targets.is_empty() => format!(", targets = {targets:?}"),
            Kind::NearestNeighbours { reach: Reach::Count(count) } => format!(", neighbours = {count}"),
            Kind::NearestNeighbours { reach: Reach::Share(share) } => format!(", share = {share}"),
            Kind::OneClassSvm { nu } => format!(", nu = {nu}"),
            Kind::LabelRegression => ", target = \"label\"".to_owned(),
            Kind::Svm { kernel: Kernel::Curved(settings) } => settings.describe(),
            Kind::LinearRegression { .. }
            | Kind::IsolationForest
            | Kind::Marginal
            | Kind::LogisticRegression
            | Kind::ExtraTrees
            | Kind::Svm { kernel: Kernel::Linear } => String::new(),
        };
        let scope = if self.scope == Scope::Entity { ", scope = \"entity\"" } else { "" };
        format!("{}{setting}{scope}", self.kind.name())
    }

    /// A model in the scope of its partition.
    #[must_use]
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.into(), kind, scope: Scope::default() }
    }
}

/// Why a model cannot be built from its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    #[error("model `{model}`: the query has no numeric feature `{target}` to predict{}", suggestion(.nearest))]
    UnknownTarget { model: String, target: String, nearest: Option<String> },
    #[error("model `{model}`: the query has no features to learn from")]
    NoFeatures { model: String },
    #[error(
        "model `{model}`: scope = \"entity\" keeps the history of at most {} numeric features of each entity, and the query has {numbers}; leave some out, or take scope = \"partition\"",
        EntityMoments::NUMBERS_MAX
    )]
    TooManyNumbers { model: String, numbers: usize },
}

impl KernelSettings {
    fn describe(self) -> String {
        let shape = match self.shape {
            Shape::Rbf => "kernel = \"rbf\"".to_owned(),
            Shape::Poly { degree } => format!("kernel = \"poly\", degree = {degree}"),
        };
        let gamma = self.gamma.map_or_else(String::new, |gamma| format!(", gamma = {gamma}"));
        format!(", {shape}{gamma}, c = {}, support_vectors = {}", self.c, self.support_vectors_max)
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}
