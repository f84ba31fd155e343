//! What a row sees of its entity: the aggregates of its frames, and the rows that LAG names.

use crate::features::aggregate::{append, identity, merge};
use crate::features::distinct::Tally;
use crate::features::expr::{Expr, Row};
use crate::features::layout::{Call, Extent, Frame, Layout};
use crate::features::scratch::with_numbers;
use crate::features::window::{Place, Windows};

impl Windows {
    /// Reads every call of the layout as the row sees it.
    pub(super) fn read(&self, layout: &Layout, row: Row<'_>, time_ms: i64, place: Place, results: &mut [f64]) {
        // The aggregates of all frames, then of how many rows each is.
        with_numbers(layout.width + layout.frames.len(), |numbers| {
            let (aggregates, rows) = numbers.split_at_mut(layout.width);
            for (at, frame) in layout.frames.iter().enumerate() {
                rows[at] = self.aggregate(layout, at, time_ms, place, &mut aggregates[frame.range()]) as f64;
            }
            for (result, call) in results.iter_mut().zip(&layout.calls) {
                *result = match call {
                    Call::Aggregate { frame, reading } => {
                        reading.of(&aggregates[layout.frames[*frame].range()], rows[*frame])
                    }
                    Call::Distinct { frame, at } => self.distinct(layout, row, *frame, *at, time_ms, place) as f64,
                    Call::Lag { argument, distance, default } => {
                        self.lag(layout, row, place, *argument, *distance, default.as_ref())
                    }
                };
            }
        });
    }

    /// Writes the aggregate of a frame; answers how many rows it covers.
    fn aggregate(&self, layout: &Layout, at: usize, time_ms: i64, place: Place, out: &mut [f64]) -> usize {
        let frame = &layout.frames[at];
        let (from, exact) = match place {
            Place::Newest | Place::Nowhere => {
                let stack = &self.stacks[at];
                stack.read(frame, &self.rows, out);
                (self.rows.index(stack.start), (self.rows.end() - stack.start) as usize)
            }
            Place::Among(index) => {
                let from = self.start_of(frame, index, time_ms);
                identity(&frame.cells, out);
                for index in from..=index {
                    append(&frame.cells, out, self.rows.row(index));
                }
                (from, index + 1 - from)
            }
            Place::Pane(_) => (0, 0),
        };
        let Some(panes) = self.panes.as_ref().filter(|_| from == 0) else { return exact };
        let last = if let Place::Pane(pane) = place { pane } else { panes.len() - 1 };
        let seen = panes.seen(frame.extent, time_ms, exact, last);
        with_numbers(frame.width, |older| {
            let rows = panes.read(layout, at, seen, older);
            if exact > 0 {
                merge(&frame.cells, older, out);
            }
            out.copy_from_slice(older);
            rows + exact
        })
    }

    /// COUNT(DISTINCT x) sees the exact rows only.
    fn distinct(&self, layout: &Layout, row: Row<'_>, frame: usize, at: usize, time_ms: i64, place: Place) -> usize {
        let argument = layout.frames[frame].distinct[at];
        match place {
            Place::Newest | Place::Nowhere => self.stacks[frame].distinct(at),
            Place::Among(index) => {
                let mut tally = Tally::default();
                let from = self.start_of(&layout.frames[frame], index, time_ms);
                (from..=index).for_each(|index| tally.enter(self.rows.row(index)[argument]));
                tally.count()
            }
            Place::Pane(_) => usize::from(!layout.arguments[argument].number(row).is_nan()),
        }
    }

    fn lag(
        &self,
        layout: &Layout,
        row: Row<'_>,
        place: Place,
        argument: usize,
        distance: u64,
        default: Option<&Expr>,
    ) -> f64 {
        let own = match place {
            Place::Newest => self.rows.end() - 1,
            Place::Among(index) => self.rows.first() + index as u64,
            Place::Nowhere => self.rows.end(),
            Place::Pane(_) if distance == 0 => return layout.arguments[argument].number(row),
            // What was before it is not known any more.
            Place::Pane(_) => return f64::NAN,
        };
        match own.checked_sub(distance) {
            Some(number) if number >= self.rows.end() => layout.arguments[argument].number(row),
            Some(number) if number >= self.rows.first() => self.rows.row(self.rows.index(number))[argument],
            // It is in a pane.
            Some(_) => f64::NAN,
            None => default.map_or(f64::NAN, |default| default.number(row)),
        }
    }

    /// The first exact row that the one at `index` sees in a frame.
    fn start_of(&self, frame: &Frame, index: usize, time_ms: i64) -> usize {
        match frame.extent {
            Extent::Rows(preceding) => index.saturating_sub(usize::try_from(preceding).unwrap_or(usize::MAX)),
            Extent::RangeMs(ms) => self.rows.before(time_ms.saturating_sub(ms)),
        }
    }
}
