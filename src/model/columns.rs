//! Which columns of the query a model reads, and where their values stand in an encoded event.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::encode::Encoded;
use super::entity::EntityMoments;
use super::spec::{Kind, ModelError, ModelSpec, Scope};
use crate::features::{Column, ColumnKind};
use crate::suggest::nearest;

/// The query's columns in the order in which an [`Encoded`] holds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// (index among the query's columns, name) of each number.
    pub(super) numbers: Vec<(usize, String)>,
    /// The same of each category.
    pub(super) categories: Vec<(usize, String)>,
    /// The same of each number, measured by its entity's history.
    by_entity: Vec<(usize, String)>,
    /// How many of an event's values come before the first that is read.
    skipped: usize,
}

impl Columns {
    /// Those that a model of `spec` reads.
    pub(super) fn new(spec: &ModelSpec, columns: &[Column]) -> Result<Self, ModelError> {
        let of = |kind| {
            let columns = columns.iter().enumerate().filter(move |(_, column)| column.kind == kind);
            columns.map(|(i, column)| (i, column.name.clone())).collect::<Vec<_>>()
        };
        let (numbers, categories) = (of(ColumnKind::Number), of(ColumnKind::Category));
        let by_entity = match spec.scope {
            Scope::Partition => Vec::new(),
            Scope::Entity => numbers.clone(),
        };
        if by_entity.len() > EntityMoments::NUMBERS_MAX {
            return Err(ModelError::TooManyNumbers { model: spec.name.clone(), numbers: by_entity.len() });
        }
        if numbers.len() + categories.len() == 0 {
            return Err(ModelError::NoFeatures { model: spec.name.clone() });
        }
        // Regression reads a number only as its entity's history measures it: predicted from itself, it would never be strange.
        Ok(if matches!(spec.kind, Kind::LinearRegression { .. }) && spec.scope == Scope::Entity {
            Self { skipped: numbers.len(), numbers: Vec::new(), categories, by_entity }
        } else {
            Self { skipped: 0, numbers, categories, by_entity }
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &(usize, String)> {
        self.numbers.iter().chain(&self.categories).chain(&self.by_entity)
    }

    pub(super) fn width(&self) -> usize {
        self.numbers.len() + self.categories.len() + self.by_entity.len()
    }

    /// Their values in an event.
    pub(super) fn of<'a>(&self, encoded: &'a Encoded) -> &'a [f64] {
        &encoded.values[self.skipped..self.skipped + self.width()]
    }

    /// (index among the query's columns, term) of each column, in the query's order: the sum over the values that are of it.
    pub(super) fn summed(&self, terms: &[f64]) -> Vec<(usize, f64)> {
        let mut all: Vec<(usize, f64)> = self.all().map(|(place, _)| *place).zip(terms.iter().copied()).collect();
        all.sort_by_key(|(place, _)| *place);
        all.dedup_by(|(place, term), (first, sum)| {
            let same = place == first;
            if same {
                *sum += *term;
            }
            same
        });
        all
    }

    /// By how much `strangeness` falls when a column is missing, for each in the query's order: what is missing is ordinary.
    pub(super) fn falls(&self, x: &[f64], strangeness: impl Fn(&[f64]) -> f64) -> Vec<(usize, f64)> {
        let (whole, places) = (strangeness(x), self.all().map(|(place, _)| *place));
        let without = |missing: usize| {
            let of_it = self.all().map(|(place, _)| *place == missing);
            let without: Vec<f64> = x.iter().zip(of_it).map(|(x, of_it)| if of_it { f64::NAN } else { *x }).collect();
            (missing, (whole - strangeness(&without)).max(0.0))
        };
        places.collect::<BTreeSet<_>>().into_iter().map(without).collect()
    }

    /// By how much a label learner's `margin` falls when a column is missing, for each in the query's order. `margin` is asked without the column at this
    /// place among the numbers and then the categories.
    pub(super) fn falls_of_learner(&self, margin: impl Fn(Option<usize>) -> f64) -> Vec<(usize, f64)> {
        let whole = margin(None);
        let columns = self.numbers.iter().chain(&self.categories).enumerate();
        let mut falls: Vec<(usize, f64)> =
            columns.map(|(place, (column, _))| (*column, whole - margin(Some(place)))).collect();
        falls.sort_by_key(|(column, _)| *column);
        falls
    }

    /// Where the numbers called `names` stand among the values; with no names, every value.
    pub(super) fn targets(&self, model: &str, names: &[String]) -> Result<Vec<u32>, ModelError> {
        if names.is_empty() {
            return Ok((0..self.width() as u32).collect());
        }
        // Regression reads a number in one of the two ways.
        let is_number = |i: usize| !(self.numbers.len()..self.numbers.len() + self.categories.len()).contains(&i);
        let numbers = || self.all().enumerate().filter(|(i, _)| is_number(*i));
        let found = |target: &String| numbers().find(|(_, (_, name))| name == target).map(|(i, _)| i);
        let index = |target: &String| {
            found(target).map(|i| i as u32).ok_or_else(|| ModelError::UnknownTarget {
                model: model.to_owned(),
                target: target.clone(),
                nearest: nearest(target, numbers().map(|(_, (_, name))| name.as_str())).map(str::to_owned),
            })
        };
        names.iter().map(index).collect()
    }
}
