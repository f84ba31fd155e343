//! The aggregate of one frame's newest rows, in constant amortised time and without ever subtracting.
//!
//! The frame is cut at its split. The rows behind it share one running aggregate (the back). Of those before it (the front) the
//! aggregate from the oldest up to the split is what counts; a row leaves by going one step nearer to the split, and when the front is empty
//! the split moves to the end (Tangwongsan, Hirzel, Schneider 2017, "Low-latency sliding-window aggregation in worst-case constant
//! time", section 2). They keep one aggregate per row of the front; here only some are kept, in distances from the oldest row that
//! grow by a factor, and those between are computed again when their turn comes. So a frame of n rows keeps O(log n)
//! numbers beside the rows and computes each of them O(log n) times: a kilobyte of an entity instead of a copy of its window.

use crate::features::aggregate::{append, identity, merge, prepend};
use crate::features::distinct::Tally;
use crate::features::layout::Frame;
use crate::features::rows::Rows;
use serde::{Deserialize, Serialize};

/// So many rows are read again for every event rather than kept: half of it on average.
const GAP: u64 = 4;
/// Shorter fronts keep an aggregate at every doubling of the distance, longer ones at every fourfold.
const DOUBLING_ROWS_MAX: u64 = 512;

/// What is saved is where the frame begins and is cut; all else follows from that and the rows, bit for bit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stack {
    /// The number of the first row in the frame.
    pub start: u64,
    /// The number of the first row behind the front.
    pub split: u64,
    #[serde(skip)]
    back: Box<[f64]>,
    /// Numbers of rows of the front, farthest from `start` first ...
    #[serde(skip)]
    kept_at: Vec<u64>,
    /// ... and the aggregate from each of them up to the split.
    #[serde(skip)]
    kept: Vec<f64>,
    #[serde(skip)]
    tallies: Box<[Tally]>,
}

impl Stack {
    /// A frame of no rows, the next of which has the number `end`.
    pub(crate) fn new(end: u64) -> Self {
        Self { start: end, split: end, ..Self::default() }
    }

    /// Computes what is not saved.
    pub(crate) fn restore(&mut self, frame: &Frame, rows: &Rows) {
        self.back = vec![0.0; frame.width].into();
        self.tallies = vec![Tally::default(); frame.distinct.len()].into();
        self.rebuild(frame, rows);
    }

    /// The newest row has just been put there.
    pub(crate) fn push(&mut self, frame: &Frame, rows: &Rows) {
        let row = rows.row(rows.len() - 1);
        append(&frame.cells, &mut self.back, row);
        for (tally, argument) in self.tallies.iter_mut().zip(&frame.distinct) {
            tally.enter(row[*argument]);
        }
    }

    /// A row has just been put before others; `seen` if it is one of the frame's.
    pub(crate) fn insert(&mut self, frame: &Frame, rows: &Rows, number: u64, seen: bool) {
        if !seen {
            self.start += 1;
            self.split += 1;
            self.kept_at.iter_mut().for_each(|at| *at += 1);
            return;
        }
        let row = rows.row(rows.index(number));
        for (tally, argument) in self.tallies.iter_mut().zip(&frame.distinct) {
            tally.enter(row[*argument]);
        }
        if number < self.split {
            self.split = rows.end();
            self.rebuild_front(frame, rows);
        }
        self.rebuild_back(frame, rows);
    }

    /// The rows before `to` leave.
    pub(crate) fn advance(&mut self, frame: &Frame, rows: &Rows, to: u64) {
        if to <= self.start {
            return;
        }
        for (tally, argument) in self.tallies.iter_mut().zip(&frame.distinct) {
            (self.start..to).for_each(|number| tally.leave(rows.row(rows.index(number))[*argument]));
        }
        self.start = to;
        if to > self.split {
            self.split = rows.end();
            self.rebuild_front(frame, rows);
            self.rebuild_back(frame, rows);
        } else {
            while self.kept_at.pop_if(|at| *at < to).is_some() {}
            self.kept.truncate(self.kept_at.len() * frame.width);
            self.keep(frame, rows);
        }
    }

