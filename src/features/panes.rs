//! The rows of one entity beyond `limits.window_rows`: runs of neighbours of which only the aggregates are kept.
//!
//! A frame sees a pane as soon as it sees the pane's oldest row and not before. So what has left a window is in none of its
//! aggregates, and a window lacks at most the newer part of one pane at its far edge.

use crate::features::aggregate::{append, identity, include, merge, prepend};
use crate::features::layout::{Extent, Layout};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A new pane is begun when the newest one has this share of the rows that an entity may keep or has in panes.
const PANE_SHARE: u64 = 16;
/// Beyond so many, the two neighbours of the fewest rows become one: a pane has at most an eighth of the rows kept or in panes.
const PANES_MAX: usize = 32;

/// Oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Panes(Vec<Pane>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pane {
    rows: u64,
    oldest_ms: i64,
    newest_ms: i64,
    /// The aggregates of all frames, one after the other.
    numbers: Box<[f64]>,
}

impl PartialEq for Pane {
    /// Bit for bit, so that a NULL (NaN) equals itself.
    fn eq(&self, other: &Self) -> bool {
        let bits = |x: &f64| x.to_bits();
        (self.rows, self.oldest_ms, self.newest_ms) == (other.rows, other.oldest_ms, other.newest_ms)
            && self.numbers.iter().map(bits).eq(other.numbers.iter().map(bits))
    }
}

impl Panes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn fits(&self, layout: &Layout) -> bool {
        self.0.iter().all(|pane| pane.numbers.len() == layout.width)
    }

    /// Takes a row in that is newer than all here.
    pub(crate) fn push(&mut self, layout: &Layout, time_ms: i64, row: &[f64], rows_max: usize) {
        let full = (rows_max as u64).max(self.0.iter().map(|pane| pane.rows).sum()) / PANE_SHARE;
        match self.0.last_mut() {
            Some(pane) if pane.rows < full.max(1) => {
                pane.rows += 1;
                pane.newest_ms = time_ms;
                for frame in &layout.frames {
                    append(&frame.cells, &mut pane.numbers[frame.range()], row);
                }
            }
            _ => {
                let mut numbers = vec![0.0; layout.width].into_boxed_slice();
                for frame in &layout.frames {
                    identity(&frame.cells, &mut numbers[frame.range()]);
                    append(&frame.cells, &mut numbers[frame.range()], row);
                }
                self.0.push(Pane { rows: 1, oldest_ms: time_ms, newest_ms: time_ms, numbers });
            }
        }
        if self.0.len() > PANES_MAX {
            self.merge_smallest(layout);
        }
    }

    /// Takes a row in that belongs among those here; answers its pane.
    pub(crate) fn insert(&mut self, layout: &Layout, time_ms: i64, row: &[f64]) -> usize {
        let at = self.0.partition_point(|pane| pane.oldest_ms <= time_ms).saturating_sub(1);
        let pane = &mut self.0[at];
        for frame in &layout.frames {
            let numbers = &mut pane.numbers[frame.range()];
            if time_ms >= pane.newest_ms {
                append(&frame.cells, numbers, row);
            } else if time_ms < pane.oldest_ms {
                prepend(&frame.cells, numbers, row);
            } else {
                include(&frame.cells, numbers, row);
            }
        }
        pane.rows += 1;
        pane.oldest_ms = pane.oldest_ms.min(time_ms);
        pane.newest_ms = pane.newest_ms.max(time_ms);
        at
    }

    /// The panes up to `last` that a window of a row at `time_ms` sees, when it sees `newer` rows that are in none of them.
    pub(crate) fn seen(&self, extent: Extent, time_ms: i64, newer: usize, last: usize) -> Range<usize> {
        let mut left = match extent {
            Extent::Rows(preceding) => preceding.saturating_add(1).saturating_sub(newer as u64),
            Extent::RangeMs(_) => u64::MAX,
        };
        let oldest_ms = match extent {
            Extent::Rows(_) => i64::MIN,
            Extent::RangeMs(ms) => time_ms.saturating_sub(ms),
        };
        let mut from = last + 1;
        while from > 0 && self.0[from - 1].rows <= left && self.0[from - 1].oldest_ms >= oldest_ms {
            from -= 1;
            left -= self.0[from].rows;
        }
        from..last + 1
    }

    /// Writes what frame `at` aggregates of these panes; answers how many rows they have.
    pub(crate) fn read(&self, layout: &Layout, at: usize, panes: Range<usize>, out: &mut [f64]) -> usize {
        let frame = &layout.frames[at];
        identity(&frame.cells, out);
        let mut rows = 0;
        for pane in &self.0[panes] {
            merge(&frame.cells, out, &pane.numbers[frame.range()]);
            rows += pane.rows;
        }
        rows as usize
    }

    /// Drops the panes that no window of a row at `placed_ms_min` or later sees. `older` of the exact rows are no newer than that.
    pub(crate) fn forget(&mut self, layout: &Layout, placed_ms_min: i64, older: usize) {
        let end = match older {
            // Such a row would be placed among the panes.
            0 => self.0.partition_point(|pane| pane.oldest_ms <= placed_ms_min),
            _ => self.0.len(),
        };
        let Some(last) = end.checked_sub(1) else { return };
        let first_seen = |extent| self.seen(extent, placed_ms_min, older, last).start;
        let first = layout.frames.iter().map(|frame| first_seen(frame.extent)).min().unwrap_or(end);
        self.0.drain(..first);
    }

    fn merge_smallest(&mut self, layout: &Layout) {
        let pairs = self.0.windows(2).map(|pair| pair[0].rows + pair[1].rows);
        let Some((at, _)) = pairs.enumerate().min_by_key(|(_, rows)| *rows) else { return };
        let later = self.0.remove(at + 1);
        let pane = &mut self.0[at];
        for frame in &layout.frames {
            merge(&frame.cells, &mut pane.numbers[frame.range()], &later.numbers[frame.range()]);
        }
        pane.rows += later.rows;
        pane.newest_ms = later.newest_ms;
    }
}
