//! A form as plain values that can be written down and read again: what an export, a promotion and a golden file hold.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::encode::{BUCKET_MISSING, BUCKETS, Encoded};
use super::kernel::{KernelMachine, KernelSettings, SupportVector};
use super::learner::Form;
use super::linear::Linear;
use super::loss::Loss;
use super::moments::Moments;
use super::trees::{Branch, TreeInput, Trees};

/// The scaling of one number: events seen, their mean and variance.
type Scale = (f64, f64, f64);

/// A form, in values. Numbers and categories stand in the order of the query's columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case", deny_unknown_fields)]
pub enum Description {
    /// f(x) = sum of weight times scaled number, plus the weight of each category's bucket, plus the bias.
    Linear {
        loss: Loss,
        scaling: Vec<Scale>,
        weights: Vec<f64>,
        #[serde(deserialize_with = "by_bucket")]
        bucket_weights: BTreeMap<u32, f64>,
        bias: f64,
        /// How hard examples have pushed each of these: what the next step of a weight is divided by.
        squares: Vec<f64>,
        #[serde(deserialize_with = "by_bucket")]
        bucket_squares: BTreeMap<u32, f64>,
        bias_square: f64,
        categories: bool,
    },
    /// f(x) = offset + sum of coefficient times (K(x_i, x) + 1).
    Kernel {
        #[serde(flatten)]
        settings: KernelSettings,
        scaling: Vec<Scale>,
        offset: f64,
        categories: usize,
        support_vectors: Vec<VectorDescription>,
    },
    /// The mean leaf, a share of anomalies; f(x) is its log odds.
    Trees { inputs: Vec<TreeInput>, trees: Vec<Branch> },
}

/// One support vector: its values as they came, null where one was missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorDescription {
    pub values: Vec<Option<f64>>,
    pub buckets: Vec<Option<u32>>,
    /// y alpha: positive for an anomaly.
    pub coefficient: f64,
    /// The most that its label may push.
    pub bound: f64,
}

/// Keys of a JSON object are texts, which serde does not read as numbers inside a tagged enum.
fn by_bucket<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u32, f64>, D::Error> {
    let by_text = BTreeMap::<String, f64>::deserialize(deserializer)?;
    by_text.into_iter().map(|(bucket, value)| Ok((bucket.parse().map_err(D::Error::custom)?, value))).collect()
}

impl Description {
    /// None for a form that is not fitted yet.
    #[must_use]
    pub fn of(form: &Form) -> Option<Self> {
        Some(match form {
            Form::Linear(model) => {
                let numbers = model.scaling().len();
                let split = |all: &[f64]| {
                    let buckets = all[numbers..all.len() - 1].iter().enumerate().filter(|(_, value)| **value != 0.0);
                    let buckets = buckets.map(|(bucket, value)| (bucket as u32, *value)).collect();
                    (all[..numbers].to_vec(), buckets, all[all.len() - 1])
                };
                let (weights, bucket_weights, bias) = split(model.weights());
                let (squares, bucket_squares, bias_square) = split(model.squares());
                let scaling = scales(model.scaling());
                let categories = model.weights().len() > numbers + 1;
                let loss = model.loss();
                Self::Linear {
                    loss,
                    scaling,
                    weights,
                    bucket_weights,
                    bias,
                    squares,
                    bucket_squares,
                    bias_square,
                    categories,
                }
            }
            Form::Kernel(machine) => Self::Kernel {
                settings: *machine.settings(),
                scaling: scales(machine.scaling()),
                offset: machine.offset(),
                categories: machine.categories(),
                support_vectors: machine.vectors().map(VectorDescription::of).collect(),
            },
            Form::Trees(Some(trees)) => {
                let (inputs, trees) = trees.parts();
                Self::Trees { inputs: inputs.to_vec(), trees }
            }
            Form::Trees(None) => return None,
        })
    }

