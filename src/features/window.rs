//! The rows that a plan keeps of one entity, and two-stack aggregation over them.
//!
//! All frames share one ring of rows. Each frame covers its newest rows: those before its split have an aggregate of themselves
//! and all that follow up to the split (the front stack), those after it share one running aggregate (the back). A row leaves
//! by popping the front; when the front is empty the split moves to the end. Amortised O(1), and nothing is subtracted
//! (Tangwongsan, Hirzel, Schneider 2017, "Low-latency sliding-window aggregation in worst-case constant time", section 2).

use crate::features::aggregate::{Cell, Reading, append, identity, merge};
use crate::features::expr::{Expr, Row};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Bounds on what one entity keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    /// Beyond so many rows the oldest leave. At least one row is kept.
    pub rows_max: usize,
    /// An event older than its entity's newest by more than this is scored, but not kept.
    pub lateness_ms: i64,
}

/// Which rows an aggregate sees, the current one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The newest so many and one more.
    Rows(u64),
    /// Those whose time is at least the current row's minus this.
    RangeMs(i64),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub extent: Extent,
    pub cells: Vec<Cell>,
    /// Numbers that one aggregate of this frame takes.
    pub width: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Aggregate {
        frame: usize,
        reading: Reading,
    },
    /// `default` stands in where there is no such row.
    Lag {
        argument: usize,
        distance: u64,
        default: Option<Expr>,
    },
}

/// What a plan keeps per row and reads from it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Layout {
    /// The numbers kept of each row.
    pub arguments: Vec<Expr>,
    pub frames: Vec<Frame>,
    pub calls: Vec<Call>,
}

/// The rows of one entity. What is saved is what was observed and where the stacks are split; the aggregates follow from it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Windows {
    /// The sequence number of the oldest kept row.
    first: u64,
    times: VecDeque<i64>,
    /// Row by row, as many as the layout has arguments.
    values: VecDeque<f64>,
    marks: Vec<Mark>,
    #[serde(skip)]
    stacks: Vec<Stacks>,
}

/// Sequence numbers: the frame begins at `start`; the front stack ends before `split`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    start: u64,
    split: u64,
}

#[derive(Debug, Clone, Default)]
struct Stacks {
    /// Aggregates of the rows `i..split`, for `i` from `split - 1` down to `start`.
    front: Vec<f64>,
    back: Vec<f64>,
}

/// Where the current row stands among the kept ones.
#[derive(Debug, Clone, Copy)]
enum Place {
    Newest,
    /// Older than the newest: its sequence number and time.
    Among(u64, i64),
    /// Too late: not kept.
    Nowhere,
}

impl PartialEq for Windows {
    /// Bit for bit, so that a NULL (NaN) equals itself.
    fn eq(&self, other: &Self) -> bool {
        let bits = |x: &f64| x.to_bits();
        (self.first, &self.times, &self.marks) == (other.first, &other.times, &other.marks)
            && self.values.iter().map(bits).eq(other.values.iter().map(bits))
    }
}

impl Windows {
    /// The number of rows kept.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// The newest event time seen, in milliseconds since the epoch.
    #[must_use]
    pub fn newest_ms(&self) -> Option<i64> {
        self.times.back().copied()
    }

    pub(crate) fn fits(&self, layout: &Layout) -> bool {
        let in_order = |m: &Mark| self.first <= m.start && m.start <= m.split && m.split <= self.end();
        self.values.len() == self.times.len() * layout.arguments.len()
            && (self.marks.len() == layout.frames.len() || self.times.is_empty())
            && self.marks.iter().all(in_order)
    }

    /// Places the row, and reads every call of the layout as this row sees it (NaN is NULL). `(results, late, rows dropped)`
    pub(crate) fn observe(
        &mut self,
        layout: &Layout,
        row: Row<'_>,
        time_ms: i64,
        limits: &WindowLimits,
    ) -> (Vec<f64>, bool, u32) {
        self.restore(layout);
        let newest_ms = self.newest_ms().unwrap_or(time_ms);
        if time_ms < newest_ms.saturating_sub(limits.lateness_ms) {
            return (self.read(layout, row, Place::Nowhere), true, 0);
        }
        let place = if time_ms >= newest_ms {
            self.push(layout, row, time_ms);
            Place::Newest
        } else {
            Place::Among(self.insert(layout, row, time_ms), time_ms)
        };
        let mut dropped = 0;
        while self.times.len() > limits.rows_max.max(1) {
            self.drop_oldest(layout);
            dropped += 1;
        }
        let results = self.read(layout, row, place);
        while self.oldest_is_idle(layout, limits) {
            self.drop_oldest(layout);
        }
        (results, false, dropped)
    }

