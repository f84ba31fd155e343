//! The support vectors, eight to a block so that the kernel is computed for eight at once, and the kernel between any two of them.

use pulp::NullaryFnOnce;
use pulp::x86::V3;
use serde::{Deserialize, Serialize};

use super::{Shape, SupportVector};
use crate::model::encode::{BUCKET_MISSING, Encoded};
use crate::model::moments::Moments;

/// Support vectors of a block: two AVX2 registers, whose sums do not wait for each other.
pub(super) const LANES: usize = 8;

/// An event on the scale of the support vectors.
#[derive(Debug, Clone)]
pub(super) struct Query {
    numbers: Vec<f64>,
    buckets: Vec<u32>,
}

impl Query {
    pub(super) fn new(scaling: &[Moments], values: &[f64], buckets: &[u32]) -> Self {
        let numbers = scaling.iter().zip(values).map(|(scale, &x)| scale.standardised(x)).collect();
        Self { numbers, buckets: buckets.to_vec() }
    }

    /// The kernel of the event with itself.
    fn own(&self, shape: Shape, gamma: f64) -> f64 {
        match shape {
            Shape::Rbf => 1.0,
            Shape::Poly { degree } => {
                let square: f64 = self.numbers.iter().map(|x| x * x).sum();
                let there = self.buckets.iter().filter(|bucket| **bucket != BUCKET_MISSING).count();
                power(gamma * (square + there as f64) + 1.0, degree)
            }
        }
    }
}

/// Support vectors, with their coordinates of the dual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Points {
    shape: Shape,
    numbers: usize,
    categories: usize,
    /// As they came: from these they are scaled anew.
    raw: Vec<Encoded>,
    /// By block, then by column, then by place in the block.
    scaled: Vec<[f64; LANES]>,
    buckets: Vec<[u32; LANES]>,
    /// y alpha, by block; 0 where there is no support vector.
    coefficients: Vec<[f64; LANES]>,
    pub(super) classes: Vec<f64>,
    pub(super) alphas: Vec<f64>,
    pub(super) bounds: Vec<f64>,
    /// f(x_i)
    pub(super) margins: Vec<f64>,
    /// K(x_i, x_j) for j <= i, row by row.
    kernel: Vec<f64>,
}

impl Points {
    pub(super) fn new(shape: Shape, numbers: usize, categories: usize) -> Self {
        Self {
            shape,
            numbers,
            categories,
            raw: Vec::new(),
            scaled: Vec::new(),
            buckets: Vec::new(),
            coefficients: Vec::new(),
            classes: Vec::new(),
            alphas: Vec::new(),
            bounds: Vec::new(),
            margins: Vec::new(),
            kernel: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.classes.len()
    }

    pub(super) fn categories(&self) -> usize {
        self.categories
    }

    pub(super) fn vectors(&self) -> impl Iterator<Item = SupportVector> + '_ {
        self.raw.iter().enumerate().map(|(at, encoded)| SupportVector {
            encoded: encoded.clone(),
            coefficient: self.classes[at] * self.alphas[at],
            bound: self.bounds[at],
        })
    }

    /// K(x_i, x_j)
    pub(super) fn kernel(&self, i: usize, j: usize) -> f64 {
        let (row, column) = (i.max(j), i.min(j));
        self.kernel[row * (row + 1) / 2 + column]
    }

    /// The sum over the support vectors of y alpha (K(x_i, x) + 1).
    pub(super) fn sum(&self, query: &Query, gamma: f64) -> f64 {
        let sum = Sum { points: self, query, gamma };
        match V3::try_new() {
            Some(simd) => simd.vectorize(sum),
            None => sum.call(),
        }
    }

    /// K(x_i, x) for every support vector, padded to whole blocks.
    pub(super) fn row(&self, query: &Query, gamma: f64) -> Vec<[f64; LANES]> {
        let row = Row { points: self, query, gamma };
        match V3::try_new() {
            Some(simd) => simd.vectorize(row),
            None => row.call(),
        }
    }

    /// The same as [`sum`](Self::sum), of a row that has been computed.
    pub(super) fn weighted(&self, row: &[[f64; LANES]]) -> f64 {
        let mut sums = [0.0; LANES];
        for (coefficients, kernel) in self.coefficients.iter().zip(row) {
            add(&mut sums, coefficients, kernel);
        }
        sums.iter().sum()
    }

