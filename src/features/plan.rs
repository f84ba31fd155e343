//! The compiled feature query: data that can be printed, hashed and evaluated.

use crate::event::{Event, EventSpec, Field, FieldType, Schema, Value};
use crate::features::error::QueryError;
use crate::features::expr::{Expr, Row};
use crate::features::layout::Layout;
use crate::features::print::identifier;
use crate::features::query;
use crate::features::scratch::with_numbers;
use crate::features::window::{WindowLimits, Windows};
use crate::features::{Column, ColumnKind, FeatureVector};
use std::fmt;
use xxhash_rust::xxh3::xxh3_64;

/// What a feature query means. Evaluating it needs nothing but an event and its entity's [`Windows`].
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) columns: Vec<Column>,
    /// One per column.
    pub(super) outputs: Vec<Output>,
    pub(super) filter: Option<Expr>,
    pub(super) inputs: Vec<Field>,
    pub(super) input_names: Vec<String>,
    pub(super) layout: Layout,
    pub(super) hash: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) expr: Expr,
    pub(super) kind: FieldType,
}

/// What one event is to its windows.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    pub vector: FeatureVector,
    /// Older than its entity's newest by more than the lateness: evaluated on the windows as they stand (it is in no window;
    /// LAG is the newest row), and not kept.
    pub late: bool,
    /// Rows that merged into panes because of `rows_max`.
    pub rows_merged: u32,
}

impl Plan {
    /// Compiles one SELECT over `events`.
    pub fn compile(sql: &str, schema: &Schema, spec: &EventSpec) -> Result<Self, QueryError> {
        let mut plan = query::compile(sql, schema, spec)?;
        plan.hash = xxh3_64(plan.to_string().as_bytes());
        Ok(plan)
    }

    /// The features in the order of the query. A [`FeatureVector`] holds the numbers in this order, then the categories in this order.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The event fields that the query names, in the order of [`Event::fields`].
    #[must_use]
    pub fn inputs(&self) -> &[String] {
        &self.input_names
    }

    /// Of the printed plan: equal for queries that differ in white space, comments or the names of their windows only.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether the plan keeps anything between events. Without windows it does not, and no event is late.
    #[must_use]
    pub fn has_windows(&self) -> bool {
        !self.layout.calls.is_empty()
    }

    /// What one exact row of an entity takes: its time, and a number for every expression that the windows read.
    #[must_use]
    pub fn window_row_bytes(&self) -> usize {
        (1 + self.layout.arguments.len()) * size_of::<f64>()
    }

    /// Whether these windows can be of this plan: what a snapshot loads is checked before it is used.
    #[must_use]
    pub fn fits(&self, windows: &Windows) -> bool {
        windows.fits(&self.layout)
    }

    /// Whether WHERE is true (neither false nor NULL).
    #[must_use]
    pub fn selects(&self, event: &Event<'_>) -> bool {
        let row = Row { fields: &event.fields, windows: &[] };
        self.filter.as_ref().is_none_or(|filter| filter.evaluate(row) == Value::Boolean(true))
    }

    /// Places the event in its entity's windows and evaluates the features.
    ///
    /// # Panics
    /// When `windows` were loaded from a snapshot that does not [fit](Plan::fits).
    #[must_use]
    pub fn observe(&self, event: &Event<'_>, windows: &mut Windows, limits: &WindowLimits) -> Observed {
        if !self.has_windows() {
            return Observed { vector: self.vector(event, &[]), late: false, rows_merged: 0 };
        }
        let row = Row { fields: &event.fields, windows: &[] };
        with_numbers(self.layout.calls.len(), |results| {
            let (late, rows_merged) = windows.observe(&self.layout, row, event.time_ms, limits, results);
            Observed { vector: self.vector(event, results), late, rows_merged }
        })
    }

    /// The features as if the event had been observed; changes nothing. `None`: an entity not seen yet.
    #[must_use]
    pub fn peek(&self, event: &Event<'_>, windows: Option<&Windows>, limits: &WindowLimits) -> FeatureVector {
        let mut copy = windows.filter(|_| self.has_windows()).cloned().unwrap_or_default();
        self.observe(event, &mut copy, limits).vector
    }

    fn vector(&self, event: &Event<'_>, windows: &[f64]) -> FeatureVector {
        let row = Row { fields: &event.fields, windows };
        let count = self.columns.iter().filter(|column| column.kind == ColumnKind::Number).count();
        let mut numbers = Vec::with_capacity(count);
        let mut categories = Vec::with_capacity(self.columns.len() - count);
        for (Output { expr, .. }, column) in self.outputs.iter().zip(&self.columns) {
            match column.kind {
                ColumnKind::Number => numbers.push(expr.number(row)),
                ColumnKind::Category => categories.push(match expr.evaluate(row) {
                    Value::Text(text) => Some(text.into()),
                    _ => None,
                }),
            }
        }
        FeatureVector { numbers: numbers.into(), categories: categories.into() }
    }
}

impl fmt::Display for Plan {
    /// What the query reads, keeps and gives; canonical, so that it can be hashed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "reads")?;
        for field in &self.inputs {
            let required = if field.required { " not null" } else { "" };
            writeln!(f, "  {} {}{required}", identifier(&field.name), field.kind)?;
        }
        if let Some(filter) = &self.filter {
            writeln!(f, "where\n  {filter}")?;
        }
        if self.has_windows() {
            writeln!(f, "keeps of each row, per entity")?;
            for argument in &self.layout.arguments {
                writeln!(f, "  {argument}")?;
            }
        }
        writeln!(f, "features")?;
        for (Output { expr, kind }, column) in self.outputs.iter().zip(&self.columns) {
            let role = match column.kind {
                ColumnKind::Number => "number",
                ColumnKind::Category => "category",
            };
            writeln!(f, "  {} {role} ({kind}) = {expr}", identifier(&column.name))?;
        }
        Ok(())
    }
}
