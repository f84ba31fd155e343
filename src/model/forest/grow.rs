//! How a tree is made from rows.

use std::ops::Range;

use super::trees::{Cut, DEPTH, Node, TreeMut};
use super::{TREE_ROWS, expected_length};
use crate::draw::{Draw, Purpose};

/// A node whose chosen features, which vary in its tree, are all constant in its own rows gives up after so many.
const TRIES: u32 = 8;

/// A tree that is being built.
#[derive(Debug)]
pub(super) struct Grower<'a> {
    tree: TreeMut<'a>,
    /// Each feature of the rows.
    columns: &'a [[f32; TREE_ROWS]],
    /// The columns that are not constant.
    varying: Vec<usize>,
    /// By column: some rows lack it.
    missing: Vec<bool>,
    dice: Dice,
    /// How many rows there are.
    size: usize,
    /// The rows, those of a node side by side. The nodes of even levels read the first list and leave their halves in the second, those of
    /// odd levels the other way.
    rows: [[u8; TREE_ROWS]; 2],
}

impl<'a> Grower<'a> {
    /// Of the first `size` rows.
    pub(super) fn new(tree: TreeMut<'a>, columns: &'a [[f32; TREE_ROWS]], size: usize, dice: Dice) -> Self {
        let varies = |i: &usize| {
            let mut values = columns[*i][..size].iter().filter(|value| !value.is_nan());
            let first = values.next();
            values.any(|value| Some(value) != first)
        };
        let varying = (0..columns.len()).filter(varies).collect();
        let missing = columns.iter().map(|values| values[..size].iter().fold(false, |any, value| any | value.is_nan()));
        let rows = [std::array::from_fn(|i| i as u8), [0; TREE_ROWS]];
        Self { tree, columns, varying, missing: missing.collect(), dice, size, rows }
    }

    pub(super) fn grow(mut self) {
        self.grow_from(Node::ROOT, 0..self.size);
    }

    fn grow_from(&mut self, node: Node, rows: Range<usize>) {
        if node.level < DEPTH
            && rows.len() > 1
            && !self.varying.is_empty()
            && let Some(cut) = (0..TRIES).find_map(|_| self.cut(node, rows.clone()))
        {
            let (missing_right, [below, above]) = self.divide(node, rows, cut);
            self.tree.cut(node, cut, missing_right);
            let [left, right] = node.children();
            self.grow_from(left, below);
            self.grow_from(right, above);
            return;
        }
        self.tree.end(node, f64::from(node.level) + expected_length(rows.len()));
    }

    /// A random value between the least and the largest of a random feature; `None` when the feature is constant in these rows.
    fn cut(&mut self, node: Node, rows: Range<usize>) -> Option<Cut> {
        let (which, share) = self.dice.roll(self.varying.len());
        let feature = self.varying[which];
        let rows = &self.rows[node.level as usize % 2][rows];
        let (low, high) = range(&self.columns[feature], rows);
        if low >= high {
            return None;
        }
        let threshold = low + share * (high - low);
        // Rounded onto the least value, it would cut nothing off, and beyond the largest neither.
        let threshold = if threshold > low { threshold.min(high) } else { high };
        Some(Cut { feature, threshold, low, high })
    }

    /// Puts the rows of a node below the cut before those above it, and what is missing where more are: whether these are the ones above.
    fn divide(&mut self, node: Node, rows: Range<usize>, cut: Cut) -> (bool, [Range<usize>; 2]) {
        let [even, odd] = &mut self.rows;
        let (from, to) = if node.level.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let values = &self.columns[cut.feature];
        let threshold = cut.threshold;
        let below = |row: u8| values[usize::from(row)] < threshold;
        let above = |row: u8| values[usize::from(row)] >= threshold;
        let count = |of: &dyn Fn(u8) -> bool| from[rows.clone()].iter().filter(|row| of(**row)).count();
        let missing_left = self.missing[cut.feature] && count(&below) >= count(&above);
        let middle = if missing_left { part(from, to, &rows, |row| !above(row)) } else { part(from, to, &rows, below) };
        let missing_right = !missing_left && middle - rows.start < rows.end - middle;
        (missing_right, [rows.start..middle, middle..rows.end])
    }
}

/// Copies rows, those that are `below` before the others, and answers where these begin.
#[inline(always)]
fn part(from: &[u8; TREE_ROWS], to: &mut [u8; TREE_ROWS], rows: &Range<usize>, below: impl Fn(u8) -> bool) -> usize {
    let (mut first, mut last) = (rows.start as u8, (rows.end - 1) as u8);
    for row in &from[rows.clone()] {
        // Written to both ends, of which one moves on: so there is no branch to guess.
        (to[usize::from(first)], to[usize::from(last)]) = (*row, *row);
        let below = u8::from(below(*row));
        first = first.wrapping_add(below);
        last = last.wrapping_sub(1 - below);
    }
    usize::from(first)
}

/// The least and the largest value; what is missing is neither. In two lanes, because one chain of comparisons waits for itself.
fn range(values: &[f32; TREE_ROWS], rows: &[u8]) -> (f32, f32) {
    let least = |a: f32, b: f32| if b < a { b } else { a };
    let largest = |a: f32, b: f32| if b > a { b } else { a };
    let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
    let mut see = |lane: usize, row: u8| {
        let value = values[usize::from(row)];
        (low[lane], high[lane]) = (least(low[lane], value), largest(high[lane], value));
    };
    let (pairs, rest) = rows.as_chunks::<2>();
    for [a, b] in pairs {
        see(0, *a);
        see(1, *b);
    }
    rest.iter().for_each(|row| see(0, *row));
    (least(low[0], low[1]), largest(high[0], high[1]))
}

/// The random choices of one tree.
#[derive(Debug)]
pub(super) struct Dice {
    draw: Draw,
    next: u64,
}

impl Dice {
    /// More draws than one tree can use are between the first ones of two trees, so that they share none.
    pub(super) fn of_tree(draw: Draw, tree: u64) -> Self {
        Self { draw, next: tree << 16 }
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.next += 1;
        self.draw.bits(Purpose::Tree, self.next)
    }

    /// A number below `n`, and one in [0, 1): each of its own half of a draw.
    fn roll(&mut self, n: usize) -> (usize, f32) {
        let bits = self.bits();
        let share = (bits & 0xffff_ffff) >> (32 - f32::MANTISSA_DIGITS);
        ((((bits >> 32) * n as u64) >> 32) as usize, share as f32 / (1_u32 << f32::MANTISSA_DIGITS) as f32)
    }
}
