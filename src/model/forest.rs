//! `isolation_forest`: how few random cuts set an event apart from the remembered ones.
//!
//! A cut between the least and the largest of a tree's rows cannot tell an event that is just outside of them from one that is far away.
//! So in the upper levels of a tree an event is counted as if it had been among the rows: outside of their extent in the feature that is
//! cut, by a share s of it, the cut would have set it apart with probability s / (1 + s), as in a random cut forest (Guha, Mishra, Roy,
//! Schrijvers 2016, section 2). Its path length is the expected number of steps. Features are chosen uniformly, unlike there, and one that
//! is constant in the rows sets nothing apart.

use pulp::{Arch, Simd, WithSimd};
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
    /// Of the [`UPPER_NODES`] first nodes of each tree.
    extents: Vec<Extent>,
    /// The path length of each leaf, in units of what is expected of the tree's rows.
    lengths: Vec<f32>,
    /// The length of one step in these units, by tree.
    step_lengths: Vec<f32>,
}

/// How far the rows of an inner node reach in the feature that it cuts, as it reads it: negated where `places` says so.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Extent {
    /// 1 / (largest - least); finite, so that times 0 it is 0.
    scale: f32,
    /// Where the threshold is from the least value (0) to the largest (1).
    threshold_at: f32,
}

/// All go left.
const NO_CUT: f64 = f64::INFINITY;
/// Of a node without a cut, outside of which nothing is: how far an event is from [`NO_CUT`], times this scale, is NaN.
const NO_EXTENT: Extent = Extent { scale: 0.0, threshold_at: 0.0 };
/// Trees that are walked side by side: a step waits for memory, and the steps of different trees do not wait for each other.
const ABREAST: usize = 10;
const TREES: usize = 100;
const ROWS_MAX: usize = 1024;
/// Rows of a tree; log2 of them is its depth.
const TREE_ROWS: usize = 256;
const DEPTH: u32 = 8;
/// Inner nodes of a tree, with the unused one, and as many leaves: a node's index is a byte.
const NODES: usize = 1 << DEPTH;
/// What it weighs among the detectors. Average precision over the streams of `benches/quality` (mean of three seeds): .448 at 1, .465 at 1.5 and
/// .478 at 2, where the faults of SKAB are found less well.
pub(super) const WEIGHT: f64 = 1.5;
/// Levels at which an event can be outside of the rows: below, few rows are left, and it costs time. On the KDD 1999 http stream the forest
/// alone has an average precision of .21 without such a level, .74 with two, .80 with three, .84 with all (three to six seeds).
const EXTENT_LEVELS: u32 = 3;
/// The nodes at these levels, with the unused one.
const UPPER_NODES: usize = 1 << EXTENT_LEVELS;
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

    /// The mean path length, negated: higher is stranger. In units of what is expected of a tree's rows: about -1 is ordinary. Below 0, for
    /// one step is always taken, and at least -2.5.
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
        let varies = |i: &usize| {
            let mut values = chosen.iter().map(|row| columns[*i][*row]).filter(|value| !value.is_nan());
            let first = values.next();
            values.any(|value| Some(value) != first)
        };
        let varying: Vec<usize> = (0..columns.len()).filter(varies).collect();
        let (unit, values) = (expected_length(size), Vec::with_capacity(size));
        self.trees.step_lengths[place] = (1.0 / unit) as f32;
        let tree = self.trees.tree_mut(place);
        tree.thresholds.fill(NO_CUT);
        tree.extents.fill(NO_EXTENT);
        tree.places.fill(0);
        Grower { tree, unit, columns, varying, dice, values }.grow(1, 0, &mut chosen);
    }
}

impl Trees {
    fn new() -> Self {
        let nodes = TREES * NODES;
        Self {
            thresholds: vec![NO_CUT; nodes],
            places: vec![0; nodes],
            extents: vec![NO_EXTENT; TREES * UPPER_NODES],
            lengths: vec![0.0; nodes],
            step_lengths: vec![0.0; TREES],
        }
    }

    fn tree_mut(&mut self, place: usize) -> TreeMut<'_> {
        let nodes = place * NODES..(place + 1) * NODES;
        TreeMut {
            thresholds: &mut self.thresholds[nodes.clone()],
            places: &mut self.places[nodes.clone()],
            extents: &mut self.extents[place * UPPER_NODES..(place + 1) * UPPER_NODES],
            lengths: &mut self.lengths[nodes],
        }
    }

    /// The sum of the path lengths of an event in all trees. `x`: its values, and the same negated.
    fn lengths_of(&self, x: &[f64]) -> f32 {
        Arch::new().dispatch(Lengths { trees: self, x })
    }
}

/// The sum of the path lengths, by AVX2 where the machine has it. That changes no result: each tree is walked by itself, and the sums keep
/// their order.
struct Lengths<'a> {
    trees: &'a Trees,
    x: &'a [f64],
}

impl WithSimd for Lengths<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        (0..TREES / ABREAST).map(|group| self.lengths_in(group)).sum()
    }
}

