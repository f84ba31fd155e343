//! SQL text -> [`Plan`] -> [`FeatureVector`], and the windows that a plan keeps per entity.

mod aggregate;
mod calls;
mod compile;
mod distinct;
mod error;
mod expr;
mod frames;
mod functions;
mod layout;
mod panes;
mod plan;
mod print;
mod query;
mod rows;
mod scalar;
mod scratch;
mod stack;
#[cfg(test)]
mod tests;
mod view;
mod window;

pub use error::QueryError;
pub use plan::{Observed, Plan};
pub use window::{WindowLimits, Windows};

use serde::{Deserialize, Serialize};

/// What one column of the query is to the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColumnKind {
    /// Numeric or boolean: one number.
    Number,
    /// Text: a category.
    Category,
}

/// One output column of the feature query.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

/// The features of one event, in the order of the plan's columns: its numbers, then its categories.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureVector {
    /// NaN is a missing value (SQL's NULL); no other value is outside [-1e30, 1e30].
    pub numbers: Box<[f64]>,
    pub categories: Box<[Option<Box<str>>]>,
}
