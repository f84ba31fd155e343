//! `svm` with `kernel = "rbf"` or `"poly"`: a support vector machine trained online in the dual, with a budget of support vectors.

use serde::{Deserialize, Serialize};

use super::encode::Encoded;
use super::moments::Moments;

mod dual;
mod points;

use points::{Points, Query};

/// How alike two events are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// exp(-gamma |x - z|^2)
    Rbf,
    /// (gamma x z + 1)^degree
    Poly { degree: u8 },
}

/// What an `svm` with a kernel is configured by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KernelSettings {
    pub shape: Shape,
    /// `None`: 1 / the number of columns that vary, each of which is scaled to a variance of about 1.
    pub gamma: Option<f64>,
    /// The most that one label of weight 1 can push.
    pub c: f64,
    pub support_vectors_max: usize,
}

/// An event that the machine remembers: y alpha is its `coefficient`, which lies between 0 and `bound` times y.
#[derive(Debug, Clone, PartialEq)]
pub struct SupportVector {
    pub encoded: Encoded,
    pub coefficient: f64,
    pub bound: f64,
}

impl KernelSettings {
    pub(crate) fn are_valid(&self) -> bool {
        let above_zero = |x: f64| 0.0 < x && x < f64::INFINITY;
        above_zero(self.c) && self.gamma.is_none_or(above_zero) && self.support_vectors_max > 0
    }

    /// The settings of a kernel of which only the shape is known.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self { shape, gamma: None, c: 1.0, support_vectors_max: 256 }
    }
}

/// f(x) = offset + sum over the support vectors of y alpha (K(x_i, x) + 1), higher for an anomaly.
///
/// The 1 beside the kernel is the bias, regularised with the rest (Mangasarian and Musicant 1999): the dual keeps a box (0 <= alpha <= bound) and
/// loses its equation, so that one coordinate can be moved alone, and a support vector can go without breaking anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelMachine {
    settings: KernelSettings,
    /// Of the numbers, as it is now.
    scaling: Vec<Moments>,
    /// As it was when the support vectors were last scaled: the kernel between two of them must not drift.
    frozen: Vec<Moments>,
    scaled: u64,
    gamma: f64,
    points: Points,
    offset: f64,
}

/// An event on the scale of the support vectors, its kernel with each, and its margin.
#[derive(Debug)]
pub(crate) struct Found {
    query: Query,
    row: Vec<[f64; points::LANES]>,
    margin: f64,
}

impl Found {
    pub(crate) fn margin(&self) -> f64 {
        self.margin
    }
}

impl KernelMachine {
    pub(crate) fn new(settings: KernelSettings, numbers: usize, categories: usize) -> Self {
        Self {
            settings,
            scaling: vec![Moments::default(); numbers],
            frozen: vec![Moments::default(); numbers],
            scaled: 0,
            gamma: 1.0,
            points: Points::new(settings.shape, numbers, categories),
            offset: 0.0,
        }
    }

    pub(crate) fn support_vectors(&self) -> usize {
        self.points.len()
    }

    pub(crate) fn margin(&self, encoded: &Encoded) -> f64 {
        self.offset + self.points.sum(&self.query(encoded), self.gamma)
    }

    /// The same of an event without some values (NaN) or categories.
    pub(crate) fn margin_of(&self, values: &[f64], buckets: &[u32]) -> f64 {
        self.offset + self.points.sum(&Query::new(&self.frozen, values, buckets), self.gamma)
    }

    pub(crate) fn learn_scale(&mut self, encoded: &Encoded) {
        for (scale, &x) in self.scaling.iter_mut().zip(&encoded.values) {
            scale.learn_value(x);
        }
        self.scaled += 1;
        // At 1, 2, 4, 8 ... events: often while the scale is young, hardly ever later.
        if self.scaled.is_power_of_two() {
            self.rescale();
        }
    }

    /// Where an event stands among the support vectors.
    pub(crate) fn find(&self, encoded: &Encoded) -> Found {
        let query = self.query(encoded);
        let row = self.points.row(&query, self.gamma);
        let margin = self.offset + self.points.weighted(&row);
        Found { query, row, margin }
    }