    /// The kernel of eight support vectors with the event.
    #[inline(always)]
    fn block(&self, block: usize, query: &Query, gamma: f64) -> [f64; LANES] {
        let scaled = &self.scaled[block * self.numbers..(block + 1) * self.numbers];
        let buckets = &self.buckets[block * self.categories..(block + 1) * self.categories];
        let mut sums = [0.0; LANES];
        match self.shape {
            Shape::Rbf => {
                for (points, x) in scaled.iter().zip(&query.numbers) {
                    for lane in 0..LANES {
                        let difference = points[lane] - x;
                        sums[lane] += difference * difference;
                    }
                }
                for (points, bucket) in buckets.iter().zip(&query.buckets) {
                    for lane in 0..LANES {
                        sums[lane] += apart(points[lane], *bucket);
                    }
                }
                for sum in &mut sums {
                    *sum = exp_of_negative(-gamma * *sum);
                }
            }
            Shape::Poly { degree } => {
                for (points, x) in scaled.iter().zip(&query.numbers) {
                    for lane in 0..LANES {
                        sums[lane] += points[lane] * x;
                    }
                }
                for (points, bucket) in buckets.iter().zip(&query.buckets) {
                    for lane in 0..LANES {
                        sums[lane] += f64::from(u8::from(points[lane] == *bucket && *bucket != BUCKET_MISSING));
                    }
                }
                for sum in &mut sums {
                    *sum = power(gamma * *sum + 1.0, degree);
                }
            }
        }
        sums
    }

    /// The support vector that is the same event with the same verdict.
    pub(super) fn same(&self, query: &Query, row: &[[f64; LANES]], y: f64, gamma: f64) -> Option<usize> {
        let own = query.own(self.shape, gamma);
        (0..self.len()).find(|&i| {
            row[i / LANES][i % LANES] == own && self.classes[i] == y && {
                let scaled = &self.scaled[i / LANES * self.numbers..];
                let buckets = &self.buckets[i / LANES * self.categories..];
                query.numbers.iter().zip(scaled).all(|(x, block)| block[i % LANES] == *x)
                    && query.buckets.iter().zip(buckets).all(|(bucket, block)| block[i % LANES] == *bucket)
            }
        })
    }

    /// Adds an event, whose coordinate is 0 at first. `row`: its kernel with the others; `f`: its margin. Its place.
    #[allow(clippy::too_many_arguments, reason = "what its caller has computed of the event already")]
    pub(super) fn push(
        &mut self,
        encoded: &Encoded,
        query: &Query,
        row: &[[f64; LANES]],
        y: f64,
        bound: f64,
        f: f64,
        gamma: f64,
    ) -> usize {
        let at = self.len();
        let values = encoded.values[..self.numbers].to_vec();
        self.raw.push(Encoded { values, buckets: encoded.buckets.clone() });
        self.kernel.extend(row.as_flattened()[..at].iter());
        self.kernel.push(query.own(self.shape, gamma));
        self.classes.push(y);
        self.alphas.push(0.0);
        self.bounds.push(bound);
        self.margins.push(f);
        if at.is_multiple_of(LANES) {
            self.scaled.extend(std::iter::repeat_n([0.0; LANES], self.numbers));
            self.buckets.extend(std::iter::repeat_n([BUCKET_MISSING; LANES], self.categories));
            self.coefficients.push([0.0; LANES]);
        }
        self.place(at, query);
        at
    }

    fn place(&mut self, at: usize, query: &Query) {
        for (column, x) in query.numbers.iter().enumerate() {
            self.scaled[at / LANES * self.numbers + column][at % LANES] = *x;
        }
        for (column, bucket) in query.buckets.iter().enumerate() {
            self.buckets[at / LANES * self.categories + column][at % LANES] = *bucket;
        }
    }

    pub(super) fn scale_pushes(&mut self, by: f64) {
        self.alphas.iter_mut().for_each(|alpha| *alpha *= by);
        self.coefficients.as_flattened_mut().iter_mut().for_each(|coefficient| *coefficient *= by);
    }

    pub(super) fn add(&mut self, at: usize, push: f64) {
        self.set(at, self.alphas[at] + push);
    }

    /// Moves a coordinate to `alpha`, and every margin with it.
    pub(super) fn set(&mut self, at: usize, alpha: f64) {
        let change = self.classes[at] * (alpha - self.alphas[at]);
        self.alphas[at] = alpha;
        self.coefficients[at / LANES][at % LANES] = self.classes[at] * alpha;
        let start = at * (at + 1) / 2;
        for (margin, kernel) in self.margins.iter_mut().zip(&self.kernel[start..=start + at]) {
            *margin += change * (kernel + 1.0);
        }
        for j in at + 1..self.margins.len() {
            self.margins[j] += change * (self.kernel[j * (j + 1) / 2 + at] + 1.0);
        }
    }

