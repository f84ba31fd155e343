//! Trees as they lie in memory, and the length of an event's path in them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::expected_length;

/// The trees of a forest.
pub(super) const TREES: usize = 100;
/// log2 of a tree's rows.
pub(super) const DEPTH: u32 = 8;
/// Trees that are walked side by side: a step waits for the one before it, and the steps of different trees do not wait for each other.
const ABREAST: usize = 5;
/// Levels of a [`Block`].
const BLOCK_LEVELS: u32 = 3;
/// The lanes of a block: for seven nodes, and one that is not used.
pub(super) const LANES: usize = 1 << BLOCK_LEVELS;
/// Blocks of a tree: one above, eight below it, and eight below each of these.
const BLOCKS: usize = 1 + LANES + LANES * LANES;
/// Levels at which an event can be outside of the rows: those of the first block. Below, few rows are left, and it costs time. On the KDD 1999
/// http stream the forest alone, in double precision, had an average precision of .21 without such a level, .74 with two, .80 with three, .84 with all
/// (three to six seeds).
pub(super) const EXTENT_LEVELS: u32 = BLOCK_LEVELS;

const _: () = assert!((TREES / 2).is_multiple_of(ABREAST), "each half of the trees is walked in whole groups");
const _: () =
    assert!(DEPTH == 3 * BLOCK_LEVELS - 1, "a path crosses three blocks, and its length is in the last of them");

/// Complete binary trees without pointers. What ends early goes left all the way down, so that scoring is the same few steps for every event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trees {
    /// [`BLOCKS`] of each tree, one tree after the other.
    blocks: Vec<Block>,
    /// Of the first block of each tree.
    extents: Vec<Extents>,
    /// The length of one step, by tree, in units of what is expected of its rows.
    step_lengths: Vec<f32>,
}

/// Three levels of a tree in one line of a processor's cache: a path through eight levels reads three of them, and all nodes of one can be asked
/// at once. The children of the node in lane i are in 2 i and 2 i + 1; the root is in 1; those beyond the last lane are other blocks.
///
/// The last blocks have two levels. Their lanes 4 to 7 hold the lengths of the paths that end there, below the first [`EXTENT_LEVELS`] steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[repr(C, align(64))]
pub(super) struct Block {
    /// A node goes right when its value is at least this.
    pub(super) thresholds: [f32; LANES],
    /// Which value that is. Of the lane without a node, each bit says whether what the node of that lane misses goes right: there are more rows,
    /// so it stands not apart.
    pub(super) features: [u32; LANES],
}

impl Block {
    #[inline(always)]
    pub(super) fn missing_right(&self) -> u32 {
        self.features[0]
    }
}

/// How far the rows of a node reach in the feature that it cuts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[repr(C, align(64))]
pub(super) struct Extents {
    /// The least value.
    pub(super) lows: [f32; LANES],
    /// 1 / (largest - least); finite. 0 where there is no cut: nothing is outside.
    pub(super) scales: [f32; LANES],
}

/// All go left, for values are finite.
pub(super) const NO_CUT: f32 = f32::INFINITY;
const EMPTY: Block = Block { thresholds: [NO_CUT; LANES], features: [0; LANES] };
const NO_EXTENTS: Extents = Extents { lows: [0.0; LANES], scales: [0.0; LANES] };

/// Where the rows of a node part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) feature: usize,
    pub(super) threshold: f32,
    /// The least value and the largest.
    pub(super) low: f32,
    pub(super) high: f32,
}

/// A node of a tree: the root is 1 at level 0, and the children of i are 2 i and 2 i + 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) level: u32,
}

impl Node {
    pub(super) const ROOT: Self = Self { index: 1, level: 0 };

    pub(super) fn children(self) -> [Self; 2] {
        [0, 1].map(|right| Self { index: 2 * self.index + right, level: self.level + 1 })
    }

    /// Its block, and the lane there. Level 8 are the leaves, in the last blocks.
    fn place(self) -> (usize, usize) {
        let above = self.level / BLOCK_LEVELS * BLOCK_LEVELS;
        let within = self.level - above;
        let root = self.index >> within;
        // The root of block b is the node 8^n + (b - the blocks before its level), n block levels down.
        let blocks_before = ((1 << above) - 1) / (LANES - 1);
        (blocks_before + root - (1 << above), (1 << within) | (self.index & ((1 << within) - 1)))
    }
}