    /// The form again.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence: it may come from a file.
    pub fn form(self) -> Result<Form, String> {
        Ok(match self {
            Self::Linear {
                loss,
                scaling,
                weights,
                bucket_weights,
                bias,
                squares,
                bucket_squares,
                bias_square,
                categories,
            } => {
                let buckets = if categories { BUCKETS as usize } else { 0 };
                let whole = |numbers: Vec<f64>, of_buckets: &BTreeMap<u32, f64>, last: f64| {
                    let mut all = numbers;
                    let mut tail = vec![0.0; buckets];
                    for (bucket, value) in of_buckets {
                        *tail.get_mut(*bucket as usize).ok_or(format!("there is no bucket {bucket}"))? = *value;
                    }
                    all.extend(tail);
                    all.push(last);
                    Ok::<_, String>(all)
                };
                if weights.len() != scaling.len() || squares.len() != scaling.len() {
                    return Err("it does not have one weight, one square and one scaling for each number".into());
                }
                let weights = whole(weights, &bucket_weights, bias)?;
                let squares = whole(squares, &bucket_squares, bias_square)?;
                if !(squares.iter().all(|square| (0.0..f64::INFINITY).contains(square))) {
                    return Err("a square is not a number of at least 0".into());
                }
                Form::Linear(Linear::of(loss, moments(&scaling)?, finite(weights)?, squares))
            }
            Self::Kernel { settings, scaling, offset, categories, support_vectors } => {
                let numbers = scaling.len();
                let vectors: Vec<SupportVector> =
                    support_vectors.into_iter().map(|v| v.vector(numbers, categories)).collect::<Result<_, _>>()?;
                if vectors.len() > settings.support_vectors_max {
                    return Err("it has more support vectors than it may".into());
                }
                if !(offset.is_finite() && settings.are_valid()) {
                    return Err("its settings or its offset are not possible".into());
                }
                let machine = KernelMachine::of(settings, moments(&scaling)?, categories, offset, vectors);
                Form::Kernel(Box::new(machine))
            }
            Self::Trees { inputs, trees } => {
                if trees.is_empty() || !trees.iter().all(|tree| tree.reads_only(inputs.len())) {
                    return Err("it has no trees, or one reads an input that is not there".into());
                }
                Form::Trees(Some(Trees::new(inputs, &trees)))
            }
        })
    }
}

impl VectorDescription {
    fn of(vector: SupportVector) -> Self {
        let SupportVector { encoded, coefficient, bound } = vector;
        Self {
            values: encoded.values.iter().map(|x| Some(*x).filter(|x| !x.is_nan())).collect(),
            buckets: encoded.buckets.iter().map(|bucket| Some(*bucket).filter(|b| *b != BUCKET_MISSING)).collect(),
            coefficient,
            bound,
        }
    }

    fn vector(self, numbers: usize, categories: usize) -> Result<SupportVector, String> {
        if self.values.len() != numbers || self.buckets.len() != categories {
            return Err("a support vector does not have one value for each column".into());
        }
        if !(self.coefficient.is_finite() && (0.0..f64::INFINITY).contains(&self.bound)) {
            return Err("a coefficient or a bound is not possible".into());
        }
        let values = self.values.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect();
        let buckets = self.buckets.into_iter().map(|bucket| bucket.unwrap_or(BUCKET_MISSING)).collect();
        let encoded = Encoded { values, buckets };
        Ok(SupportVector { encoded, coefficient: self.coefficient, bound: self.bound })
    }
}

fn scales(scaling: &[Moments]) -> Vec<Scale> {
    scaling.iter().map(|scale| (scale.seen, scale.mean, scale.variance)).collect()
}

fn moments(scaling: &[Scale]) -> Result<Vec<Moments>, String> {
    let moments = |&(seen, mean, variance): &Scale| {
        let possible =
            (0.0..f64::INFINITY).contains(&seen) && mean.is_finite() && (0.0..f64::INFINITY).contains(&variance);
        possible.then_some(Moments { seen, mean, variance }).ok_or_else(|| "a scaling is not possible".to_owned())
    };
    scaling.iter().map(moments).collect()
}

fn finite(values: Vec<f64>) -> Result<Vec<f64>, String> {
    if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err("a weight is not finite".into()) }
}
