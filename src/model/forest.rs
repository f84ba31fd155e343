//! `isolation_forest`: how few random cuts set an event apart from the remembered ones.

use serde::{Deserialize, Serialize};

use super::sample::Sample;
use crate::draw::{Draw, Purpose};

/// An isolation forest (Liu, Ting, Zhou 2008) over a guarded sample, one of its 100 trees rebuilt every 32 events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    sample: Sample,
    trees: Trees,
    /// Trees built so far: the index of the next draws, and of the tree to replace.
    built: u64,
    /// Events learned since a tree was built.
    stale: u64,
}

/// Complete binary trees without pointers, one after the other: [`NODES`] of each in every list. The children of node i are 2 i and
/// 2 i + 1, the root is 1, node 0 is not used. What ends early goes left all the way down, so that scoring is the same few steps for every
/// event. More rows are to the left of a cut than to its right, and there goes what is missing: it stands not apart.
///
/// Lists apart, and small numbers: so the forest stays in a core's own cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Trees {
    /// An inner node goes right when its value is at least this.
    thresholds: Vec<f64>,
    /// The place of that value among the features followed by the same features negated: the latter where more rows are above the cut.
    places: Vec<u16>,
    /// The path length of each leaf, in units of what is expected of the tree's rows.
    lengths: Vec<f32>,
}

/// All go left.
const NO_CUT: f64 = f64::INFINITY;
/// Trees that are walked side by side: a step waits for memory, and the steps of different trees do not wait for each other.
const ABREAST: usize = 10;
const TREES: usize = 100;
const ROWS_MAX: usize = 1024;
/// Rows of a tree; log2 of them is its depth.
const TREE_ROWS: usize = 256;
const DEPTH: u32 = 8;
/// Inner nodes of a tree, with the unused one, and as many leaves: a node's index is a byte.
const NODES: usize = 1 << DEPTH;
const REBUILD_EVENTS: u64 = 32;
/// Rows before the first trees.
const ROWS_MIN: usize = 16;
/// A node whose chosen features, which vary in its tree, are all constant in its own rows gives up after so many.
const TRIES: u32 = 8;

impl Forest {
    pub(crate) fn new(width: usize) -> Self {
        Self { sample: Sample::new(width, ROWS_MAX), trees: Trees::default(), built: 0, stale: 0 }
    }

    pub(crate) fn reseed(&mut self, draw: Draw) {
        self.sample.reseed(draw);
    }

    pub(crate) fn seen(&self) -> u64 {
        self.sample.seen
    }

    /// The mean path length, negated: higher is stranger. In units of what is expected of a tree's rows: about -1 is ordinary, in [-2, 0].
    pub(crate) fn strangeness(&self, x: &[f64]) -> f64 {
        if self.trees.lengths.is_empty() {
            return -1.0;
        }
        let x: Vec<f64> = x.iter().copied().chain(x.iter().map(|x| -x)).collect();
        -f64::from(self.trees.lengths_of(&x)) / TREES as f64
    }

    pub(crate) fn learn(&mut self, x: &[f64]) {
        self.sample.learn(x);
        self.stale += 1;
        if self.sample.rows() < ROWS_MIN {
            return;
        }
        // While the sample grows, all trees are built anew each time it has doubled.
        let young = self.sample.seen <= ROWS_MAX as u64 && self.sample.seen.is_power_of_two();
        if self.trees.lengths.is_empty() || young {
            self.trees = Trees::new();
            (0..TREES).for_each(|_| self.build());
            self.stale = 0;
        } else if self.stale >= REBUILD_EVENTS {
            self.build();
            self.stale = 0;
        }
    }

    /// Builds the next tree in the place of the oldest.
    fn build(&mut self) {
        // More draws than one tree can use, so that no two trees share any.
        let mut dice = Dice { draw: self.sample.draw(), next: self.built << 16 };
        let place = (self.built % TREES as u64) as usize;
        self.built += 1;
        let rows = self.sample.rows();
        let mut chosen: Vec<usize> = (0..rows).collect();
        let size = rows.min(TREE_ROWS);
        for i in 0..size {
            let other = i + dice.below(rows - i);
            chosen.swap(i, other);
        }
        chosen.truncate(size);
        let columns: Vec<&[f64]> = self.sample.columns.iter().map(Vec::as_slice).collect();
        let varies = |i: &usize| chosen.iter().any(|row| columns[*i][*row] != columns[*i][chosen[0]]);
        let varying: Vec<usize> = (0..columns.len()).filter(varies).collect();
        let (unit, values) = (expected_length(size), Vec::with_capacity(size));
        let tree = self.trees.tree_mut(place);
        tree.thresholds.fill(NO_CUT);
        tree.places.fill(0);
        Grower { tree, unit, columns, varying, dice, values }.grow(1, 0, &mut chosen);
    }
}

impl Trees {
    fn new() -> Self {
        let nodes = TREES * NODES;
        Self { thresholds: vec![NO_CUT; nodes], places: vec![0; nodes], lengths: vec![0.0; nodes] }
    }

