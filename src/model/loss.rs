//! The losses of the linear models that learn from labels. All that tells `logistic_regression`, a linear `svm` and `linear_regression` on the
//! label apart is here.

use serde::{Deserialize, Serialize};

/// A loss of the margin m = y f(x), with y = +1 for an anomaly and -1 for a normal event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// ln(1 + exp(-m))
    Logistic,
    /// max(0, 1 - m)
    Hinge,
    /// (1 - m)^2 / 2, which is (y - f(x))^2 / 2 for y = +1 or -1
    Squared,
}

impl Loss {
    /// -d loss / d m: how hard an example at margin `m` pushes. From 0 to 1, but for the squared loss: that pulls back what is beyond 1.
    pub(crate) fn push(self, m: f64) -> f64 {
        match self {
            Loss::Logistic => sigmoid(-m),
            Loss::Hinge => f64::from(u8::from(m < 1.0)),
            Loss::Squared => 1.0 - m,
        }
    }

    /// The margin after a step of size `u`, as if it were taken in infinitely many infinitely small ones: the solution of
    /// dm/du = push(m). It never overshoots, and an importance of 2 is the same as coming twice (Karampatziakis and Langford,
    /// Online importance weight aware updates, 2011, table 1).
    pub(crate) fn after(self, m: f64, u: f64) -> f64 {
        match self {
            // The solution m' of m' + exp(m') = m + exp(m) + u.
            Loss::Logistic => {
                // Beyond this margin the push is below 1e-13, and exp(m) would swallow u.
                if m > 30.0 {
                    return m;
                }
                let sum = m + libm::exp(m) + u;
                // Newton from above: the function is convex and increasing, so no step overshoots below the root.
                let mut x = if sum > 1.0 { libm::log(sum) } else { sum };
                for _ in 0..50 {
                    let e = libm::exp(x);
                    let step = (x + e - sum) / (1.0 + e);
                    x -= step;
                    if step.abs() < 1e-12 * (1.0 + x.abs()) {
                        break;
                    }
                }
                x.max(m)
            }
            Loss::Hinge => m.max((m + u).min(1.0)),
            Loss::Squared => 1.0 - (1.0 - m) * libm::exp(-u),
        }
    }
}

/// 1 / (1 + exp(-x)), without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Loss {
        /// The loss at margin `m`.
        pub(crate) fn of(self, m: f64) -> f64 {
            match self {
                Loss::Logistic => libm::log1p(libm::exp(-m.abs())) + (-m).max(0.0),
                Loss::Hinge => (1.0 - m).max(0.0),
                Loss::Squared => 0.5 * (1.0 - m) * (1.0 - m),
            }
        }
    }

    const LOSSES: [Loss; 3] = [Loss::Logistic, Loss::Hinge, Loss::Squared];

    #[test]
    fn the_push_is_the_slope_of_the_loss() {
        for loss in LOSSES {
            for m in [-20.0, -3.0, -0.1, 0.0, 0.7, 1.3, 5.0, 25.0] {
                let slope = (loss.of(m + 1e-6) - loss.of(m - 1e-6)) / 2e-6;
                assert!((loss.push(m) + slope).abs() < 1e-5, "{loss:?} at {m}: {} and {slope}", loss.push(m));
            }
        }
    }

    #[test]
    fn one_large_step_is_many_small_ones() {
        for loss in LOSSES {
            for (start, u) in [(-50.0, 3.0), (-2.0, 0.5), (0.0, 1e-6), (0.3, 20.0), (-1.0, 1e3), (6.0, 2.0)] {
                let halves = loss.after(loss.after(start, u / 2.0), u / 2.0);
                assert!((loss.after(start, u) - halves).abs() < 1e-9, "{loss:?} from {start} by {u}");
                let steps = 100_000;
                let euler = (0..steps).fold(start, |m, _| m + loss.push(m) * u / f64::from(steps));
                assert!(
                    (loss.after(start, u) - euler).abs() < 0.06 * (1.0 + start.abs()),
                    "{loss:?} from {start} by {u}: {euler}"
                );
            }
        }
    }
}
