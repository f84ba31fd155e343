//! Mergeable aggregates of one window as flat slices of numbers: lift a row, merge two neighbours, read a result.
//!
//! Nothing is ever subtracted, so a value that has left a window leaves no trace in it.

/// One piece of an aggregate. `usize` is the place of its argument among a row's kept values; NaN there is NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Count(usize),
    Sum(usize),
    Min(usize),
    Max(usize),
    /// Count, mean and the sum of squared deviations (Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance").
    Moments(usize),
    /// The first and the last value that is not NULL, which is how Flink understands FIRST_VALUE and LAST_VALUE.
    First(usize),
    Last(usize),
}

impl Cell {
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Moments(_) => 3,
            _ => 1,
        }
    }

    fn identity(self, out: &mut [f64]) {
        match self {
            Self::Count(_) | Self::Sum(_) => out[0] = 0.0,
            Self::Min(_) => out[0] = f64::INFINITY,
            Self::Max(_) => out[0] = f64::NEG_INFINITY,
            Self::Moments(_) => out[..3].fill(0.0),
            Self::First(_) | Self::Last(_) => out[0] = f64::NAN,
        }
    }

    /// `into = into . x`, the value coming after what is in `into`.
    fn append(self, into: &mut [f64], x: f64) {
        if x.is_nan() {
            return;
        }
        match self {
            Self::Count(_) => into[0] += 1.0,
            Self::Sum(_) => into[0] += x,
            Self::Min(_) => into[0] = into[0].min(x),
            Self::Max(_) => into[0] = into[0].max(x),
            Self::Moments(_) => {
                let count = into[0] + 1.0;
                let delta = x - into[1];
                let mean = into[1] + delta / count;
                into[2] += delta * (x - mean);
                into[0] = count;
                into[1] = mean;
            }
            Self::First(_) if into[0].is_nan() => into[0] = x,
            Self::First(_) => {}
            Self::Last(_) => into[0] = x,
        }
    }

    /// `into = x . into`, the value coming before what is in `into`.
    fn prepend(self, into: &mut [f64], x: f64) {
        if x.is_nan() {
            return;
        }
        match self {
            Self::Moments(_) if into[0] > 0.0 => {
                let count = 1.0 + into[0];
                let delta = into[1] - x;
                into[2] += delta * delta * (into[0] / count);
                into[1] = x + delta * (into[0] / count);
                into[0] = count;
            }
            Self::First(_) => into[0] = x,
            Self::Last(_) if !into[0].is_nan() => {}
            // Neither counts, sums nor extremes know an order.
            _ => self.append(into, x),
        }
    }

    /// `into = into . right`.
    fn merge(self, into: &mut [f64], right: &[f64]) {
        match self {
            Self::Count(_) | Self::Sum(_) => into[0] += right[0],
            Self::Min(_) => into[0] = into[0].min(right[0]),
            Self::Max(_) => into[0] = into[0].max(right[0]),
            Self::Moments(_) if right[0] == 0.0 => {}
            Self::Moments(_) if into[0] == 0.0 => into[..3].copy_from_slice(&right[..3]),
            Self::Moments(_) => {
                let count = into[0] + right[0];
                let delta = right[1] - into[1];
                into[2] += right[2] + delta * delta * (into[0] * right[0] / count);
                into[1] += delta * (right[0] / count);
                into[0] = count;
            }
            Self::First(_) if !into[0].is_nan() => {}
            Self::Last(_) if right[0].is_nan() => {}
            Self::First(_) | Self::Last(_) => into[0] = right[0],
        }
    }

    fn argument(self) -> usize {
        match self {
            Self::Count(a) | Self::Sum(a) | Self::Min(a) | Self::Max(a) => a,
            Self::Moments(a) | Self::First(a) | Self::Last(a) => a,
        }
    }
}

/// The aggregate of no rows.
pub(crate) fn identity(cells: &[Cell], out: &mut [f64]) {
    let mut at = 0;
    for cell in cells {
        cell.identity(&mut out[at..]);
        at += cell.width();
    }
}

/// Takes one more row in, after all others.
pub(crate) fn append(cells: &[Cell], into: &mut [f64], row: &[f64]) {
    let mut at = 0;
    for cell in cells {
        cell.append(&mut into[at..], row[cell.argument()]);
        at += cell.width();
    }
}

/// Takes one more row in, before all others.
pub(crate) fn prepend(cells: &[Cell], into: &mut [f64], row: &[f64]) {
    let mut at = 0;
    for cell in cells {
        cell.prepend(&mut into[at..], row[cell.argument()]);
        at += cell.width();
    }
}

/// Takes a row in whose place is among the others: it is neither the first nor the last of them.
pub(crate) fn include(cells: &[Cell], into: &mut [f64], row: &[f64]) {
    let mut at = 0;
    for cell in cells {
        match cell {
            Cell::Last(_) => cell.prepend(&mut into[at..], row[cell.argument()]),
            _ => cell.append(&mut into[at..], row[cell.argument()]),
        }
        at += cell.width();
    }
}

