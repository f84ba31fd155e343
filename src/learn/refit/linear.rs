//! The linear models by linfa: linfa-logistic, linfa-linear (Tweedie with power 0 is least squares with an L2 penalty) and linfa-svm.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_linear::TweedieRegressor;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2};

use super::design::Design;
use super::kernel::{self, ROWS_MAX};
use super::{RefitError, Rows};
use crate::model::{Linear, Loss};

/// |w|^2 / 2 weighs so much beside the sum of the losses: the usual start of scikit-learn (C = 1) as well.
const L2: f64 = 1.0;
const ITERATIONS_MAX: u64 = 500;

pub(super) fn fit(model: &Linear, rows: Rows<'_>) -> Result<Linear, RefitError> {
    let design = Design::hashed(&rows);
    let hinge = model.loss() == Loss::Hinge;
    let rows = rows.at_most(if hinge { design.rows_max().min(ROWS_MAX) } else { design.rows_max() });
    let examples: Vec<_> = rows.all().collect();
    let x = design.matrix(examples.iter().map(|(x, _)| *x), |place, x| model.scaled(place, x));
    let y: Vec<f64> = examples.iter().map(|(_, y)| *y).collect();
    let (weights, bias) = match model.loss() {
        Loss::Logistic => logistic(x, &y)?,
        Loss::Squared => squared(x, y)?,
        Loss::Hinge => kernel::linear(x, &y)?,
    };
    if !(bias.is_finite() && weights.iter().all(|weight| weight.is_finite())) {
        return Err(RefitError::Failed("a weight is not finite".into()));
    }
    let weights = model.places(&design.buckets).chain([model.bias_place()]).zip(weights.into_iter().chain([bias]));
    Ok(model.refitted(weights, examples.into_iter()))
}

/// The weights and the bias.
type Weights = (Vec<f64>, f64);

fn failed(error: impl std::fmt::Display) -> RefitError {
    RefitError::Failed(error.to_string())
}

fn logistic(x: Array2<f64>, y: &[f64]) -> Result<Weights, RefitError> {
    let classes: Array1<bool> = y.iter().map(|y| *y > 0.0).collect();
    let fitted = LogisticRegression::default()
        .alpha(L2)
        .max_iterations(ITERATIONS_MAX)
        .gradient_tolerance(1e-6)
        .fit(&Dataset::new(x, classes))
        .map_err(failed)?;
    // It takes the class that it meets more of for the positive one, or the first; it says which.
    let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
    Ok((fitted.params().iter().map(|weight| sign * weight).collect(), sign * fitted.intercept()))
}

fn squared(x: Array2<f64>, y: Vec<f64>) -> Result<Weights, RefitError> {
    // Its penalty stands beside the mean of the losses.
    let alpha = L2 / y.len() as f64;
    let fitted = TweedieRegressor::params()
        .power(0.0)
        .alpha(alpha)
        .max_iter(ITERATIONS_MAX as usize)
        .tol(1e-8)
        .fit(&Dataset::new(x, Array1::from(y)))
        .map_err(failed)?;
    Ok((fitted.coef.to_vec(), fitted.intercept))
}
