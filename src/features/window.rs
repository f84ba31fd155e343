//! What a plan keeps of one entity: where a row is placed, and when it goes.
//!
//! All frames share the exact rows; each has a [`Stack`] over its newest ones, and beyond `rows_max` rows there are [`Panes`].

use crate::features::expr::Row;
use crate::features::layout::{Call, Extent, Layout};
use crate::features::panes::Panes;
use crate::features::rows::Rows;
use crate::features::scratch::with_numbers;
use crate::features::stack::Stack;
use serde::{Deserialize, Serialize};

/// Bounds on what one entity keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    /// Beyond so many rows the oldest merge into panes. At least one row is kept.
    pub rows_max: usize,
    /// An event older than its entity's newest by more than this is scored, but not kept.
    pub lateness_ms: i64,
}

/// The rows of one entity. What is saved is what was observed and where the stacks are split; the rest follows from it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Windows {
    pub(super) rows: Rows,
    /// One per frame, once there was a row.
    pub(super) stacks: Box<[Stack]>,
    /// Boxed, because hardly any entity has them.
    pub(super) panes: Option<Box<Panes>>,
    /// So many rows were too late, and none between them right but of the newest time.
    late: u8,
    #[serde(skip)]
    restored: bool,
}

/// So many rows of an entity, all of them too late, say that its newest time was wrong: one row from the future, by a clock that is wrong,
/// would leave out all others until then. The windows begin anew with the last of them.
const LATE_ROWS_MAX: u8 = 100;

/// Where the current row stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Newest,
    /// Older than the newest: its place among the exact rows.
    Among(usize),
    /// Older than all exact rows: its pane.
    Pane(usize),
    /// Too late: not kept.
    Nowhere,
}

impl PartialEq for Windows {
    fn eq(&self, other: &Self) -> bool {
        let marks = |windows: &Self| windows.stacks.iter().map(|s| (s.start, s.split)).collect::<Vec<_>>();
        self.rows == other.rows && self.panes == other.panes && self.late == other.late && marks(self) == marks(other)
    }
}

impl Windows {
    /// The number of rows kept exactly.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The number of panes that older rows have merged into.
    #[must_use]
    pub fn panes(&self) -> usize {
        self.panes.as_ref().map_or(0, |panes| panes.len())
    }

    /// The newest event time seen, in milliseconds since the epoch.
    #[must_use]
    pub fn newest_ms(&self) -> Option<i64> {
        self.rows.newest_ms()
    }

    pub(crate) fn fits(&self, layout: &Layout) -> bool {
        let (first, end) = (self.rows.first(), self.rows.end());
        let in_order = |s: &Stack| first <= s.start && s.start <= s.split && s.split <= end;
        self.rows.have(layout.arguments.len())
            && (self.stacks.len() == layout.frames.len() || self.rows.len() == 0)
            && self.stacks.iter().all(in_order)
            && self.panes.as_ref().is_none_or(|panes| panes.fits(layout))
    }

    /// Places the row, and reads every call of the layout as this row sees it (NaN is NULL). `(late, rows merged into panes)`
    pub(crate) fn observe(
        &mut self,
        layout: &Layout,
        row: Row<'_>,
        time_ms: i64,
        limits: &WindowLimits,
        results: &mut [f64],
    ) -> (bool, u32) {
        self.restore(layout);
        let newest_ms = self.newest_ms().unwrap_or(time_ms);
        if time_ms >= newest_ms.saturating_sub(limits.lateness_ms) {
            // What is of the newest time itself says nothing of it: a wrong clock may say it again and again.
            self.late = if time_ms == newest_ms { self.late } else { 0 };
        } else if self.late + 1 < LATE_ROWS_MAX {
            self.late += 1;
            self.read(layout, row, newest_ms, Place::Nowhere, results);
            return (true, 0);
        } else {
            *self = Self::default();
            return self.observe(layout, row, time_ms, limits, results);
        }
        let place = self.place(layout, row, time_ms);
        self.read(layout, row, time_ms, place, results);
        let mut merged = u32::from(matches!(place, Place::Pane(_)));
        while self.rows.len() > limits.rows_max.max(1) {
            self.merge_oldest(layout, limits.rows_max);
            merged += 1;
        }
        self.forget(layout, newest_ms.max(time_ms).saturating_sub(limits.lateness_ms));
        (false, merged)
    }