impl Trees {
    pub(super) fn new() -> Self {
        Self { blocks: vec![EMPTY; TREES * BLOCKS], extents: vec![NO_EXTENTS; TREES], step_lengths: vec![0.0; TREES] }
    }

    /// Makes room for a new tree of so many rows.
    pub(super) fn tree_mut(&mut self, tree: usize, rows: usize) -> TreeMut<'_> {
        let step_length = 1.0 / expected_length(rows);
        self.step_lengths[tree] = step_length as f32;
        let (blocks, extents) = (&mut self.blocks[tree * BLOCKS..(tree + 1) * BLOCKS], &mut self.extents[tree]);
        blocks.fill(EMPTY);
        *extents = NO_EXTENTS;
        TreeMut { blocks, extents, step_length }
    }

    /// The mean path length of an event. `x`: its values, finite or NaN.
    pub(super) fn length(&self, x: &[f32]) -> f32 {
        #[cfg(target_arch = "x86_64")]
        if let Some(length) = super::registers::length(self, x) {
            return length;
        }
        self.length_by(Slice(x))
    }

    /// The same, however the blocks are walked: that changes no result.
    ///
    /// What has a path of the expected length or more in the mean of half of the trees is ordinary (Liu, Ting, Zhou 2008, section 2), and the other
    /// half is not asked. That costs the forest alone .003 of AUC (mean over the streams of `benches/quality`, three seeds), and the score nothing.
    #[inline(always)]
    pub(super) fn length_by(&self, walk: impl Walk) -> f32 {
        let half = self.lengths(walk, 0..TREES / 2);
        if half >= (TREES / 2) as f32 {
            return half / (TREES / 2) as f32;
        }
        (half + self.lengths(walk, TREES / 2..TREES)) / TREES as f32
    }

    /// The sum of the path lengths in these trees.
    #[inline(always)]
    fn lengths(&self, walk: impl Walk, trees: Range<usize>) -> f32 {
        let groups = trees.start / ABREAST..trees.end / ABREAST;
        let blocks = self.blocks.as_chunks::<BLOCKS>().0.as_chunks::<ABREAST>().0[groups.clone()].iter();
        let extents = &self.extents.as_chunks::<ABREAST>().0[groups.clone()];
        let step_lengths = &self.step_lengths.as_chunks::<ABREAST>().0[groups];
        let mut sums = [0.0; ABREAST];
        for ((blocks, extents), step_lengths) in blocks.zip(extents).zip(step_lengths) {
            let (mut first, mut second, mut below) = ([0; ABREAST], [0; ABREAST], [0.0; ABREAST]);
            let mut together = [[0.0; EXTENT_LEVELS as usize]; ABREAST];
            for i in 0..ABREAST {
                (first[i], together[i]) = walk.first_way(&blocks[i][0], &extents[i]);
            }
            for i in 0..ABREAST {
                second[i] = walk.way(&blocks[i][1 + first[i]]);
            }
            for i in 0..ABREAST {
                // The way beyond the second level compares path lengths, and is dropped.
                let block = &blocks[i][1 + LANES + LANES * first[i] + second[i]];
                below[i] = block.thresholds[(LANES + walk.way(block)) / 2];
            }
            for i in 0..ABREAST {
                // How likely the event is still together with the rows after one, two and three steps.
                let [one, mut two, mut three] = together[i];
                two *= one;
                three *= two;
                sums[i] += (1.0 + one + two) * step_lengths[i] + three * below[i];
            }
        }
        sums.iter().sum()
    }
}

/// An event that walks through blocks.
pub(super) trait Walk: Copy {
    /// Which of the eight ways it leaves the block by, from the left.
    fn way(self, block: &Block) -> usize;

    /// The same of a first block, and how likely the event stays together with the rows at each of the nodes on its way.
    fn first_way(self, block: &Block, extents: &Extents) -> (usize, [f32; EXTENT_LEVELS as usize]);
}

/// The values of an event, however many, step by step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice<'a>(pub(super) &'a [f32]);

