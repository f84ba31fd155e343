//! `isolation_forest`: how few random cuts set an event apart from the remembered ones.

use serde::{Deserialize, Serialize};

use super::sample::Sample;
use crate::draw::{Draw, Purpose};

/// An isolation forest (Liu, Ting, Zhou 2008) over a guarded sample, one of its 100 trees rebuilt every 32 events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    sample: Sample,
    trees: Vec<Tree>,
    /// Trees built so far: the index of the next draws, and of the tree to replace.
    built: u64,
    /// Events learned since a tree was built.
    stale: u64,
}

/// A complete binary tree without pointers: the children of node i are 2 i and 2 i + 1, the root is 1. What ends early goes left
/// all the way down, so that scoring is the same few steps for every event. More rows are to the left of a cut than to its right, and
/// there goes what is missing: it stands not apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tree {
    /// The inner nodes; the first is not used.
    nodes: Vec<Node>,
    /// The path length of each leaf, in units of what is expected of the tree's rows.
    lengths: Vec<f32>,
}

/// An inner node: goes right when the value is at least the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Node {
    threshold: f64,
    /// Its index among the features followed by the same features negated: the latter where more rows are above the cut.
    value: u32,
}

/// All go left.
const NO_CUT: Node = Node { threshold: f64::INFINITY, value: 0 };
/// Trees that are walked side by side: a step waits for memory, and the steps of different trees do not wait for each other.
const ABREAST: usize = 10;
const TREES: usize = 100;
const ROWS_MAX: usize = 1024;
/// Rows of a tree; log2 of them is its depth.
const TREE_ROWS: usize = 256;
const DEPTH: u32 = 8;
const REBUILD_EVENTS: u64 = 32;
/// Rows before the first trees.
const ROWS_MIN: usize = 16;
/// A node whose chosen features, which vary in its tree, are all constant in its own rows gives up after so many.
const TRIES: u32 = 8;

impl Forest {
    pub(crate) fn new(width: usize) -> Self {
        Self { sample: Sample::new(width, ROWS_MAX), trees: Vec::new(), built: 0, stale: 0 }
    }

    pub(crate) fn reseed(&mut self, draw: Draw) {
        self.sample.reseed(draw);
    }

    pub(crate) fn seen(&self) -> u64 {
        self.sample.seen
    }

    /// The mean path length, negated: higher is stranger. In units of what is expected of a tree's rows: about -1 is ordinary, in [-2, 0].
    pub(crate) fn strangeness(&self, x: &[f64]) -> f64 {
        if self.trees.is_empty() {
            return -1.0;
        }
        let x: Vec<f64> = x.iter().copied().chain(x.iter().map(|x| -x)).collect();
        let (side_by_side, _) = self.trees.as_chunks();
        let sum: f32 = side_by_side.iter().map(|trees| lengths(trees, &x)).sum();
        -f64::from(sum) / self.trees.len() as f64
    }

    pub(crate) fn learn(&mut self, x: &[f64]) {
        self.sample.learn(x);
        self.stale += 1;
        if self.sample.rows() < ROWS_MIN {
            return;
        }
        // While the sample grows, all trees are built anew each time it has doubled.
        if self.trees.is_empty() || (self.sample.seen <= ROWS_MAX as u64 && self.sample.seen.is_power_of_two()) {
            self.trees = (0..TREES).map(|_| self.build()).collect();
            self.stale = 0;
        } else if self.stale >= REBUILD_EVENTS {
            let place = (self.built % TREES as u64) as usize;
            self.trees[place] = self.build();
            self.stale = 0;
        }
    }

    fn build(&mut self) -> Tree {
        // More draws than one tree can use, so that no two trees share any.
        let mut dice = Dice { draw: self.sample.draw(), next: self.built << 16 };
        self.built += 1;
        let rows = self.sample.rows();
        let mut chosen: Vec<usize> = (0..rows).collect();
        let size = rows.min(TREE_ROWS);
        for i in 0..size {
            let other = i + dice.below(rows - i);
            chosen.swap(i, other);
        }
        chosen.truncate(size);
        let nodes = 1 << DEPTH;
        let tree = Tree { nodes: vec![NO_CUT; nodes], lengths: vec![0.0; nodes] };
        let columns: Vec<&[f64]> = self.sample.columns.iter().map(Vec::as_slice).collect();
        let varies = |i: &usize| chosen.iter().any(|row| columns[*i][*row] != columns[*i][chosen[0]]);
        let varying: Vec<usize> = (0..columns.len()).filter(varies).collect();
        let (unit, values) = (expected_length(size), Vec::with_capacity(size));
        let mut grower = Grower { tree, unit, columns, varying, dice, values };
        grower.grow(1, 0, &mut chosen);
        grower.tree
    }
}