impl Lengths<'_> {
    /// The same of [`ABREAST`] trees.
    #[inline(always)]
    fn lengths_in(&self, group: usize) -> f32 {
        let Self { trees, x } = self;
        let thresholds: &[[f64; NODES]; ABREAST] = abreast(&trees.thresholds, group);
        let places: &[[u16; NODES]; ABREAST] = abreast(&trees.places, group);
        let extents: &[[Extent; UPPER_NODES]; ABREAST] = abreast(&trees.extents, group);
        let lengths: &[[f32; NODES]; ABREAST] = abreast(&trees.lengths, group);
        let mut nodes = [1_u8; ABREAST];
        // How likely the event is still together with the rows, and the steps expected so far.
        let (mut together, mut walked) = ([1.0_f32; ABREAST], [0.0_f32; ABREAST]);
        for _ in 0..EXTENT_LEVELS {
            // 0 at the least value that the node reads of its rows, 1 at the largest.
            let mut at_extent = [0.0_f32; ABREAST];
            for i in 0..ABREAST {
                let at = usize::from(nodes[i]);
                let beyond = x[usize::from(places[i][at])] - thresholds[i][at];
                let Extent { scale, threshold_at } = extents[i][at % UPPER_NODES];
                at_extent[i] = beyond as f32 * scale + threshold_at;
                nodes[i] = (nodes[i] << 1) | u8::from(beyond >= 0.0);
            }
            for i in 0..ABREAST {
                let outside = positive(-at_extent[i]) + positive(at_extent[i] - 1.0);
                walked[i] += together[i];
                together[i] /= 1.0 + outside;
            }
        }
        for _ in EXTENT_LEVELS..DEPTH {
            for i in 0..ABREAST {
                let at = usize::from(nodes[i]);
                let right = x[usize::from(places[i][at])] >= thresholds[i][at];
                // The last step goes beyond the inner nodes, and wraps to the leaf's index.
                nodes[i] = (nodes[i] << 1) | u8::from(right);
            }
        }
        let mut sum = 0.0;
        for i in 0..ABREAST {
            let (length, step) = (lengths[i][usize::from(nodes[i])], trees.step_lengths[group * ABREAST + i]);
            let below_extents = length - EXTENT_LEVELS as f32 * step;
            sum += walked[i] * step + together[i] * below_extents;
        }
        sum
    }
}

/// The nodes of the [`ABREAST`] trees of a group.
fn abreast<T, const N: usize>(list: &[T], group: usize) -> &[[T; N]; ABREAST] {
    &list.as_chunks::<N>().0.as_chunks::<ABREAST>().0[group]
}

/// At least 0. 0 for NaN: nothing is outside where a value is missing, or where there is no cut.
fn positive(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

/// One tree of [`Trees`].
struct TreeMut<'a> {
    thresholds: &'a mut [f64],
    places: &'a mut [u16],
    extents: &'a mut [Extent],
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
        if let Some(extent) = self.tree.extents.get_mut(node) {
            let below = if mirrored { high - cut } else { cut - low };
            let scale = ((1.0 / (high - low)) as f32).min(f32::MAX);
            *extent = Extent { scale, threshold_at: (below / (high - low)) as f32 };
        }
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

    fn unit(i: u64) -> f64 {
        Draw::new(7).unit(Purpose::Traffic, i)
    }

    #[test]
    fn what_stands_apart_has_a_short_path() {
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
    fn far_outside_of_all_rows_is_stranger_than_just_outside() {
        let mut forest = Forest::new(2);
        // Above the cut are more rows in the first feature, below it in the second.
        for i in 0..2000 {
            forest.learn(&[libm::cbrt(unit(2 * i)), unit(2 * i + 1) * unit(2 * i + 1)]);
        }
        let of = |x: [f64; 2]| forest.strangeness(&x);
        for (feature, sign) in [(0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)] {
            let away = |by: f64| {
                let mut x = [0.5, 0.5];
                x[feature] += sign * by;
                of(x)
            };
            let by = [0.6, 1.0, 3.0, 10.0, 1e30].map(away);
            assert!(by.is_sorted_by(|near, far| *far > near + 0.01), "{by:?} with feature {feature} moved by {sign}");
        }
        let one_step = 1.0 / expected_length(TREE_ROWS);
        assert!((of([1e30, 1e30]) + one_step).abs() < 1e-6 && of([f64::NAN, f64::NAN]) < of([0.5, 1.2]));
    }

    #[test]
    fn a_path_is_as_long_as_expected_of_what_is_outside() {
        // One cut at .5 of rows from 0 to 1, and two rows on each side: a step, and one more among two rows.
        let trees = |place: u16, threshold: f64| {
            let mut trees = Trees::new();
            for tree in 0..TREES {
                trees.thresholds[tree * NODES + 1] = threshold;
                trees.places[tree * NODES + 1] = place;
                trees.extents[tree * UPPER_NODES + 1] = Extent { scale: 1.0, threshold_at: 0.5 };
            }
            trees.lengths.fill(2.0);
            trees.step_lengths.fill(1.0);
            trees
        };
        for trees in [trees(0, 0.5), trees(1, -0.5)] {
            let length = |x: f64| trees.lengths_of(&[x, -x]) / TREES as f32;
            for inside in [0.0, 0.4, 0.6, 1.0, f64::NAN] {
                assert_eq!(length(inside), 2.0, "at {inside}");
            }
            // Outside by once the extent, it is cut off at the first step every other time; by three times, three times of four.
            assert_eq!([2.0, -1.0, 4.0, -3.0, 1e30].map(length), [1.5, 1.5, 1.25, 1.25, 1.0]);
        }
    }

    #[test]
    fn what_is_missing_is_ordinary_where_most_rows_lack_it() {
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
    fn every_tree_fits_and_what_does_not_vary_is_no_cut() {
        let (mut forest, mut alone) = (Forest::new(3), Forest::new(1));
        for i in 0..64 {
            forest.learn(&[5.0, f64::from(i), f64::NAN]);
            alone.learn(&[f64::from(i)]);
        }
        let Trees { thresholds, places, lengths, .. } = &forest.trees;
        assert_eq!(lengths.len(), TREES * NODES);
        assert_eq!(thresholds, &alone.trees.thresholds);
        assert!(thresholds.iter().zip(places).all(|(threshold, place)| *threshold == NO_CUT || place % 3 == 1));
        assert!(thresholds.iter().filter(|threshold| **threshold != NO_CUT).count() > TREES);
    }
}
