//! The few dense kernels that `linear_regression` needs, over plain row-major slices, with a fixed order of summation.

/// The sum of a_i b_i in four interleaved partial sums: the order is fixed, and the compiler may use vector registers.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a4.zip(b4) {
        for k in 0..4 {
            sums[k] += x[k] * y[k];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

pub(crate) fn identity(d: usize) -> Vec<f64> {
    let mut a = vec![0.0; d * d];
    for i in 0..d {
        a[i * d + i] = 1.0;
    }
    a
}

/// Replaces a symmetric positive definite d x d matrix by its inverse, by Cholesky. Reads only the lower triangle; writes both.
/// False (and the matrix is spoilt) when it is not positive definite.
pub(crate) fn invert(a: &mut [f64], d: usize) -> bool {
    // a = L L', in place.
    for i in 0..d {
        for j in 0..=i {
            let (above, row) = a.split_at(i * d);
            let s = if j < i { dot(&above[j * d..j * d + j], &row[..j]) } else { dot(&row[..i], &row[..i]) };
            let value = row[j] - s;
            if j < i {
                a[i * d + j] = value / a[j * d + j];
            } else if value > 1e-12 {
                a[i * d + i] = value.sqrt();
            } else {
                return false;
            }
        }
    }
    // M = L^-1, row by row: M_i = (e_i - sum_k<i L_ik M_k) / L_ii. Kept apart, because L is still being read.
    let mut m = vec![0.0; d * d];
    for i in 0..d {
        let (done, row) = m.split_at_mut(i * d);
        for k in 0..i {
            let l = a[i * d + k];
            for (x, y) in row[..=k].iter_mut().zip(&done[k * d..=k * d + k]) {
                *x -= l * y;
            }
        }
        row[i] = 1.0;
        let diagonal = a[i * d + i];
        for x in &mut row[..=i] {
            *x /= diagonal;
        }
    }
    // a^-1 = M' M, as a sum of outer products of M's rows.
    a.fill(0.0);
    for k in 0..d {
        let row = &m[k * d..=k * d + k];
        for i in 0..=k {
            for (x, y) in a[i * d..=i * d + i].iter_mut().zip(row) {
                *x += row[i] * y;
            }
        }
    }
    for i in 0..d {
        for j in 0..i {
            a[j * d + i] = a[i * d + j];
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_times_the_matrix_is_the_identity() {
        for d in [1, 2, 3, 5, 8, 17] {
            // A' A + I of numbers without a pattern is positive definite.
            let b: Vec<f64> = (0..d * d).map(|i| f64::from((i * i * 7 + 3 * i) as u32 % 19) / 10.0 - 0.9).collect();
            let mut a = identity(d);
            for i in 0..d {
                for j in 0..d {
                    a[i * d + j] += (0..d).map(|k| b[k * d + i] * b[k * d + j]).sum::<f64>();
                }
            }
            let mut inverse = a.clone();
            assert!(invert(&mut inverse, d));
            for i in 0..d {
                for j in 0..d {
                    let column: Vec<f64> = (0..d).map(|k| inverse[k * d + j]).collect();
                    let want = f64::from(u8::from(i == j));
                    assert!((dot(&a[i * d..(i + 1) * d], &column) - want).abs() < 1e-9, "{d}: {i}, {j}");
                }
            }
        }
        assert!(!invert(&mut [1.0, 2.0, 2.0, 1.0], 2), "not positive definite");
    }
}
