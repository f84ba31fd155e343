//! Support vector machines by linfa-svm, whose kernel matrix is dense: the rows are bounded.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_svm::{Svm, SvmParams};
use ndarray::{Array1, Array2};

use super::design::Design;
use super::{RefitError, Rows};
use crate::model::{KernelMachine, Shape};

/// Rows of a fit: its kernel matrix takes 72 MB.
pub(super) const ROWS_MAX: usize = 3_000;
/// What one label may push in a linear fit.
const C: f64 = 1.0;

pub(super) fn fit(model: &KernelMachine, rows: Rows<'_>) -> Result<KernelMachine, RefitError> {
    let rows = rows.at_most(ROWS_MAX);
    let design = Design::by_category(&rows);
    let examples: Vec<_> = rows.all().collect();
    let machine = model.refitted(std::iter::empty(), 0.0);
    let (settings, gamma) = (*machine.settings(), machine.gamma());
    // (gamma x z + 1)^d has no gamma in linfa: it goes into the rows.
    let scale = match settings.shape {
        Shape::Rbf => 1.0,
        Shape::Poly { .. } => gamma.sqrt(),
    };
    let mut x = design.matrix(examples.iter().map(|(x, _)| *x), |place, x| machine.scaled(place, x));
    x.mapv_inplace(|x| x * scale);
    let params = Svm::<f64, bool>::params().pos_neg_weights(settings.c, settings.c).eps(1e-3);
    let params = match settings.shape {
        Shape::Rbf => params.gaussian_kernel(1.0 / gamma),
        Shape::Poly { degree } => params.polynomial_kernel(1.0, f64::from(degree)),
    };
    let y: Vec<f64> = examples.iter().map(|(_, y)| *y).collect();
    let (alphas, offset) = solved(params, x, &y)?;
    let mut fitted: Vec<_> = examples.iter().map(|(x, _)| *x).zip(alphas).filter(|(_, alpha)| *alpha != 0.0).collect();
    // The strongest first: beyond the budget the weakest are merged into them.
    fitted.sort_by(|(_, a), (_, b)| b.abs().total_cmp(&a.abs()));
    Ok(model.refitted(fitted.into_iter(), offset))
}

/// The weights and the bias of a linear machine.
pub(super) fn linear(x: Array2<f64>, y: &[f64]) -> Result<(Vec<f64>, f64), RefitError> {
    let params = Svm::<f64, bool>::params().pos_neg_weights(C, C).eps(1e-3).linear_kernel();
    let rows = x.clone();
    let (alphas, bias) = solved(params, x, y)?;
    let mut weights = vec![0.0; rows.ncols()];
    for (row, alpha) in rows.outer_iter().zip(alphas) {
        weights.iter_mut().zip(row).for_each(|(weight, x)| *weight += alpha * x);
    }
    Ok((weights, bias))
}

/// y alpha of each row, and the bias.
fn solved(params: SvmParams<f64, bool>, x: Array2<f64>, y: &[f64]) -> Result<(Vec<f64>, f64), RefitError> {
    let classes: Array1<bool> = y.iter().map(|y| *y > 0.0).collect();
    let fitted = params.fit(&Dataset::new(x, classes)).map_err(|error| RefitError::Failed(error.to_string()))?;
    if !(fitted.rho.is_finite() && fitted.alpha.iter().all(|alpha| alpha.is_finite())) {
        return Err(RefitError::Failed("the machine has a support vector that is not finite".into()));
    }
    Ok((fitted.alpha, -fitted.rho))
}
