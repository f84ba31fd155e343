//! A walk through trees with the event in registers (AVX2): all nodes of a block are asked at once.

use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast, f32x8};

use super::trees::{Block, EXTENT_LEVELS, Extents, LANES, Trees, Walk};

/// The mean path length of an event; `None` when it has too many values, or the machine has no AVX2.
pub(super) fn length(trees: &Trees, x: &[f32]) -> Option<f32> {
    let simd = V3::try_new()?;
    match x.len().div_ceil(LANES) {
        0..=1 => Some(length_in::<1>(simd, trees, x)),
        2 => Some(length_in::<2>(simd, trees, x)),
        3..=4 => Some(length_in::<4>(simd, trees, x)),
        5..=8 => Some(length_in::<8>(simd, trees, x)),
        _ => None,
    }
}

/// In so many registers.
fn length_in<const N: usize>(simd: V3, trees: &Trees, x: &[f32]) -> f32 {
    let mut lanes = [[0.0; LANES]; N];
    lanes.as_flattened_mut()[..x.len()].copy_from_slice(x);
    let values = lanes.map(cast);
    if x.iter().any(|x| x.is_nan()) {
        simd.vectorize(Length { trees, walk: Registers::<N, true> { simd, values } })
    } else {
        simd.vectorize(Length { trees, walk: Registers::<N, false> { simd, values } })
    }
}

struct Length<'a, W> {
    trees: &'a Trees,
    walk: W,
}

impl<W: Walk> NullaryFnOnce for Length<'_, W> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        self.trees.length_by(self.walk)
    }
}

/// The values of an event, eight in each of so many registers. `MISSING`: some may be.
#[derive(Debug, Clone, Copy)]
struct Registers<const N: usize, const MISSING: bool> {
    simd: V3,
    values: [f32x8; N],
}

impl<const N: usize, const MISSING: bool> Registers<N, MISSING> {
    /// The value that each node of a block reads.
    #[inline(always)]
    fn values(self, block: &Block) -> f32x8 {
        let V3 { avx, avx2, .. } = self.simd;
        let features = cast(block.features);
        // The lower three bits choose the lane, and those above the register.
        let of = |register: f32x8| avx2._mm256_permutevar8x32_ps(cast(register), features);
        let mut values = of(self.values[0]);
        for (i, register) in self.values.iter().enumerate().skip(1) {
            let chosen =
                avx2._mm256_cmpeq_epi32(avx2._mm256_srli_epi32::<3>(features), avx._mm256_set1_epi32(i as i32));
            values = avx._mm256_blendv_ps(values, of(*register), cast(chosen));
        }
        cast(values)
    }
}

/// The way out of a block, by the lanes that go right.
const WAYS: [u8; 1 << LANES] = {
    let mut ways = [0; 1 << LANES];
    let mut right = 0;
    while right < ways.len() {
        let mut lane = 1;
        while lane < LANES {
            lane = 2 * lane + (right >> lane & 1);
        }
        ways[right] = (lane % LANES) as u8;
        right += 1;
    }
    ways
};

/// Comparisons: at least, which is false for NaN; and whether one of them is NaN.
const GREATER_OR_EQUAL: i32 = 29;
const UNORDERED: i32 = 3;

impl<const N: usize, const MISSING: bool> Walk for Registers<N, MISSING> {
    #[inline(always)]
    fn way(self, block: &Block) -> usize {
        let V3 { avx, .. } = self.simd;
        let values = cast(self.values(block));
        let mut right =
            avx._mm256_movemask_ps(avx._mm256_cmp_ps::<GREATER_OR_EQUAL>(values, cast(block.thresholds))) as u32;
        if MISSING {
            let missing = avx._mm256_movemask_ps(avx._mm256_cmp_ps::<UNORDERED>(values, values)) as u32;
            right |= missing & block.missing_right();
        }
        usize::from(WAYS[right as usize % WAYS.len()]) % LANES
    }

    #[inline(always)]
    fn first_way(self, block: &Block, extents: &Extents) -> (usize, [f32; EXTENT_LEVELS as usize]) {
        let V3 { avx, .. } = self.simd;
        let (one, half) = (avx._mm256_set1_ps(1.0), avx._mm256_set1_ps(0.5));
        let from_low = avx._mm256_sub_ps(cast(self.values(block)), cast(extents.lows));
        let away = avx._mm256_sub_ps(avx._mm256_mul_ps(from_low, cast(extents.scales)), half);
        let away = avx._mm256_andnot_ps(avx._mm256_set1_ps(-0.0), away);
        let outside = avx._mm256_max_ps(avx._mm256_sub_ps(away, half), avx._mm256_setzero_ps());
        let together: [f32; LANES] = cast(avx._mm256_div_ps(one, avx._mm256_add_ps(one, outside)));
        let way = self.way(block);
        (way, [together[1], together[(LANES + way) / 4], together[(LANES + way) / 2]])
    }
}
