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
        }
    }

    fn argument(self) -> usize {
        match self {
            Self::Count(a) | Self::Sum(a) | Self::Min(a) | Self::Max(a) | Self::Moments(a) => a,
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
pub(crate) fn append(cells: &[Cell], into: &mut [f64], argument: impl Fn(usize) -> f64) {
    let mut at = 0;
    for cell in cells {
        cell.append(&mut into[at..], argument(cell.argument()));
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
    pub(crate) fn of(self, aggregate: &[f64], rows: usize) -> f64 {
        match self {
            Self::Rows => rows as f64,
            Self::Count { count } => aggregate[count],
            Self::Sum { count, .. } | Self::Average { count, .. } if aggregate[count] == 0.0 => f64::NAN,
            Self::Sum { sum, .. } => aggregate[sum],
            Self::Average { count, sum } => aggregate[sum] / aggregate[count],
            Self::Extreme { at } if aggregate[at].is_infinite() => f64::NAN,
            Self::Extreme { at } => aggregate[at],
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

    #[test]
    fn merging_in_any_split_equals_appending_and_nulls_do_not_count() {
        let cells = [Cell::Count(0), Cell::Sum(0), Cell::Min(0), Cell::Max(0), Cell::Moments(0)];
        let values = [3.0, f64::NAN, 1.0, 4.0, 1.5, f64::NAN];
        let fold = |values: &[f64]| {
            let mut out = vec![f64::NAN; 7];
            identity(&cells, &mut out);
            values.iter().for_each(|x| append(&cells, &mut out, |_| *x));
            out
        };
        let whole = fold(&values);
        assert_eq!(whole[..4], [4.0, 9.5, 1.0, 4.0]);
        assert!((Reading::Variance { moments: 4, sample: false }.of(&whole, 6) - 1.421_875).abs() < 1e-12);
        for split in 0..=values.len() {
            let mut left = fold(&values[..split]);
            merge(&cells, &mut left, &fold(&values[split..]));
            for (a, b) in left.iter().zip(&whole) {
                assert!((a - b).abs() < 1e-12, "split at {split}: {left:?} is not {whole:?}");
            }
        }
        let nothing = fold(&[f64::NAN]);
        assert!(Reading::Sum { count: 0, sum: 1 }.of(&nothing, 1).is_nan());
        assert!(Reading::Extreme { at: 2 }.of(&nothing, 1).is_nan());
        assert!(Reading::Deviation { moments: 4, sample: false }.of(&nothing, 1).is_nan());
        assert!(Reading::Deviation { moments: 4, sample: true }.of(&fold(&[1.0]), 1).is_nan());
        assert_eq!(Reading::Rows.of(&nothing, 1), 1.0);
    }
}