impl Slice<'_> {
    /// The value that a node reads, and the lane of the node below it.
    #[inline(always)]
    fn step(self, block: &Block, lane: usize) -> (f32, usize) {
        let (feature, threshold) = (block.features[lane % LANES], block.thresholds[lane % LANES]);
        let value = self.0[feature as usize];
        // No branch to guess.
        let right = (value >= threshold) | (value.is_nan() & (block.missing_right() >> lane & 1 == 1));
        (value, 2 * lane + usize::from(right))
    }
}

impl Walk for Slice<'_> {
    #[inline(always)]
    fn way(self, block: &Block) -> usize {
        let mut lane = 1;
        for _ in 0..BLOCK_LEVELS {
            (_, lane) = self.step(block, lane);
        }
        lane % LANES
    }

    #[inline(always)]
    fn first_way(self, block: &Block, extents: &Extents) -> (usize, [f32; EXTENT_LEVELS as usize]) {
        let mut lane = 1;
        let together = std::array::from_fn(|_| {
            let (value, below) = self.step(block, lane);
            // 0 in the middle of the rows, .5 at the least value and at the largest.
            let away = ((value - extents.lows[lane % LANES]) * extents.scales[lane % LANES] - 0.5).abs();
            lane = below;
            // Not outside where the value is missing.
            let outside = if away > 0.5 { away - 0.5 } else { 0.0 };
            1.0 / (1.0 + outside)
        });
        (lane % LANES, together)
    }
}

/// The place of a tree, to be filled from the root down.
#[derive(Debug)]
pub(super) struct TreeMut<'a> {
    blocks: &'a mut [Block],
    extents: &'a mut Extents,
    step_length: f64,
}