    fn tree_mut(&mut self, place: usize) -> TreeMut<'_> {
        let nodes = place * NODES..(place + 1) * NODES;
        TreeMut {
            thresholds: &mut self.thresholds[nodes.clone()],
            places: &mut self.places[nodes.clone()],
            lengths: &mut self.lengths[nodes],
        }
    }

    /// The sum of the path lengths in all trees.
    fn lengths_of(&self, x: &[f64]) -> f32 {
        let (thresholds, _) = self.thresholds.as_chunks::<NODES>();
        let (places, _) = self.places.as_chunks::<NODES>();
        let (lengths, _) = self.lengths.as_chunks::<NODES>();
        let abreast =
            thresholds.as_chunks::<ABREAST>().0.iter().zip(places.as_chunks::<ABREAST>().0).zip(lengths.as_chunks().0);
        abreast.map(|((thresholds, places), lengths)| sum_of_lengths(thresholds, places, lengths, x)).sum()
    }
}

/// The same of [`ABREAST`] trees.
fn sum_of_lengths(
    thresholds: &[[f64; NODES]; ABREAST],
    places: &[[u16; NODES]; ABREAST],
    lengths: &[[f32; NODES]; ABREAST],
    x: &[f64],
) -> f32 {
    let mut nodes = [1_u8; ABREAST];
    for _ in 0..DEPTH {
        for ((node, thresholds), places) in nodes.iter_mut().zip(thresholds).zip(places) {
            let at = usize::from(*node);
            let right = x[usize::from(places[at])] >= thresholds[at];
            // The last step goes beyond the inner nodes, and wraps to the leaf's index.
            *node = (*node << 1) | u8::from(right);
        }
    }
    nodes.iter().zip(lengths).map(|(leaf, lengths)| lengths[usize::from(*leaf)]).sum()
}

/// One tree of [`Trees`].
struct TreeMut<'a> {
    thresholds: &'a mut [f64],
    places: &'a mut [u16],
    lengths: &'a mut [f32],
}

/// A tree that is being built.
struct Grower<'a> {
    tree: TreeMut<'a>,
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
        let (low, high) = range(&self.values);
        if low >= high || !(high - low).is_finite() {
            return None;
        }
        let cut = low + self.dice.unit() * (high - low);
        // Rounded onto the least value, it would cut nothing off.
        let cut = if cut > low { cut } else { high };
        let below = self.values.iter().filter(|value| **value < cut).count();
        let above = self.values.iter().filter(|value| **value >= cut).count();
        // What is missing is neither, and no reason for either.
        let mirrored = below < above;
        // Below the cut is at most the number before it.
        let (threshold, place) =
            if mirrored { (-cut.next_down(), self.columns.len() + feature) } else { (cut, feature) };
        self.tree.thresholds[node] = threshold;
        self.tree.places[node] = u16::try_from(place).expect("a query has at most 1,000 columns");
        // Rows of the right side stand from `left` to `i`: an exchange among them changes nothing, and so needs no branch.
        let mut left = 0;
        for (i, value) in self.values.iter().enumerate() {
            rows.swap(i, left);
            let right = if mirrored { *value < cut } else { *value >= cut };
            left += usize::from(!right);
        }
        Some(left)
    }
}

/// The least and the largest value; what is missing is neither. In lanes, because one chain of comparisons waits for itself.
fn range(values: &[f64]) -> (f64, f64) {
    let least = |a: f64, b: f64| if b < a { b } else { a };
    let largest = |a: f64, b: f64| if b > a { b } else { a };
    let (mut low, mut high) = ([f64::INFINITY; 4], [f64::NEG_INFINITY; 4]);
    let (lanes, rest) = values.as_chunks::<4>();
    for values in lanes {
        for i in 0..4 {
            low[i] = least(low[i], values[i]);
            high[i] = largest(high[i], values[i]);
        }
    }
    let fold = |lanes: [f64; 4], of: fn(f64, f64) -> f64| lanes.into_iter().chain(rest.iter().copied()).reduce(of);
    (fold(low, least).expect("four lanes"), fold(high, largest).expect("four lanes"))
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
    fn what_is_missing_is_ordinary_where_most_rows_lack_it() {
        let draw = Draw::new(7);
        let unit = |i| draw.unit(Purpose::Traffic, i);
        let mut forest = Forest::new(2);
        // A sample of which most rows are from before the second feature's first value.
        forest.sample.columns = vec![(0..700).map(unit).collect(), vec![f64::NAN; 700]];
        for i in 700..1000 {
            forest.learn(&[unit(i), unit(2 * i)]);
        }
        (0..TREES).for_each(|_| forest.build());
        let of = |second| forest.strangeness(&[0.5, second]);
        assert!(of(f64::NAN) <= of(0.5), "{} against {}", of(f64::NAN), of(0.5));
        assert!(of(1.5) > of(0.5), "{} against {}", of(1.5), of(0.5));
    }

    #[test]
    fn every_tree_fits_and_a_constant_column_is_no_cut() {
        let mut forest = Forest::new(2);
        for i in 0..64 {
            forest.learn(&[5.0, f64::from(i)]);
        }
        let Trees { thresholds, places, lengths } = &forest.trees;
        assert_eq!(lengths.len(), TREES * NODES);
        assert!(thresholds.iter().zip(places).all(|(threshold, place)| *threshold == NO_CUT || place % 2 == 1));
        assert!(thresholds.iter().filter(|threshold| **threshold != NO_CUT).count() > TREES);
    }
}
