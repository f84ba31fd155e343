//! Extra trees by smartcore: a regression on 0 and 1, whose mean leaf is the share of anomalies (its classifier votes hard).

use serde_json::Value;
use smartcore::ensemble::extra_trees_regressor::{ExtraTreesRegressor, ExtraTreesRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::design::Design;
use super::{RefitError, Rows};
use crate::model::{Branch, TreeInput, Trees};

const TREES: usize = 100;
const DEPTH_MAX: u16 = 10;
/// Rows of a fit: the newest.
const ROWS_MAX: usize = 20_000;

pub(super) fn fit(rows: &Rows<'_>, seed: u64) -> Result<Trees, RefitError> {
    let failed = |error: String| RefitError::Failed(error);
    let design = Design::by_category(rows);
    let examples: Vec<_> = rows.all().collect();
    let examples = &examples[examples.len().saturating_sub(ROWS_MAX)..];
    // A missing number is an ordinary one.
    let means: Vec<f64> = (0..design.width() - design.buckets.len())
        .map(|place| {
            let there = examples.iter().map(|(x, _)| x.values[place]).filter(|x| !x.is_nan());
            let (sum, count) = there.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
            if count > 0.0 { sum / count } else { 0.0 }
        })
        .collect();
    let read = |place: usize, x: f64| if x.is_nan() { means[place] } else { x };
    let x = design.matrix(examples.iter().map(|(x, _)| *x), read);
    let (height, width) = x.dim();
    let x = DenseMatrix::new(height, width, x.into_raw_vec_and_offset().0, false)
        .map_err(|error| failed(error.to_string()))?;
    let y: Vec<f64> = examples.iter().map(|(_, y)| f64::from(u8::from(*y > 0.0))).collect();
    let parameters = ExtraTreesRegressorParameters::default()
        .with_n_trees(TREES)
        .with_max_depth(DEPTH_MAX)
        .with_m(((width as f64).sqrt().round() as usize).max(1))
        .with_seed(seed);
    let forest = ExtraTreesRegressor::fit(&x, &y, parameters).map_err(|error| failed(error.to_string()))?;
    // Its trees are private; what it writes of itself is not.
    let written = serde_json::to_value(&forest).map_err(|error| failed(error.to_string()))?;
    let trees = written["forest_regressor"]["trees"].as_array().map_or(&[][..], Vec::as_slice);
    let grown: Option<Vec<Branch>> = trees.iter().map(|tree| branch(&tree["nodes"], 0, width)).collect();
    let grown = grown.filter(|grown| grown.len() == TREES);
    let grown = grown.ok_or_else(|| failed("the trees are not written as they were in smartcore 0.7".into()))?;
    let numbers = means.into_iter().enumerate().map(|(place, missing)| TreeInput::Number { place, missing });
    let buckets = design.buckets.iter().map(|&(place, bucket)| {
        TreeInput::Bucket { place: place.expect("the design tells categories apart"), bucket }
    });
    Ok(Trees::new(numbers.chain(buckets).collect(), &grown))
}

/// The node at this place, with all below it.
fn branch(nodes: &Value, at: usize, width: usize) -> Option<Branch> {
    let node = nodes.get(at)?;
    let child = |name: &str| node[name].as_u64().and_then(|at| usize::try_from(at).ok());
    Some(match (child("true_child"), child("false_child")) {
        (Some(below), Some(above)) => Branch::Split {
            input: child("split_feature").filter(|input| *input < width)?,
            threshold: node["split_value"].as_f64()?,
            below: Box::new(branch(nodes, below, width)?),
            above: Box::new(branch(nodes, above, width)?),
        },
        _ => Branch::Leaf(node["output"].as_f64()?),
    })
}