/// Takes the aggregate of the rows that follow in.
pub(crate) fn merge(cells: &[Cell], into: &mut [f64], right: &[f64]) {
    let mut at = 0;
    for cell in cells {
        cell.merge(&mut into[at..], &right[at..]);
        at += cell.width();
    }
}

/// What a window call reads from its frame's aggregate; the numbers are places in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Rows,
    Count {
        count: usize,
    },
    Sum {
        count: usize,
        sum: usize,
    },
    Average {
        count: usize,
        sum: usize,
    },
    /// MIN and MAX: an infinity is "no value".
    Extreme {
        at: usize,
    },
    /// FIRST_VALUE and LAST_VALUE.
    Value {
        at: usize,
    },
    Variance {
        moments: usize,
        sample: bool,
    },
    Deviation {
        moments: usize,
        sample: bool,
    },
}

impl Reading {
    /// NaN is NULL.
    pub(crate) fn of(self, aggregate: &[f64], rows: f64) -> f64 {
        match self {
            Self::Rows => rows,
            Self::Count { count } => aggregate[count],
            Self::Sum { count, .. } | Self::Average { count, .. } if aggregate[count] == 0.0 => f64::NAN,
            Self::Sum { sum, .. } => aggregate[sum],
            Self::Average { count, sum } => aggregate[sum] / aggregate[count],
            Self::Extreme { at } if aggregate[at].is_infinite() => f64::NAN,
            Self::Extreme { at } | Self::Value { at } => aggregate[at],
            Self::Variance { moments, sample } => variance(&aggregate[moments..], sample),
            Self::Deviation { moments, sample } => variance(&aggregate[moments..], sample).sqrt(),
        }
    }
}

fn variance(moments: &[f64], sample: bool) -> f64 {
    let degrees = if sample { moments[0] - 1.0 } else { moments[0] };
    if degrees > 0.0 { moments[2].max(0.0) / degrees } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELLS: [Cell; 7] =
        [Cell::Count(0), Cell::Sum(0), Cell::Min(0), Cell::Max(0), Cell::Moments(0), Cell::First(0), Cell::Last(0)];

    fn fold(values: &[f64]) -> Vec<f64> {
        let mut out = vec![f64::NAN; 9];
        identity(&CELLS, &mut out);
        values.iter().for_each(|x| append(&CELLS, &mut out, &[*x]));
        out
    }

    fn assert_near(found: &[f64], expected: &[f64], what: &str) {
        for (a, b) in found.iter().zip(expected) {
            let same = (a - b).abs() < 1e-12 || (a.is_nan() && b.is_nan()) || a == b;
            assert!(same, "{what}: {found:?} is not {expected:?}");
        }
    }

    #[test]
    fn merging_and_prepending_in_any_split_equal_appending() {
        for values in [[3.0, f64::NAN, 1.0, 4.0, 1.5, f64::NAN], [f64::NAN, f64::NAN, 2.0, f64::NAN, 2.0, -7.5]] {
            let whole = fold(&values);
            for split in 0..=values.len() {
                let mut left = fold(&values[..split]);
                merge(&CELLS, &mut left, &fold(&values[split..]));
                assert_near(&left, &whole, &format!("merged at {split}"));
                let mut right = fold(&values[split..]);
                values[..split].iter().rev().for_each(|x| prepend(&CELLS, &mut right, &[*x]));
                assert_near(&right, &whole, &format!("prepended from {split}"));
            }
            let mut without = fold(&[values[0], values[1], values[2], values[4], values[5]]);
            include(&CELLS, &mut without, &[values[3]]);
            assert_near(&without, &whole, "included");
        }
    }

    #[test]
    fn nulls_do_not_count_and_over_no_value_there_is_none() {
        let whole = fold(&[f64::NAN, 3.0, f64::NAN, 1.0, 4.0, 1.5, f64::NAN]);
        assert_eq!(whole[..4], [4.0, 9.5, 1.0, 4.0]);
        assert_eq!(whole[7..], [3.0, 1.5]);
        assert!((Reading::Variance { moments: 4, sample: false }.of(&whole, 6.0) - 1.421_875).abs() < 1e-12);
        let nothing = fold(&[f64::NAN]);
        assert!(Reading::Sum { count: 0, sum: 1 }.of(&nothing, 1.0).is_nan());
        assert!(Reading::Extreme { at: 2 }.of(&nothing, 1.0).is_nan());
        assert!(Reading::Value { at: 7 }.of(&nothing, 1.0).is_nan());
        assert!(Reading::Deviation { moments: 4, sample: false }.of(&nothing, 1.0).is_nan());
        assert!(Reading::Deviation { moments: 4, sample: true }.of(&fold(&[1.0]), 1.0).is_nan());
        assert_eq!(Reading::Rows.of(&nothing, 1.0), 1.0);
    }
}
