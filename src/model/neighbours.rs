//! `nearest_neighbours`: how far the k-th nearest of the remembered events is.

use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

use super::kth::{BLOCK, kth};
use super::moments::Moments;
use super::sample::{Change, Sample};
use crate::draw::Draw;

/// Which neighbour the distance is measured to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Reach {
    /// The k-th nearest: finds what is alone. A cluster of k rows is ordinary to it.
    Count(usize),
    /// The nearest that this share of the sample is closer than: a cluster is strange until it is this large.
    Share(f64),
}

/// The distance to a neighbour in a guarded sample (Ramaswamy, Rastogi, Shim 2000). Features are scaled by their running mean and
/// deviation and compressed beyond one deviation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    reach: Reach,
    sample: Sample,
    moments: Vec<Moments>,
    /// The moments that the sample is scaled by: those of a little while ago, so that events and rows are scaled alike.
    scaled_by: Vec<Moments>,
    /// The scaled sample, [`BLOCK`] rows at a time, of which the first feature comes first: so the sums of a block stay in registers
    /// while its features pass by. Single precision halves the time, and ranks are all that is needed of distances.
    blocks: Vec<f32>,
    /// Events offered when the whole sample was scaled.
    scaled_at: u64,
}

/// Rows remembered where one near neighbour is asked for.
pub const ROWS_NEAR: usize = 1024;
/// A share of the sample is known well enough from fewer rows.
const ROWS_SHARE: usize = 256;
/// What the distance to a share weighs among the detectors: the others look at what is near, and together they would outvote it.
const SHARE_WEIGHT: f64 = 2.5;
/// Scales are computed anew when the moments have seen a sixteenth more than they had seen, and after so many events at most, in which
/// they move by 1 % of their memory: it touches the whole sample.
const SCALE_SHARE: u64 = 16;
const SCALE_EVENTS_MAX: u64 = 1_000;

impl Neighbours {
    pub(crate) fn new(width: usize, reach: Reach) -> Self {
        let rows_max = match reach {
            Reach::Count(count) => {
                assert!((1..=ROWS_NEAR).contains(&count), "the configuration allows no other count");
                ROWS_NEAR
            }
            Reach::Share(share) => {
                assert!(0.0 < share && share < 1.0, "the configuration allows no other share");
                ROWS_SHARE
            }
        };
        Self {
            reach,
            sample: Sample::new(width, rows_max),
            moments: vec![Moments::default(); width],
            scaled_by: vec![Moments::default(); width],
            blocks: Vec::new(),
            scaled_at: 0,
        }
    }

    pub(crate) fn reseed(&mut self, draw: Draw) {
        self.sample.reseed(draw);
    }

    pub(crate) fn seen(&self) -> u64 {
        self.sample.seen
    }

    /// Its weight among the detectors, and whether it looks at all of them.
    pub(crate) fn part(&self) -> (f64, bool) {
        match self.reach {
            Reach::Count(_) => (1.0, false),
            Reach::Share(_) => (SHARE_WEIGHT, true),
        }
    }

    /// The distance, at least 0 and finite.
    pub(crate) fn strangeness(&self, x: &[f64]) -> f64 {
        if self.sample.rows() == 0 {
            return 0.0;
        }
        f64::from(self.reach.of(self.sample.rows(), &self.squares(&self.scaled(x)))).sqrt()
    }

    /// The squared difference in each feature from the neighbour that the distance is to; 0 where the feature is missing.
    pub(crate) fn terms(&self, x: &[f64]) -> Vec<f64> {
        let z = self.scaled(x);
        let squares = self.squares(&z);
        if self.sample.rows() == 0 {
            return vec![0.0; z.len()];
        }
        let distance = self.reach.of(self.sample.rows(), &squares);
        let row = squares.as_flattened().iter().position(|square| *square == distance).expect("it is one of them");
        let first = row / BLOCK * BLOCK * z.len() + row % BLOCK;
        let others = self.blocks[first..].iter().step_by(BLOCK);
        let term = |((x, z), other): ((&f64, &f32), &f32)| {
            if x.is_nan() { 0.0 } else { f64::from((other - z) * (other - z)) }
        };
        x.iter().zip(&z).zip(others).map(term).collect()
    }

    fn scaled(&self, x: &[f64]) -> Vec<f32> {
        self.scaled_by.iter().zip(x).map(|(moments, x)| moments.standardised(*x) as f32).collect()
    }

