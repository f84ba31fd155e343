//! What every partition's engine is built from: the compiled configuration, shared and immutable.

use super::snapshot::FORMAT;
use crate::decision::{DecisionSpec, QuietError, QuietSpec, Rules};
use crate::event::{Decoder, EventSpec, Schema, SchemaError};
use crate::features::{Plan, QueryError, WindowLimits};
use crate::model::{CATEGORIES_MAX, Model, ModelError, ModelSpec, Part, Scope};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The bounds of one partition's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// Entities with windows; the one not seen for longest goes first.
    pub entities_max: usize,
    /// Exact window rows of one entity; past it the oldest merge into panes.
    pub window_rows_max: usize,
    /// Values counted per text feature; past it the rarest are forgotten.
    pub categories_max: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self { entities_max: 100_000, window_rows_max: 10_000, categories_max: CATEGORIES_MAX }
    }
}

/// Why a configuration makes no engine.
#[derive(Debug, thiserror::Error)]
pub enum BlueprintError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Quiet(#[from] QuietError),
}

/// The compiled configuration. Build it once and share it.
#[derive(Debug)]
pub struct Blueprint {
    pub plan: Plan,
    pub decoder: Decoder,
    pub models: Vec<ModelSpec>,
    /// A fresh instance of every model, in configuration order.
    pub(super) fresh: Vec<Model>,
    pub decision: DecisionSpec,
    /// By default nothing stays quiet.
    pub quiet: Rules,
    pub seed: u64,
    pub limits: EngineLimits,
    pub(super) windows: WindowLimits,
}

impl Blueprint {
    /// Compiles the query and builds the models over its columns.
    ///
    /// # Errors
    /// When the fields, the query or a model is not possible; the error says where and what is.
    pub fn new(
        event: &EventSpec,
        sql: &str,
        models: Vec<ModelSpec>,
        decision: DecisionSpec,
        seed: u64,
        limits: EngineLimits,
    ) -> Result<Self, BlueprintError> {
        let schema = Schema::new(event)?;
        let plan = Plan::compile(sql, &schema, event)?;
        let decoder = Decoder::new(event, plan.inputs())?;
        let fresh = models.iter().map(|spec| Model::new(spec, plan.columns())).collect::<Result<Vec<_>, _>>()?;
        let windows = WindowLimits { rows_max: limits.window_rows_max, lateness_ms: event.lateness_ms };
        Ok(Self { plan, decoder, models, fresh, decision, quiet: Rules::default(), seed, limits, windows })
    }

    /// The same, with what `spec` keeps quiet.
    ///
    /// # Errors
    /// When a rule is for what is not among the query's numeric columns.
    pub fn quieted(self, spec: &QuietSpec) -> Result<Self, BlueprintError> {
        let quiet = Rules::new(spec, self.plan.columns())?;
        Ok(Self { quiet, ..self })
    }

    /// What partition state is keyed by: its shape, the plan, and the kinds and scopes of the models. Names, the decision and the limits may change under a state.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let kinds: Vec<_> = self.models.iter().map(|model| (&model.kind, model.scope)).collect();
        xxh3_64_with_seed(format!("{FORMAT} {kinds:?}").as_bytes(), self.plan.hash())
    }

    /// The widest scope of the models.
    pub(super) fn scope(&self) -> Scope {
        let entity = self.models.iter().any(|model| model.scope == Scope::Entity);
        if entity { Scope::Entity } else { Scope::Partition }
    }

    /// What each model is to the final p-value, in configuration order.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        self.fresh.iter().map(Model::part).collect()
    }
}
