//! The rows that a detector remembers: a seeded sample of the events that the guard let through, column by column.

use serde::{Deserialize, Serialize};

use crate::draw::{Draw, Purpose};

/// Once full, an event replaces a row chosen at random with this probability: the sample is of about the last four times its size.
const REPLACE_RATE: f64 = 0.25;

/// A row that came in, and what it replaced.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) row: usize,
    /// The row that was there before; empty where the sample has grown.
    pub(super) old: Vec<f64>,
}

/// At most `rows_max` rows of the values that the model reads. What an event lacks does not enter: the value that stands in its place stays, or
/// that of the row before where the sample still grows. NaN is left only in rows from before a feature had its first value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    draw: Draw,
    rows_max: usize,
    /// Events offered.
    pub(super) seen: u64,
    /// One per feature; all have the same length.
    pub(super) columns: Vec<Vec<f64>>,
}

impl Sample {
    pub(super) fn new(width: usize, rows_max: usize) -> Self {
        Self { draw: Draw::new(0), rows_max, seen: 0, columns: vec![Vec::new(); width] }
    }

    pub(super) fn reseed(&mut self, draw: Draw) {
        self.draw = draw;
    }

    pub(super) fn draw(&self) -> Draw {
        self.draw
    }

    pub(super) fn rows(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// Offers an event; `None` when it does not enter.
    pub(super) fn learn(&mut self, x: &[f64]) -> Option<Change> {
        let index = self.seen;
        self.seen += 1;
        let rows = self.rows();
        if rows < self.rows_max {
            for (column, &x) in self.columns.iter_mut().zip(x) {
                column.push(if x.is_nan() { column.last().copied().unwrap_or(x) } else { x });
            }
            return Some(Change { row: rows, old: Vec::new() });
        }
        if !self.draw.chance(Purpose::SampleEnter, index, REPLACE_RATE) {
            return None;
        }
        let row = (self.draw.bits(Purpose::SampleRow, index) % rows as u64) as usize;
        let old = self.columns.iter().map(|column| column[row]).collect();
        for (column, &x) in self.columns.iter_mut().zip(x).filter(|(_, x)| !x.is_nan()) {
            column[row] = x;
        }
        Some(Change { row, old })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fills_up_and_then_forgets_slowly() {
        let mut sample = Sample::new(1, 100);
        for i in 0..100 {
            assert_eq!(sample.learn(&[f64::from(i)]).map(|change| change.row), Some(i as usize));
        }
        let replaced = (100..500).filter_map(|i| sample.learn(&[f64::from(i)])).count();
        assert!((70..130).contains(&replaced), "{replaced} of 400 events entered, not about a quarter");
        assert_eq!(sample.rows(), 100);
        let young = sample.columns[0].iter().filter(|x| **x >= 100.0).count();
        assert!((40..90).contains(&young), "{young} rows are new");
    }

    #[test]
    fn what_is_missing_leaves_what_is_there() {
        let mut sample = Sample::new(2, 2);
        for x in [[f64::NAN, 1.0], [3.0, f64::NAN]] {
            sample.learn(&x);
        }
        assert!(sample.columns[0][0].is_nan() && sample.columns[0][1] == 3.0, "{sample:?}");
        assert_eq!(sample.columns[1], [1.0, 1.0]);
        for _ in 0..100 {
            sample.learn(&[f64::NAN; 2]);
        }
        assert_eq!(sample.columns[1], [1.0, 1.0]);
    }
}
