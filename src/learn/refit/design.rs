//! Rows as a matrix: the numbers, and one column for each of the buckets that categories fell into.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::Rows;
use crate::model::{BUCKET_MISSING, Encoded};

/// Buckets that get a column, the most frequent first.
const BUCKETS_MAX: usize = 256;
/// Numbers of a matrix, at most: 160 MB. There are fewer rows where there are more columns.
const CELLS_MAX: usize = 20_000_000;

/// The columns of a matrix.
#[derive(Debug)]
pub(super) struct Design {
    numbers: usize,
    /// (place among the categories, bucket), in order. No place: whichever category fell into it, as the weights of a linear model are shared.
    pub(super) buckets: Vec<(Option<usize>, u32)>,
}

impl Design {
    /// A bucket is the same whichever category fell into it.
    pub(super) fn hashed(rows: &Rows<'_>) -> Self {
        Self::of(rows, |_| None)
    }

    /// Each category has buckets of its own.
    pub(super) fn by_category(rows: &Rows<'_>) -> Self {
        Self::of(rows, Some)
    }

    fn of(rows: &Rows<'_>, at: impl Fn(usize) -> Option<usize>) -> Self {
        let mut seen: BTreeMap<(Option<usize>, u32), u64> = BTreeMap::new();
        let mut numbers = 0;
        for (x, _) in rows.all() {
            numbers = x.values.len();
            for (place, bucket) in x.buckets.iter().enumerate().filter(|(_, bucket)| **bucket != BUCKET_MISSING) {
                *seen.entry((at(place), *bucket)).or_default() += 1;
            }
        }
        let mut buckets: Vec<_> = seen.into_iter().collect();
        buckets.sort_by_key(|(bucket, count)| (std::cmp::Reverse(*count), *bucket));
        buckets.truncate(BUCKETS_MAX);
        let mut buckets: Vec<_> = buckets.into_iter().map(|(bucket, _)| bucket).collect();
        buckets.sort_unstable();
        Self { numbers, buckets }
    }

    pub(super) fn width(&self) -> usize {
        self.numbers + self.buckets.len()
    }

    pub(super) fn rows_max(&self) -> usize {
        CELLS_MAX / self.width().max(1)
    }

    /// A row per event. `number` answers the value of a column: (place, as it came).
    pub(super) fn matrix<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = &'a Encoded>,
        number: impl Fn(usize, f64) -> f64,
    ) -> Array2<f64> {
        let mut matrix = Array2::zeros((rows.len(), self.width()));
        for (mut row, x) in matrix.outer_iter_mut().zip(rows) {
            for place in 0..self.numbers {
                row[place] = number(place, x.values[place]);
            }
            for (column, (place, bucket)) in self.buckets.iter().enumerate() {
                let hits = match place {
                    Some(place) => usize::from(x.buckets[*place] == *bucket),
                    None => x.buckets.iter().filter(|hit| *hit == bucket).count(),
                };
                row[self.numbers + column] = hits as f64;
            }
        }
        matrix
    }
}