    /// Takes a support vector out, whose coordinate is 0; the last takes its place.
    pub(super) fn remove(&mut self, at: usize) {
        assert!(self.alphas[at] == 0.0, "what still pushes has not been moved elsewhere");
        let last = self.len() - 1;
        let row = |i: usize| i * (i + 1) / 2;
        if at != last {
            // The last row, without its kernel with the one that goes.
            for j in 0..last {
                if j != at {
                    let (to, from) = (row(at.max(j)) + at.min(j), row(last) + j);
                    self.kernel[to] = self.kernel[from];
                }
            }
            self.kernel[row(at) + at] = self.kernel[row(last) + last];
            let moved = |blocks: &mut [[f64; LANES]], width: usize, column: usize| {
                blocks[at / LANES * width + column][at % LANES] = blocks[last / LANES * width + column][last % LANES];
            };
            (0..self.numbers).for_each(|column| moved(&mut self.scaled, self.numbers, column));
            moved(&mut self.coefficients, 1, 0);
            for column in 0..self.categories {
                self.buckets[at / LANES * self.categories + column][at % LANES] =
                    self.buckets[last / LANES * self.categories + column][last % LANES];
            }
        }
        self.kernel.truncate(row(last));
        self.raw.swap_remove(at);
        self.classes.swap_remove(at);
        self.alphas.swap_remove(at);
        self.bounds.swap_remove(at);
        self.margins.swap_remove(at);
        self.coefficients[last / LANES][last % LANES] = 0.0;
        let blocks = last.div_ceil(LANES);
        self.coefficients.truncate(blocks);
        self.scaled.truncate(blocks * self.numbers);
        self.buckets.truncate(blocks * self.categories);
    }

    /// Every coordinate, kernel and margin anew.
    pub(super) fn rescale(&mut self, scaling: &[Moments], gamma: f64, offset: f64) {
        let queries: Vec<Query> = self.raw.iter().map(|raw| Query::new(scaling, &raw.values, &raw.buckets)).collect();
        for (at, query) in queries.iter().enumerate() {
            self.place(at, query);
        }
        let mut kernel = Vec::with_capacity(self.kernel.len());
        for (at, query) in queries.iter().enumerate() {
            let row = self.row(query, gamma);
            kernel.extend(row.as_flattened()[..=at].iter());
            self.margins[at] = offset + self.weighted(&row);
        }
        self.kernel = kernel;
    }
}

struct Sum<'a> {
    points: &'a Points,
    query: &'a Query,
    gamma: f64,
}

impl NullaryFnOnce for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let mut sums = [0.0; LANES];
        for (block, coefficients) in self.points.coefficients.iter().enumerate() {
            add(&mut sums, coefficients, &self.points.block(block, self.query, self.gamma));
        }
        sums.iter().sum()
    }
}

struct Row<'a> {
    points: &'a Points,
    query: &'a Query,
    gamma: f64,
}

impl NullaryFnOnce for Row<'_> {
    type Output = Vec<[f64; LANES]>;

    #[inline(always)]
    fn call(self) -> Vec<[f64; LANES]> {
        (0..self.points.coefficients.len()).map(|block| self.points.block(block, self.query, self.gamma)).collect()
    }
}

#[inline(always)]
fn add(sums: &mut [f64; LANES], coefficients: &[f64; LANES], kernel: &[f64; LANES]) {
    for lane in 0..LANES {
        sums[lane] += coefficients[lane] * (kernel[lane] + 1.0);
    }
}

/// The squared distance of two categories as one-hot columns.
#[inline(always)]
fn apart(a: u32, b: u32) -> f64 {
    let there = |bucket: u32| f64::from(u8::from(bucket != BUCKET_MISSING));
    if a == b { 0.0 } else { there(a) + there(b) }
}

#[inline(always)]
fn power(x: f64, degree: u8) -> f64 {
    (1..degree).fold(x, |product, _| product * x)
}

/// exp(x) for x <= 0, within 1e-14 of its value: without a branch, so that the compiler takes four at once, and the same bits everywhere. `libm` needs
/// 10 ns for each, four times as long.
#[inline(always)]
fn exp_of_negative(x: f64) -> f64 {
    /// 1.5 * 2^52: what is added to it is rounded to a whole number, which then stands in its lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let x = x.max(-700.0);
    let rounded = x * std::f64::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    // The Taylor series to r^11 / 11!, for |r| <= ln(2) / 2.
    let mut sum = 1.0 / 39_916_800.0;
    for inverse in [
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * r + inverse;
    }
    sum * f64::from_bits(rounded.to_bits().wrapping_add(1_023) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_exponential_is_the_exponential() {
        for i in 0..=70_000 {
            let x = -f64::from(i) / 100.0;
            let (fast, exact) = (exp_of_negative(x), libm::exp(x));
            assert!((fast - exact).abs() <= 2e-14 * exact, "exp({x}): {fast} and {exact}");
        }
        assert_eq!(exp_of_negative(0.0), 1.0);
        assert!(exp_of_negative(-1e300) < 1e-300);
    }
}