    fn end(&self) -> u64 {
        self.first + self.times.len() as u64
    }

    /// The place in the ring of a sequence number that is kept.
    fn index(&self, sequence: u64) -> usize {
        (sequence - self.first) as usize
    }

    /// Computes the aggregates anew after loading: the same rows and splits give the same bits.
    fn restore(&mut self, layout: &Layout) {
        if self.stacks.len() == layout.frames.len() {
            return;
        }
        assert!(self.fits(layout), "windows of another plan: the caller keys them by the plan's hash");
        self.marks.resize(layout.frames.len(), Mark { start: self.first, split: self.first });
        self.stacks = vec![Stacks::default(); layout.frames.len()];
        for at in 0..layout.frames.len() {
            self.rebuild(layout, at, self.marks[at]);
        }
    }

    fn push(&mut self, layout: &Layout, row: Row<'_>, time_ms: i64) {
        let from = self.values.len();
        self.values.extend(layout.arguments.iter().map(|argument| argument.number(row)));
        self.times.push_back(time_ms);
        for (frame, stacks) in layout.frames.iter().zip(&mut self.stacks) {
            append(&frame.cells, &mut stacks.back, |argument| self.values[from + argument]);
        }
        for at in 0..layout.frames.len() {
            let start = self.start_for_newest(&layout.frames[at], self.marks[at].start);
            self.advance(layout, at, start);
        }
    }

    /// The rare path: every frame is built anew.
    fn insert(&mut self, layout: &Layout, row: Row<'_>, time_ms: i64) -> u64 {
        let index = self.times.partition_point(|t| *t <= time_ms);
        self.times.insert(index, time_ms);
        let stride = layout.arguments.len();
        for (at, argument) in layout.arguments.iter().enumerate() {
            self.values.insert(index * stride + at, argument.number(row));
        }
        for at in 0..layout.frames.len() {
            let start = self.start_for_newest(&layout.frames[at], self.first);
            self.rebuild(layout, at, Mark { start, split: self.end() });
        }
        self.first + index as u64
    }

    /// The first row at or after `from` that the frame of the newest row sees.
    fn start_for_newest(&self, frame: &Frame, from: u64) -> u64 {
        match frame.extent {
            Extent::Rows(preceding) => self.end().saturating_sub(preceding.saturating_add(1)).max(from),
            Extent::RangeMs(ms) => {
                let Some(newest_ms) = self.newest_ms() else { return from };
                let oldest_ms = newest_ms.saturating_sub(ms);
                let gone = self.times.range(self.index(from)..).take_while(|t| **t < oldest_ms).count();
                from + gone as u64
            }
        }
    }

    fn advance(&mut self, layout: &Layout, at: usize, start: u64) {
        let mark = self.marks[at];
        if start <= mark.split {
            let gone = start.saturating_sub(mark.start) as usize * layout.frames[at].width;
            let front = &mut self.stacks[at].front;
            front.truncate(front.len() - gone);
            self.marks[at].start = start.max(mark.start);
        } else {
            self.rebuild(layout, at, Mark { start, split: self.end() });
        }
    }

    fn rebuild(&mut self, layout: &Layout, at: usize, mark: Mark) {
        let Frame { cells, width, .. } = &layout.frames[at];
        let stride = layout.arguments.len();
        let (start, split) = (self.index(mark.start), self.index(mark.split));
        let Stacks { mut front, mut back } = std::mem::take(&mut self.stacks[at]);
        front.clear();
        for index in (start..split).rev() {
            let from = front.len();
            front.resize(from + width, 0.0);
            let (later, this) = front.split_at_mut(from);
            identity(cells, this);
            append(cells, this, |argument| self.values[index * stride + argument]);
            if from > 0 {
                merge(cells, this, &later[from - width..]);
            }
        }
        back.resize(*width, 0.0);
        identity(cells, &mut back);
        for index in split..self.times.len() {
            append(cells, &mut back, |argument| self.values[index * stride + argument]);
        }
        self.stacks[at] = Stacks { front, back };
        self.marks[at] = mark;
    }