    /// Computes what is not saved: the same rows and splits give the same bits.
    fn restore(&mut self, layout: &Layout) {
        if self.restored {
            return;
        }
        assert!(self.fits(layout), "windows of another plan: the caller keys them by the plan's hash");
        if self.stacks.len() != layout.frames.len() {
            self.stacks = vec![Stack::new(self.rows.end()); layout.frames.len()].into();
        }
        for (stack, frame) in self.stacks.iter_mut().zip(&layout.frames) {
            stack.restore(frame, &self.rows);
        }
        self.restored = true;
    }

    fn place(&mut self, layout: &Layout, row: Row<'_>, time_ms: i64) -> Place {
        let fill = |kept: &mut [f64]| {
            for (kept, argument) in kept.iter_mut().zip(&layout.arguments) {
                *kept = argument.number(row);
            }
        };
        if let Some(panes) = self.panes.as_mut().filter(|_| time_ms < self.rows.time(0)) {
            let pane = with_numbers(layout.arguments.len(), |kept| {
                fill(kept);
                panes.insert(layout, time_ms, kept)
            });
            return Place::Pane(pane);
        }
        let number = self.rows.insert(layout.arguments.len(), time_ms, fill);
        let newest = number + 1 == self.rows.end();
        for (stack, frame) in self.stacks.iter_mut().zip(&layout.frames) {
            if newest {
                stack.push(frame, &self.rows);
            } else {
                let seen = match frame.extent {
                    Extent::Rows(preceding) => number >= start_of_newest(&self.rows, preceding),
                    Extent::RangeMs(ms) => self.rows.newest_ms().is_some_and(|t| time_ms >= t.saturating_sub(ms)),
                };
                stack.insert(frame, &self.rows, number, seen);
            }
            let start = match frame.extent {
                Extent::Rows(preceding) => start_of_newest(&self.rows, preceding),
                Extent::RangeMs(ms) => {
                    let oldest_ms = self.rows.newest_ms().unwrap_or(time_ms).saturating_sub(ms);
                    let mut index = self.rows.index(stack.start);
                    while self.rows.time(index) < oldest_ms {
                        index += 1;
                    }
                    self.rows.first() + index as u64
                }
            };
            stack.advance(frame, &self.rows, start);
        }
        if newest { Place::Newest } else { Place::Among(self.rows.index(number)) }
    }

    fn merge_oldest(&mut self, layout: &Layout, rows_max: usize) {
        if !layout.frames.is_empty() {
            let panes = self.panes.get_or_insert_default();
            panes.push(layout, self.rows.time(0), self.rows.row(0), rows_max);
        }
        self.drop_oldest(layout);
    }

    fn drop_oldest(&mut self, layout: &Layout) {
        for (stack, frame) in self.stacks.iter_mut().zip(&layout.frames) {
            stack.advance(frame, &self.rows, self.rows.first() + 1);
        }
        self.rows.pop_oldest();
    }

    /// Drops what no row to come can see; it will be at `placed_ms_min` or later.
    fn forget(&mut self, layout: &Layout, placed_ms_min: i64) {
        while self.oldest_is_idle(layout, placed_ms_min) {
            self.drop_oldest(layout);
        }
        if let Some(panes) = &mut self.panes {
            let older = (0..self.rows.len()).take_while(|index| self.rows.time(*index) <= placed_ms_min).count();
            panes.forget(layout, placed_ms_min, older);
            if panes.is_empty() {
                self.panes = None;
            }
        }
    }

    fn oldest_is_idle(&self, layout: &Layout, placed_ms_min: i64) -> bool {
        if self.rows.len() < 2 {
            return false;
        }
        // A row can be placed behind those up to `placed_ms_min`; so many of its predecessors must be here.
        let enough = |preceding: u64| {
            let index = usize::try_from(preceding).ok().filter(|index| *index < self.rows.len());
            index.is_some_and(|index| self.rows.time(index) <= placed_ms_min)
        };
        let idle_in_frames = layout.frames.iter().zip(&self.stacks).all(|(frame, stack)| {
            stack.start > self.rows.first()
                && match frame.extent {
                    Extent::Rows(preceding) => enough(preceding),
                    Extent::RangeMs(ms) => self.rows.time(0) < placed_ms_min.saturating_sub(ms),
                }
        });
        idle_in_frames
            && layout.calls.iter().all(|call| match call {
                Call::Aggregate { .. } | Call::Distinct { .. } => true,
                Call::Lag { distance, .. } => enough(*distance),
            })
    }
}

/// The number of the first row that a frame of so many rows before the newest sees.
fn start_of_newest(rows: &Rows, preceding: u64) -> u64 {
    rows.end().saturating_sub(preceding.saturating_add(1)).max(rows.first())
}
