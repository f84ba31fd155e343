//! What a plan keeps of each row and reads from it: plain data, made by the compiler and used by the windows.

use crate::features::aggregate::{Cell, Reading};
use crate::features::expr::Expr;

/// Which rows a window sees: the current one, and of those before it (by time, then by arrival) ...
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// ... the nearest so many.
    Rows(u64),
    /// ... those whose time is at least the current row's minus this.
    RangeMs(i64),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub extent: Extent,
    pub cells: Vec<Cell>,
    /// Numbers that one aggregate of this frame takes.
    pub width: usize,
    /// Where these begin among the aggregates of all frames.
    pub from: usize,
    /// The arguments whose different values are counted.
    pub distinct: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Aggregate {
        frame: usize,
        reading: Reading,
    },
    /// COUNT(DISTINCT x): a place in the frame's `distinct`.
    Distinct {
        frame: usize,
        at: usize,
    },
    /// `default` stands in where there is no such row.
    Lag {
        argument: usize,
        distance: u64,
        default: Option<Expr>,
    },
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Layout {
    /// The numbers kept of each row.
    pub arguments: Vec<Expr>,
    pub frames: Vec<Frame>,
    pub calls: Vec<Call>,
    /// Numbers that the aggregates of all frames take, one frame after the other.
    pub width: usize,
}

impl Layout {
    /// Gives every frame its place among the aggregates of all; to be called once all calls are there.
    pub(crate) fn place_frames(&mut self) {
        for frame in &mut self.frames {
            frame.from = self.width;
            self.width += frame.width;
        }
    }
}

impl Frame {
    /// The place of its aggregate among those of all frames.
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.from..self.from + self.width
    }
}