impl TreeMut<'_> {
    /// `missing_right`: where the rows are that lack the feature.
    pub(super) fn cut(&mut self, node: Node, Cut { feature, threshold, low, high }: Cut, missing_right: bool) {
        let (block, lane) = node.place();
        let block = &mut self.blocks[block];
        (block.features[lane], block.thresholds[lane]) = (feature as u32, threshold);
        block.features[0] |= u32::from(missing_right) << lane;
        if node.level < EXTENT_LEVELS {
            self.extents.lows[lane] = low;
            self.extents.scales[lane] = (1.0 / (high - low)).min(f32::MAX);
        }
    }

    /// The path of what comes to this node has this many steps.
    pub(super) fn end(&mut self, node: Node, steps: f64) {
        let (block, lane) = Node { index: node.index << (DEPTH - node.level), level: DEPTH }.place();
        self.blocks[block].thresholds[lane] = ((steps - f64::from(EXTENT_LEVELS)) * self.step_length) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::super::grow::{Dice, Grower};
    use super::*;
    use crate::draw::{Draw, Purpose};

    /// One cut at .5 of rows from 0 to 1 in the first of some features, and below it paths of so many steps.
    fn stump(trees: &mut Trees, tree: usize, steps: f64) {
        let mut tree = trees.tree_mut(tree, 2);
        tree.cut(Node::ROOT, Cut { feature: 0, threshold: 0.5, low: 0.0, high: 1.0 }, false);
        for node in Node::ROOT.children() {
            tree.end(node, steps);
        }
    }

    /// Step by step, and in registers where this machine has them: that is the same.
    fn length(trees: &Trees, x: &[f32]) -> f32 {
        let length = trees.length_by(Slice(x));
        #[cfg(target_arch = "x86_64")]
        match super::super::registers::length(trees, x) {
            Some(in_registers) => assert_eq!(in_registers, length, "in registers"),
            None if x.len() <= 64 => eprintln!("this machine has no AVX2: the walk in registers is not tested"),
            None => {}
        }
        length
    }

    #[test]
    fn a_path_is_as_long_as_expected_of_what_is_outside() {
        // A step, and one more among two rows.
        let mut trees = Trees::new();
        (0..TREES).for_each(|tree| stump(&mut trees, tree, 2.0));
        for inside in [0.0, 0.4, 0.6, 1.0, f32::NAN] {
            assert_eq!(length(&trees, &[inside]), 2.0, "at {inside}");
        }
        // Outside by once the extent, it is cut off at the first step every other time; by three times, three times of four.
        assert_eq!([2.0, -1.0, 4.0, -3.0, 1e30].map(|x| length(&trees, &[x])), [1.5, 1.5, 1.25, 1.25, 1.0]);
    }

    #[test]
    fn rows_are_inside_of_their_extent_however_near_to_each_other() {
        let [low, high] = [-1e9_f32, (-1e9_f32).next_up()];
        let mut trees = Trees::new();
        for tree in 0..TREES {
            let mut tree = trees.tree_mut(tree, 2);
            tree.cut(Node::ROOT, Cut { feature: 0, threshold: high, low, high }, false);
            Node::ROOT.children().into_iter().for_each(|node| tree.end(node, 2.0));
        }
        assert_eq!([low, high, high.next_up()].map(|x| length(&trees, &[x])), [2.0, 2.0, 1.5]);
    }

    #[test]
    fn in_registers_a_path_has_the_same_bits_as_step_by_step() {
        let unit = |i: usize| Draw::new(3).unit(Purpose::Traffic, i as u64) as f32;
        for features in [1, 2, 8, 9, 20, 40, 64] {
            let mut trees = Trees::new();
            for tree in 0..TREES {
                let column = |feature: usize| std::array::from_fn(|row| unit(features * (256 * tree + row) + feature));
                let columns: Vec<[f32; 256]> = (0..features).map(column).collect();
                let dice = Dice::of_tree(Draw::new(4), tree as u64);
                Grower::new(trees.tree_mut(tree, 256), &columns, 256, dice).grow();
            }
            let mut lengths = Vec::new();
            for event in 0..300 {
                let value = |feature: usize| match unit(7_000_000 + features * event + feature) {
                    share if event % 3 == 1 && share < 0.2 => f32::NAN,
                    share if event % 3 == 2 => 4.0 * share - 1.5,
                    share => share,
                };
                lengths.push(length(&trees, &(0..features).map(value).collect::<Vec<_>>()).to_bits());
            }
            lengths.sort_unstable();
            lengths.dedup();
            assert!(lengths.len() > 100, "{features} features: {} lengths", lengths.len());
        }
    }

    #[test]
    fn only_what_half_of_the_trees_find_ordinary_is_not_put_before_the_others() {
        let of = |halves: [f64; 2]| {
            let mut trees = Trees::new();
            (0..TREES).for_each(|tree| stump(&mut trees, tree, halves[tree / (TREES / 2)]));
            length(&trees, &[0.4])
        };
        assert_eq!([[1.0, 9.0], [0.5, 1.5], [0.5, 0.0]].map(of), [1.0, 1.0, 0.25]);
    }

    #[test]
    fn every_node_has_a_place_of_its_own_and_missing_values_go_where_it_says() {
        // A tree that goes right on 1 and left on 0 of one feature for each level, which are the last of so many.
        let second_half = TREES / 2..TREES;
        for features in [8, 16, 17, 33, 65] {
            let first = features - 8;
            let mut trees = Trees::new();
            for tree in 0..TREES {
                let mut tree = trees.tree_mut(tree, 2);
                let mut nodes = vec![Node::ROOT];
                while let Some(node) = nodes.pop() {
                    if node.level == DEPTH {
                        tree.end(node, node.index as f64);
                        continue;
                    }
                    let feature = first + node.level as usize;
                    let missing_right = node.level % 2 == 1;
                    tree.cut(node, Cut { feature, threshold: 0.5, low: 0.0, high: 1.0 }, missing_right);
                    nodes.extend(node.children());
                }
            }
            for path in 0..256_usize {
                let right = |level: usize| path >> (7 - level) & 1 == 1;
                let mut x = vec![f32::NAN; features];
                (0..first).for_each(|i| x[i] = 7.0);
                (0..8).for_each(|level| x[first + level] = f32::from(u8::from(right(level))));
                assert_eq!(length(&trees, &x), 256.0 + path as f32, "{features} features");
                let in_second_half = trees.lengths(Slice(&x), second_half.clone());
                assert_eq!(in_second_half, second_half.len() as f32 * (256.0 + path as f32), "{features} features");
                (0..8).filter(|level| right(*level) == (level % 2 == 1)).for_each(|level| x[first + level] = f32::NAN);
                assert_eq!(length(&trees, &x), 256.0 + path as f32, "{features} features, of which some are missing");
            }
        }
    }
}