    /// Learns one event of class `y` (+1 an anomaly, -1 normal) that was [found](Self::find) here: its own coordinate of the dual first, then those that
    /// violate their optimum most (the PROCESS and REPROCESS of LASVM; Bordes, Ertekin, Weston, Bottou 2005). At last the budget is kept.
    pub(crate) fn update(&mut self, encoded: &Encoded, found: Found, y: f64, weight: f64) {
        let bound = self.settings.c * weight;
        if bound <= 0.0 {
            return;
        }
        let Found { query, row, margin } = found;
        let at = match self.points.same(&query, &row, y, self.gamma) {
            Some(at) => {
                self.points.widen(at, bound);
                Some(at)
            }
            None if y * margin < 1.0 => Some(self.points.push(encoded, &query, &row, y, bound, margin, self.gamma)),
            None => None,
        };
        self.points.optimise(at);
        self.points.forget_useless();
        self.points.keep_to(self.settings.support_vectors_max, self.offset);
    }

    /// This model with support vectors that were fitted elsewhere: (event, y alpha), with the bias that they leave open. Beyond the budget they are merged.
    #[must_use]
    pub(crate) fn refitted<'a>(&self, fitted: impl Iterator<Item = (&'a Encoded, f64)>, offset: f64) -> Self {
        let points = Points::new(self.settings.shape, self.scaling.len(), self.points.categories());
        let mut machine = Self { points, offset, ..self.clone() };
        machine.rescale();
        for (encoded, coefficient) in fitted {
            let bound = machine.settings.c.max(coefficient.abs());
            machine.put(encoded, coefficient, bound);
        }
        machine.points.keep_to(machine.settings.support_vectors_max, machine.offset);
        machine
    }

    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.settings == other.settings
            && self.scaling.len() == other.scaling.len()
            && self.points.categories() == other.points.categories()
    }

    /// A machine of these support vectors.
    pub(super) fn of(
        settings: KernelSettings,
        scaling: Vec<Moments>,
        categories: usize,
        offset: f64,
        vectors: Vec<SupportVector>,
    ) -> Self {
        let mut machine = Self::new(settings, scaling.len(), categories);
        machine.scaled = scaling.iter().fold(0.0, |most: f64, scale| most.max(scale.seen)) as u64;
        (machine.scaling, machine.offset) = (scaling, offset);
        machine.rescale();
        for SupportVector { encoded, coefficient, bound } in vectors {
            machine.put(&encoded, coefficient, bound);
        }
        machine
    }

    /// What it remembers, in the order of its places.
    pub(super) fn vectors(&self) -> impl Iterator<Item = SupportVector> + '_ {
        self.points.vectors()
    }

    fn put(&mut self, encoded: &Encoded, coefficient: f64, bound: f64) {
        let Found { query, row, margin } = self.find(encoded);
        let y = 1f64.copysign(coefficient);
        let at = match self.points.same(&query, &row, y, self.gamma) {
            Some(at) => at,
            None => self.points.push(encoded, &query, &row, y, 0.0, margin, self.gamma),
        };
        self.points.widen(at, bound);
        self.points.add(at, coefficient.abs());
    }

    pub(super) fn offset(&self) -> f64 {
        self.offset
    }

    pub(super) fn categories(&self) -> usize {
        self.points.categories()
    }

    pub(super) fn scaling(&self) -> &[Moments] {
        &self.scaling
    }

    pub(crate) fn settings(&self) -> &KernelSettings {
        &self.settings
    }

    /// The number at this place on the scale of the support vectors.
    pub(crate) fn scaled(&self, place: usize, x: f64) -> f64 {
        self.frozen[place].standardised(x)
    }

    /// The gamma in force once the scale is taken up.
    pub(crate) fn gamma(&self) -> f64 {
        self.gamma
    }

    /// Everything that depends on the scale, anew.
    fn rescale(&mut self) {
        self.frozen.clone_from(&self.scaling);
        self.gamma = self.settings.gamma.unwrap_or_else(|| {
            let varying = self.frozen.iter().filter(|scale| scale.varies()).count();
            1.0 / (varying + self.points.categories()).max(1) as f64
        });
        self.points.rescale(&self.frozen, self.gamma, self.offset);
    }

    fn query(&self, encoded: &Encoded) -> Query {
        Query::new(&self.frozen, &encoded.values[..self.scaling.len()], &encoded.buckets)
    }
}