    /// The squared distance of each row, and infinity for those that are not there yet.
    fn squares(&self, z: &[f32]) -> Vec<[f32; BLOCK]> {
        let mut squares = vec![[0.0; BLOCK]; self.sample.rows().div_ceil(BLOCK)];
        Arch::new().dispatch(Distances { blocks: &self.blocks, z, squares: &mut squares });
        squares
    }

    pub(crate) fn learn(&mut self, x: &[f64]) {
        self.moments.iter_mut().zip(x).for_each(|(moments, x)| moments.learn_value(*x));
        let Some(Change { row, .. }) = self.sample.learn(x) else { return };
        let seen = self.sample.seen;
        if seen - self.scaled_at >= (seen / SCALE_SHARE).clamp(1, SCALE_EVENTS_MAX) {
            self.rescale();
            return;
        }
        self.scale(row);
    }

    /// The moments have moved on since the rows were scaled.
    fn rescale(&mut self) {
        self.scaled_by.clone_from(&self.moments);
        (0..self.sample.rows()).for_each(|row| self.scale(row));
        self.scaled_at = self.sample.seen;
    }

    fn scale(&mut self, row: usize) {
        let width = self.sample.columns.len();
        let first = row / BLOCK * BLOCK * width + row % BLOCK;
        if first >= self.blocks.len() {
            // Rows that are not there yet are near to nothing.
            self.blocks.resize(self.blocks.len() + BLOCK * width, f32::INFINITY);
        }
        for (i, (moments, column)) in self.scaled_by.iter().zip(&self.sample.columns).enumerate() {
            self.blocks[first + i * BLOCK] = moments.standardised(column[row]) as f32;
        }
    }
}

/// The squared distances of all rows to `z`, by AVX2 where the machine has it. That changes no result: each row's sum is by itself, in
/// the order of the features.
struct Distances<'a> {
    blocks: &'a [f32],
    z: &'a [f32],
    squares: &'a mut [[f32; BLOCK]],
}

impl WithSimd for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (squares, block) in self.squares.iter_mut().zip(self.blocks.chunks(BLOCK * self.z.len())) {
            let mut sums = [0.0; BLOCK];
            let (features, _) = block.as_chunks::<BLOCK>();
            for (others, z) in features.iter().zip(self.z) {
                for (sum, other) in sums.iter_mut().zip(others) {
                    let delta = other - z;
                    *sum += delta * delta;
                }
            }
            *squares = sums;
        }
    }
}

impl Reach {
    /// The wanted order statistic of so many rows and what fills the last block.
    fn of(self, rows: usize, squares: &[[f32; BLOCK]]) -> f32 {
        let k = match self {
            Reach::Count(count) => count.min(rows),
            Reach::Share(share) => ((share * rows as f64) as usize).clamp(COUNT_LEAST.min(rows), rows),
        };
        kth(squares, k)
    }
}

/// With few rows a share of them is too few neighbours to tell anything.
const COUNT_LEAST: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_cluster_is_near_its_own_and_far_from_most() {
        let (mut near, mut share) = (Neighbours::new(1, Reach::Count(5)), Neighbours::new(1, Reach::Share(0.4)));
        for i in 0..240 {
            let x = if i % 12 == 0 { 50.0 } else { f64::from(i % 40) / 40.0 };
            near.learn(&[x]);
            share.learn(&[x]);
        }
        assert!(near.strangeness(&[50.0]) < 1e-3 && near.strangeness(&[20.0]) > 0.1);
        assert!(share.strangeness(&[50.0]) > 10.0 * share.strangeness(&[0.5]));
    }

    #[test]
    fn wide_registers_change_no_bit() {
        let mut model = Neighbours::new(3, Reach::Count(10));
        let unit = |i| Draw::new(4).unit(crate::draw::Purpose::Traffic, i);
        (0..300).for_each(|i| model.learn(&[unit(i), 1e9 * unit(2 * i), unit(3 * i).powi(9)]));
        let z = model.scaled(&[0.3, 7e8, 0.1]);
        let mut narrow = vec![[0.0; BLOCK]; model.blocks.len() / (BLOCK * z.len())];
        Distances { blocks: &model.blocks, z: &z, squares: &mut narrow }.with_simd(pulp::Scalar::new());
        let bits = |squares: &[f32]| squares.iter().map(|square| square.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(model.squares(&z).as_flattened()), bits(narrow.as_flattened()));
    }
}