    /// Writes the aggregate of the frame.
    pub(crate) fn read(&self, frame: &Frame, rows: &Rows, out: &mut [f64]) {
        if frame.width == 0 {
            return;
        }
        match self.kept.len().checked_sub(frame.width) {
            Some(from) => out.copy_from_slice(&self.kept[from..]),
            None => identity(&frame.cells, out),
        }
        for number in (self.start..self.nearest_kept()).rev() {
            prepend(&frame.cells, out, rows.row(rows.index(number)));
        }
        merge(&frame.cells, out, &self.back);
    }

    /// How many different values of the frame's argument `at` there are.
    pub(crate) fn distinct(&self, at: usize) -> usize {
        self.tallies[at].count()
    }

    fn nearest_kept(&self) -> u64 {
        self.kept_at.last().copied().unwrap_or(self.split)
    }

    /// Keeps aggregates of the front until one is near its oldest row.
    fn keep(&mut self, frame: &Frame, rows: &Rows) {
        let nearest = self.nearest_kept();
        let gap = nearest - self.start;
        if gap <= GAP || frame.width == 0 {
            return;
        }
        let factor = if gap <= DOUBLING_ROWS_MAX { 2 } else { 4 };
        let mut distance = GAP;
        while distance * factor < gap {
            distance *= factor;
        }
        // The running aggregate is the last in `kept`, and goes when it has done its work.
        match self.kept.len().checked_sub(frame.width) {
            Some(from) => self.kept.extend_from_within(from..),
            None => {
                self.kept.resize(frame.width, 0.0);
                identity(&frame.cells, &mut self.kept);
            }
        }
        for number in (self.start + GAP..nearest).rev() {
            let from = self.kept.len() - frame.width;
            prepend(&frame.cells, &mut self.kept[from..], rows.row(rows.index(number)));
            if number == self.start + distance {
                self.kept_at.push(number);
                self.kept.extend_from_within(from..);
                distance /= factor;
            }
        }
        self.kept.truncate(self.kept_at.len() * frame.width);
    }

    fn rebuild(&mut self, frame: &Frame, rows: &Rows) {
        self.rebuild_front(frame, rows);
        self.rebuild_back(frame, rows);
        for (tally, argument) in self.tallies.iter_mut().zip(&frame.distinct) {
            tally.clear();
            (rows.index(self.start)..rows.len()).for_each(|index| tally.enter(rows.row(index)[*argument]));
        }
    }

    fn rebuild_front(&mut self, frame: &Frame, rows: &Rows) {
        self.kept_at.clear();
        self.kept.clear();
        self.keep(frame, rows);
    }

    fn rebuild_back(&mut self, frame: &Frame, rows: &Rows) {
        identity(&frame.cells, &mut self.back);
        for index in rows.index(self.split)..rows.len() {
            append(&frame.cells, &mut self.back, rows.row(index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::aggregate::Cell;
    use crate::features::layout::Extent;

    #[test]
    fn a_frame_of_ten_thousand_rows_keeps_a_handful_of_aggregates() {
        let cells = vec![Cell::Count(0), Cell::Sum(0), Cell::Max(0)];
        let frame = Frame { extent: Extent::Rows(9_999), cells, width: 3, from: 0, distinct: Vec::new() };
        let (mut rows, mut stack) = (Rows::default(), Stack::new(0));
        stack.restore(&frame, &rows);
        let mut most = 0;
        let mut out = [0.0; 3];
        for n in 0..40_000_u64 {
            rows.insert(1, n as i64, |row| row[0] = (n % 1_000) as f64);
            stack.push(&frame, &rows);
            stack.advance(&frame, &rows, (n + 1).saturating_sub(10_000));
            if rows.len() > 10_000 {
                rows.pop_oldest();
            }
            most = most.max(stack.kept_at.len());
            if n % 97 == 0 {
                stack.read(&frame, &rows, &mut out);
                let values = || (0..rows.len()).map(|index| rows.row(index)[0]);
                assert_eq!(out, [rows.len() as f64, values().sum(), values().fold(0.0, f64::max)]);
            }
        }
        assert!((6..=12).contains(&most), "{most} aggregates were kept");
    }
}
