//! Extra trees by smartcore: a regression on 0 and 1, whose mean leaf is the share of anomalies (its classifier votes hard).

use ndarray::Array2;
use serde_json::Value;
use smartcore::ensemble::extra_trees_regressor::{ExtraTreesRegressor, ExtraTreesRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::design::Design;
use super::{RefitError, Rows};
use crate::draw::{Draw, Purpose};
use crate::model::{Branch, Encoded, Label, TreeInput, Trees, compressed, expanded};

const TREES: usize = 100;
/// With 8, active labelling found 4 to 7 % fewer of the anomalies of mammography and electricity; without a limit it found as many, and a walk takes longer.
const DEPTH_MAX: u16 = 12;
/// Labelled rows of a fit: the newest.
const ROWS_MAX: usize = 20_000;
/// Unlabelled rows that one tree takes for normals. Each tree draws its own: it finds what it was grown on ordinary, and with the same rows for all, an anomaly
/// among them would never be found (48 anomalies of ann_thyroid instead of 70). 64 to 256 do as well, 1,000 worse on two of four sets.
const UNLABELLED: usize = 256;

pub(super) fn fit(rows: &Rows<'_>, seed: u64) -> Result<Trees, RefitError> {
    let design = Design::by_category(rows);
    let labelled = &rows.labelled[rows.labelled.len().saturating_sub(ROWS_MAX)..];
    let scales: Vec<Scale> = (0..design.width() - design.buckets.len())
        .map(|place| Scale::of(labelled.iter().map(|(x, _)| x.values[place])))
        .collect();
    let draw = Draw::new(seed);
    let mut grown = Vec::with_capacity(TREES);
    for tree in 0..TREES as u64 {
        let mut examples: Vec<&Encoded> = labelled.iter().map(|(x, _)| *x).collect();
        let count = rows.unlabelled.len().min(UNLABELLED) as u64;
        examples.extend((0..count).map(|i| {
            let drawn = draw.bits(Purpose::Bootstrap, tree * UNLABELLED as u64 + i) % rows.unlabelled.len() as u64;
            &*rows.unlabelled[drawn as usize]
        }));
        let targets: Vec<f64> = (labelled.iter().map(|(_, label)| f64::from(u8::from(*label == Label::Anomaly))))
            .chain(std::iter::repeat_n(0.0, count as usize))
            .collect();
        let weights: Vec<f64> = std::iter::repeat_n(1.0, labelled.len())
            .chain(std::iter::repeat_n(rows.unlabelled_weight, count as usize))
            .collect();
        let x = design.matrix(examples.into_iter(), |place, x| scales[place].scaled(x));
        let mut tree = grow(x, &targets, &weights, draw.bits(Purpose::Tree, tree))?;
        unscale(&mut tree, &scales);
        grown.push(tree);
    }
    let numbers = scales.iter().enumerate().map(|(place, scale)| TreeInput::Number { place, missing: scale.mean });
    let buckets = design.buckets.iter().map(|&(place, bucket)| {
        let place = place.expect("the design tells categories apart");
        TreeInput::Bucket { place, bucket }
    });
    Ok(Trees::new(numbers.chain(buckets).collect(), &grown))
}

/// Trees cut between the least and the largest value: where a tail is heavy, nearly all cuts would fall into it. So they are grown on compressed deviations, and
/// their thresholds are put back on the scale of the values.
#[derive(Debug, Clone, Copy)]
struct Scale {
    mean: f64,
    deviation: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let there = || values.clone().filter(|x| !x.is_nan());
        let count = (there().count() as f64).max(1.0);
        let mean = there().sum::<f64>() / count;
        let variance = there().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        Self { mean, deviation: variance.sqrt() }
    }

    /// A missing number is an ordinary one.
    fn scaled(self, x: f64) -> f64 {
        if x.is_nan() || self.deviation == 0.0 { 0.0 } else { compressed((x - self.mean) / self.deviation) }
    }

    fn unscaled(self, z: f64) -> f64 {
        self.mean + self.deviation * expanded(z)
    }
}

fn unscale(branch: &mut Branch, scales: &[Scale]) {
    if let Branch::Split { input, threshold, below, above } = branch {
        if let Some(scale) = scales.get(*input) {
            *threshold = scale.unscaled(*threshold);
        }
        unscale(below, scales);
        unscale(above, scales);
    }
}

fn grow(x: Array2<f64>, targets: &Vec<f64>, weights: &[f64], seed: u64) -> Result<Branch, RefitError> {
    let failed = |error: String| RefitError::Failed(error);
    let (height, width) = x.dim();
    let x = DenseMatrix::new(height, width, x.into_raw_vec_and_offset().0, false)
        .map_err(|error| failed(error.to_string()))?;
    let parameters = ExtraTreesRegressorParameters::default()
        .with_n_trees(1)
        .with_max_depth(DEPTH_MAX)
        .with_m(((width as f64).sqrt().round() as usize).max(1))
        .with_seed(seed);
    let forest = ExtraTreesRegressor::fit_with_weights(&x, targets, weights, parameters)
        .map_err(|error| failed(error.to_string()))?;
    // Its trees are private; what it writes of itself is not.
    let written = serde_json::to_value(&forest).map_err(|error| failed(error.to_string()))?;
    branch(&written["forest_regressor"]["trees"][0]["nodes"], 0, width)
        .ok_or_else(|| failed("the trees are not written as they were in smartcore 0.7".into()))
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
