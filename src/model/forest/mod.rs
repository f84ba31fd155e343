//! `isolation_forest`: how few random cuts set an event apart from the remembered ones.
//!
//! A cut between the least and the largest of a tree's rows cannot tell an event that is just outside of them from one that is far away.
//! So in the upper levels of a tree an event is counted as if it had been among the rows: outside of their extent in the feature that is
//! cut, by a share s of it, the cut would have set it apart with probability s / (1 + s), as in a random cut forest (Guha, Mishra, Roy,
//! Schrijvers 2016, section 2). Its path length is the expected number of steps. Features are chosen uniformly, unlike there, and one that
//! is constant in the rows sets nothing apart.
//!
//! `grow.rs` makes a tree, `trees.rs` keeps a hundred of them and walks through them, `registers.rs` does so several nodes at a time.

use serde::{Deserialize, Serialize};

use super::sample::Sample;
use crate::draw::Draw;
use grow::{Dice, Grower};
use trees::{TREES, Trees};

mod grow;
#[cfg(target_arch = "x86_64")]
mod registers;
mod trees;

/// An isolation forest (Liu, Ting, Zhou 2008) over a guarded sample, one of its 100 trees rebuilt every 32 events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    sample: Sample,
    /// Of each feature, what its values are measured from: 0, or their median when they were found too far from the origin before
    /// ([`ORIGIN_SPREADS_MAX`]).
    ///
    /// Trees read single precision, of which twice as many values fit in a register. It suffices for the distance from here, not for numbers of
    /// seconds since 1970. Distances below 1e-38 are none.
    origins: Vec<f64>,
    /// None before [`ROWS_MIN`] rows.
    trees: Option<Trees>,
    /// Trees built so far: the index of the next draws, and of the tree to replace.
    built: u64,
    /// Events learned since a tree was built.
    stale: u64,
}

const ROWS_MAX: usize = 1024;
/// Rows of a tree; log2 of them is its depth.
const TREE_ROWS: usize = 1 << trees::DEPTH;
/// What it weighs among the detectors. Average precision over the streams of `benches/quality` (three seeds, calibrated on 1,000 events): .448 at 1,
/// .465 at 1.5 and .478 at 2, where the faults of SKAB are found less well.
pub(super) const WEIGHT: f64 = 1.5;
const REBUILD_EVENTS: u64 = 32;
/// So many times what nine tenths of its values span, a feature may be from its origin: then 12 of 24 bits tell its values apart.
const ORIGIN_SPREADS_MAX: f64 = 4096.0;
/// Rows before the first trees.
const ROWS_MIN: usize = 16;
/// An event with at most so many features needs no memory to be scored.
const FEW: usize = 16;

impl Forest {
    pub(crate) fn new(width: usize) -> Self {
        let sample = Sample::new(width, ROWS_MAX);
        Self { sample, origins: vec![0.0; width], trees: None, built: 0, stale: 0 }
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
        let Some(trees) = &self.trees else { return -1.0 };
        let (mut few, mut many) = ([0.0; FEW], Vec::new());
        let distances = few.get_mut(..x.len()).unwrap_or_else(|| {
            many.resize(x.len(), 0.0);
            &mut many
        });
        for ((from_origin, x), origin) in distances.iter_mut().zip(x).zip(&self.origins) {
            *from_origin = distance(*origin, *x);
        }
        -f64::from(trees.length(distances))
    }

    pub(crate) fn learn(&mut self, x: &[f64]) {
        self.sample.learn(x);
        self.stale += 1;
        if self.sample.rows() < ROWS_MIN {
            return;
        }
        // While the sample grows, all trees are built anew each time it has doubled.
        let young = self.sample.seen <= ROWS_MAX as u64 && self.sample.seen.is_power_of_two();
        let all = self.trees.is_none() || young;
        let due = self.stale >= REBUILD_EVENTS;
        let moved = (all || due && self.built.is_multiple_of(TREES as u64)) && self.move_origins();
        if all || moved {
            (0..TREES).for_each(|_| self.build());
            self.stale = 0;
        } else if due {
            self.build();
            self.stale = 0;
        }
    }

    /// Measures a feature from its median, where it is so far from its origin that single precision does not tell most of its values well apart.
    /// Whether there was such a feature: trees that are measured from elsewhere are worthless then.
    fn move_origins(&mut self) -> bool {
        let mut moved = false;
        for (origin, column) in self.origins.iter_mut().zip(&self.sample.columns) {
            if let Some([low, median, high]) = middle(column)
                && (median - *origin).abs() > ORIGIN_SPREADS_MAX * (high - low)
            {
                (*origin, moved) = (median, true);
            }
        }
        moved
    }