impl Tree {
    fn next(&self, node: usize, x: &[f64]) -> usize {
        let cut = self.nodes[node];
        2 * node + usize::from(x[cut.value as usize] >= cut.threshold)
    }
}

/// A tree that is being built.
struct Grower<'a> {
    tree: Tree,
    /// The expected path length of as many rows as the tree has.
    unit: f64,
    columns: Vec<&'a [f64]>,
    /// The columns that are not constant in the tree's rows.
    varying: Vec<usize>,
    dice: Dice,
    /// One feature of the rows of a node.
    values: Vec<f64>,
}

impl Grower<'_> {
    fn grow(&mut self, node: usize, level: u32, rows: &mut [usize]) {
        if level < DEPTH
            && rows.len() > 1
            && !self.varying.is_empty()
            && let Some(left) = (0..TRIES).find_map(|_| self.cut(node, rows))
        {
            let (left, right) = rows.split_at_mut(left);
            self.grow(2 * node, level + 1, left);
            self.grow(2 * node + 1, level + 1, right);
            return;
        }
        let length = f64::from(level) + expected_length(rows.len());
        let below = DEPTH - level;
        let first = (node << below) - (1 << DEPTH);
        self.tree.lengths[first..first + (1 << below)].fill((length / self.unit) as f32);
    }

    /// Cuts the rows at a random value between the least and the largest of a random feature, and answers how many are to the left
    /// now; `None` when the feature is constant there.
    fn cut(&mut self, node: usize, rows: &mut [usize]) -> Option<usize> {
        let feature = self.varying[self.dice.below(self.varying.len())];
        let column = self.columns[feature];
        self.values.clear();
        self.values.extend(rows.iter().map(|row| column[*row]));
        let (low, high) = self.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (if *value < low { *value } else { low }, if *value > high { *value } else { high })
        });
        if low >= high || !(high - low).is_finite() {
            return None;
        }
        let cut = low + self.dice.unit() * (high - low);
        // Rounded onto the least value, it would cut nothing off.
        let cut = if cut > low { cut } else { high };
        let below = self.values.iter().filter(|value| **value < cut).count();
        let mirrored = 2 * below < rows.len();
        self.tree.nodes[node] = if mirrored {
            // Below the cut is at most the number before it.
            Node { threshold: -cut.next_down(), value: (self.columns.len() + feature) as u32 }
        } else {
            Node { threshold: cut, value: feature as u32 }
        };
        let mut left = 0;
        for (i, value) in self.values.iter().enumerate() {
            let right = if mirrored { *value < cut } else { *value >= cut };
            if !right {
                rows.swap(i, left);
                left += 1;
            }
        }
        Some(left)
    }
}

/// The mean path length of an unsuccessful search in a binary search tree of `n` rows (Liu, Ting, Zhou 2008, section 2).
fn expected_length(n: usize) -> f64 {
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        n => {
            const EULER: f64 = 0.577_215_664_901_532_9;
            let m = n as f64 - 1.0;
            2.0 * (libm::log(m) + EULER) - 2.0 * m / n as f64
        }
    }
}

/// The sum of the path lengths in [`ABREAST`] trees.
fn lengths(trees: &[Tree; ABREAST], x: &[f64]) -> f32 {
    let mut nodes = [1; ABREAST];
    for _ in 0..DEPTH {
        for (node, tree) in nodes.iter_mut().zip(trees) {
            *node = tree.next(*node, x);
        }
    }
    nodes.iter().zip(trees).map(|(node, tree)| tree.lengths[node - (1 << DEPTH)]).sum()
}

struct Dice {
    draw: Draw,
    next: u64,
}

impl Dice {
    fn unit(&mut self) -> f64 {
        self.next += 1;
        self.draw.unit(Purpose::Tree, self.next)
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_apart_has_a_short_path() {
        let draw = Draw::new(7);
        let unit = |i| draw.unit(Purpose::Traffic, i);
        let mut forest = Forest::new(2);
        for i in 0..2000 {
            forest.learn(&[unit(2 * i), unit(2 * i + 1)]);
        }
        let (inside, outside) = (forest.strangeness(&[0.5, 0.5]), forest.strangeness(&[0.5, 1.5]));
        assert!(outside > inside + 0.15, "{outside} against {inside}");
        let missing = forest.strangeness(&[0.5, f64::NAN]);
        assert!(missing < inside + 0.05, "{missing} against {inside}");
    }

    #[test]
    fn every_tree_fits_and_a_constant_column_is_no_cut() {
        let mut forest = Forest::new(2);
        for i in 0..64 {
            forest.learn(&[5.0, f64::from(i)]);
        }
        assert_eq!(forest.trees.len(), TREES);
        let cuts = |tree: &Tree| tree.nodes.iter().all(|node| *node == NO_CUT || node.value % 2 == 1);
        assert!(forest.trees.iter().all(cuts));
    }
}
