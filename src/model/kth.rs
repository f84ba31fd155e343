//! The k-th smallest of many squares (an order statistic).

use pulp::{Arch, Simd, WithSimd};

/// Squares that are looked at side by side.
pub(super) const BLOCK: usize = 32;
/// Up to this k, the least of each lane tells about where the k-th is.
const K_SMALL: usize = BLOCK / 2;

/// The k-th smallest of these, of which at least k are finite, and none is negative or NaN.
pub(super) fn kth(squares: &[[f32; BLOCK]], k: usize) -> f32 {
    assert!(k > 0, "the first is the smallest");
    if k > K_SMALL {
        return Arch::new().dispatch(Kth { squares, k });
    }
    // The k-th smallest of the lanes' least is at least the k-th of all, and hardly more than k are not above it.
    let bound = Arch::new().dispatch(Kth { squares: &[Arch::new().dispatch(Least { squares })], k });
    let mut near = Vec::with_capacity(BLOCK);
    Arch::new().dispatch(Near { squares, bound, near: &mut near });
    *near.select_nth_unstable_by(k - 1, f32::total_cmp).1
}

/// Interpolation search over the bits, which have the order of the squares, for these are not negative: bits are about logarithms, so how many
/// squares are below some says well where the k-th is. When a guess does not halve the range, bisection does.
struct Kth<'a> {
    squares: &'a [[f32; BLOCK]],
    k: usize,
}

impl WithSimd for Kth<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let Self { squares, k } = self;
        let least = fold(squares, f32::INFINITY, |least, square| if square < least { square } else { least });
        let largest = fold(squares, 0.0, |largest, square| if square > largest { square } else { largest });
        // Fewer than k squares, `below`, are less than `low`; at least k, `up_to`, are not more than `high`.
        let (mut low, mut below) = (least.to_bits(), 0);
        let (mut high, mut up_to) = (largest.to_bits(), squares.len() * BLOCK);
        let mut guess = true;
        while low < high {
            let range = high - low;
            let share = if guess { (k - below) as f32 / (up_to - below + 1) as f32 } else { 0.5 };
            let middle = low + ((range as f32 * share) as u32).min(range - 1);
            let bound = f32::from_bits(middle);
            let count: u32 = squares.as_flattened().iter().map(|square| u32::from(*square <= bound)).sum();
            let count = count as usize;
            if count == k {
                let up_to_bound = |largest, square| if square <= bound && square > largest { square } else { largest };
                return fold(squares, 0.0, up_to_bound);
            }
            if count > k {
                (high, up_to) = (middle, count);
            } else {
                (low, below) = (middle + 1, count);
            }
            guess = high - low <= range / 2;
        }
        f32::from_bits(low)
    }
}

/// A fold whose order is of no matter, in lanes: one chain of comparisons waits for itself.
#[inline(always)]
fn fold(squares: &[[f32; BLOCK]], start: f32, of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; BLOCK];
    for block in squares {
        for (lane, square) in lanes.iter_mut().zip(block) {
            *lane = of(*lane, *square);
        }
    }
    lanes.into_iter().fold(start, of)
}

/// The least of each lane: of the squares at one place in every block.
struct Least<'a> {
    squares: &'a [[f32; BLOCK]],
}

impl WithSimd for Least<'_> {
    type Output = [f32; BLOCK];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [f32; BLOCK] {
        let mut lanes = [f32::INFINITY; BLOCK];
        for block in self.squares {
            for (least, square) in lanes.iter_mut().zip(block) {
                *least = if *square < *least { *square } else { *least };
            }
        }
        lanes
    }
}

/// The squares that are not more than `bound`.
struct Near<'a> {
    squares: &'a [[f32; BLOCK]],
    bound: f32,
    near: &'a mut Vec<f32>,
}

impl WithSimd for Near<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for block in self.squares {
            // Most blocks have none: they are passed over without a branch for each row.
            if block.iter().fold(false, |any, square| any | (*square <= self.bound)) {
                let (mut near, mut len) = ([0.0; BLOCK], 0);
                for square in block {
                    near[len] = *square;
                    len += usize::from(*square <= self.bound);
                }
                self.near.extend_from_slice(&near[..len]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Draw, Purpose};

    #[test]
    fn it_agrees_with_sorting() {
        let unit = |i| Draw::new(3).unit(Purpose::Traffic, i) as f32;
        let mut many: Vec<f32> = (0..500).map(unit).collect();
        many.extend([0.0, 0.0, f32::MIN_POSITIVE, many[7], many[7], f32::MAX]);
        let equal = vec![0.25; 70];
        let few_values: Vec<f32> = (0..300).map(|i| (unit(i) * 3.0).floor() * 1e20).collect();
        let far_apart: Vec<f32> = (0..200).map(|i| 10_f32.powf(unit(i) * 70.0 - 35.0)).collect();
        let full: Vec<f32> = (0..256).map(|i| unit(i) * unit(i + 7)).collect();
        for mut squares in [many, equal, few_values, far_apart, full, vec![2.0]] {
            let rows = squares.len();
            squares.resize(rows.next_multiple_of(BLOCK), f32::INFINITY);
            let mut sorted = squares.clone();
            sorted.sort_by(f32::total_cmp);
            for k in 1..=rows {
                assert_eq!(kth(squares.as_chunks().0, k), sorted[k - 1], "{k} of {rows}");
            }
        }
    }
}