    /// Builds the next tree in the place of the oldest.
    fn build(&mut self) {
        let mut dice = Dice::of_tree(self.sample.draw(), self.built);
        let place = (self.built % TREES as u64) as usize;
        self.built += 1;
        let size = self.sample.rows().min(TREE_ROWS);
        let rows = chosen(self.sample.rows(), size, &mut dice);
        let mut columns = vec![[f32::NAN; TREE_ROWS]; self.origins.len()];
        for ((values, origin), column) in columns.iter_mut().zip(&self.origins).zip(&self.sample.columns) {
            for (value, row) in values.iter_mut().zip(&rows) {
                *value = distance(*origin, column[usize::from(*row)]);
            }
        }
        let trees = self.trees.get_or_insert_with(Trees::new);
        Grower::new(trees.tree_mut(place, size), &columns, size, dice).grow();
    }
}

/// So many of the rows of a sample.
fn chosen(rows: usize, size: usize, dice: &mut Dice) -> Vec<u16> {
    let mut all: Vec<u16> = (0..rows as u16).collect();
    let mut bits = 0;
    for i in 0..size {
        // A draw is enough for four of them.
        bits = if i.is_multiple_of(4) { dice.bits() } else { bits >> 16 };
        all.swap(i, i + (((bits & 0xffff) as usize * (rows - i)) >> 16));
    }
    all.truncate(size);
    all
}

/// How far a value is from the origin of its feature. Finite, for features are within 1e30.
fn distance(origin: f64, x: f64) -> f32 {
    (x - origin) as f32
}

/// Of the values that are there: a twentieth of them, half, and all but a twentieth are below.
fn middle(values: &[f64]) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    let places = [1, 10, 19].map(|twentieths| twentieths * values.len() / 20);
    (!values.is_empty()).then(|| places.map(|at| *values.select_nth_unstable_by(at, f64::total_cmp).1))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Purpose;

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
    fn values_far_from_zero_are_told_apart_even_when_they_moved_there() {
        for (near_zero, events) in [(0, 2_000), (2_000, 30_000)] {
            let mut forest = Forest::new(1);
            for i in 0..events {
                forest.learn(&[if i < near_zero { unit(i) } else { 1.7e9 + unit(i) }]);
            }
            let of = [0.5, 1.5, 2.5].map(|after| forest.strangeness(&[1.7e9 + after]));
            assert!(of[1] > of[0] + 0.15 && of[2] > of[1] + 0.05, "{of:?} after {near_zero} near zero");
        }
    }

    #[test]
    fn small_values_are_told_apart_beside_many_large_ones() {
        let mut forest = Forest::new(1);
        for i in 0..2_000 {
            forest.learn(&[if i % 5 < 3 { 1e9 + unit(i) } else { 100.0 * unit(i) }]);
        }
        assert_eq!(forest.origins, [0.0]);
        let of = |x: f64| forest.strangeness(&[x]);
        let ordinary = [10.0, 35.0, 65.0, 90.0].map(of);
        assert!(ordinary.iter().all(|found| *found < of(1_000.0) - 0.1), "{ordinary:?}, {} outside", of(1_000.0));
    }

    #[test]
    fn a_flag_whose_median_turns_is_no_reason_to_build_all_trees() {
        let mut forest = Forest::new(2);
        // The first feature is 1 in four of ten events, later in six.
        for i in 0..20_000 {
            let share = if i < 10_000 { 0.4 } else { 0.6 };
            forest.learn(&[f64::from(u8::from(unit(2 * i) < share)), unit(2 * i + 1)]);
        }
        // All 100 at 16 events and at each doubling up to 1,024; and one every 32.
        assert!(forest.built <= 700 + 20_000 / REBUILD_EVENTS, "{} trees", forest.built);
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
    fn what_does_not_vary_is_no_cut() {
        let (mut forest, mut alone) = (Forest::new(3), Forest::new(1));
        for i in 0..64 {
            forest.learn(&[5.0, f64::from(i), f64::NAN]);
            alone.learn(&[f64::from(i)]);
        }
        // The same trees, but that the one feature is the second.
        let of = |second| [5.0, second, f64::NAN];
        for second in [-1.0, 0.0, 31.5, 40.0, 63.0, 1e6] {
            assert_eq!(forest.strangeness(&of(second)), alone.strangeness(&[second]), "at {second}");
        }
        assert!(alone.strangeness(&[31.5]) < alone.strangeness(&[63.0]) - 0.1);
    }
}