    fn drop_oldest(&mut self, layout: &Layout) {
        for at in 0..layout.frames.len() {
            self.advance(layout, at, self.first + 1);
        }
        self.times.pop_front();
        for _ in &layout.arguments {
            self.values.pop_front();
        }
        self.first += 1;
    }

    /// Whether no row to come, late ones included, can see the oldest row.
    fn oldest_is_idle(&self, layout: &Layout, limits: &WindowLimits) -> bool {
        if self.times.len() < 2 {
            return false;
        }
        let placed_ms_min = self.times[self.times.len() - 1].saturating_sub(limits.lateness_ms);
        let idle_in_frames = layout.frames.iter().zip(&self.marks).all(|(frame, mark)| {
            mark.start > self.first
                && match frame.extent {
                    Extent::Rows(_) => true,
                    Extent::RangeMs(ms) => self.times[0] < placed_ms_min.saturating_sub(ms),
                }
        });
        idle_in_frames
            && layout.calls.iter().all(|call| match call {
                Call::Aggregate { .. } => true,
                // A row can be placed behind the rows up to `placed_ms_min`; its predecessors must be here.
                Call::Lag { distance, .. } => {
                    usize::try_from(*distance).ok().and_then(|d| self.times.get(d)).is_some_and(|t| *t <= placed_ms_min)
                }
            })
    }

    fn read(&self, layout: &Layout, row: Row<'_>, place: Place) -> Vec<f64> {
        // One allocation for the aggregates of all frames: this runs for every event.
        let mut aggregates = vec![0.0; layout.frames.iter().map(|frame| frame.width).sum()];
        let mut rest = &mut aggregates[..];
        let mut results = vec![f64::NAN; layout.calls.len()];
        for (at, frame) in layout.frames.iter().enumerate() {
            let (aggregate, others) = rest.split_at_mut(frame.width);
            rest = others;
            let rows = self.aggregate(layout, at, place, aggregate);
            for (result, call) in results.iter_mut().zip(&layout.calls) {
                if let Call::Aggregate { frame, reading } = call
                    && *frame == at
                {
                    *result = reading.of(aggregate, rows);
                }
            }
        }
        let stride = layout.arguments.len();
        let own = match place {
            Place::Newest => self.end() - 1,
            Place::Among(sequence, _) => sequence,
            Place::Nowhere => self.end(),
        };
        for (result, call) in results.iter_mut().zip(&layout.calls) {
            let Call::Lag { argument, distance, default } = call else { continue };
            *result = match own.checked_sub(*distance).filter(|s| (self.first..self.end()).contains(s)) {
                Some(sequence) => self.values[self.index(sequence) * stride + argument],
                None => default.as_ref().map_or(f64::NAN, |default| default.number(row)),
            };
        }
        results
    }

    /// Writes the aggregate of a frame; answers how many rows it covers.
    fn aggregate(&self, layout: &Layout, at: usize, place: Place, out: &mut [f64]) -> usize {
        let Frame { extent, cells, width } = &layout.frames[at];
        if let (Extent::RangeMs(ms), Place::Among(_, time_ms)) = (extent, place) {
            identity(cells, out);
            let oldest_ms = time_ms.saturating_sub(*ms);
            let start = self.times.partition_point(|t| *t < oldest_ms);
            for index in start..self.times.len() {
                append(cells, out, |argument| self.values[index * layout.arguments.len() + argument]);
            }
            return self.times.len() - start;
        }
        let Stacks { front, back } = &self.stacks[at];
        if front.is_empty() {
            out.copy_from_slice(back);
        } else {
            out.copy_from_slice(&front[front.len() - width..]);
            merge(cells, out, back);
        }
        (self.end() - self.marks[at].start) as usize
    }
}
