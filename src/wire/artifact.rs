//! A fitted model as JSON: what `export` answers, what the golden files in `models/` hold, and what travels in the label log, in chunks.

use super::prediction::Names;
use crate::features::ColumnKind;
use crate::learn::Fitted;
use crate::model::{Description, Platt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Grows when the shape of the file changes.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArtifactJson {
    /// The format's number.
    larum_model: u32,
    /// As in the configuration.
    kind: String,
    /// The query's columns: numbers and categories stand in their order.
    numbers: Vec<String>,
    categories: Vec<String>,
    /// P(anomaly) = 1 / (1 + exp(-(slope f(x) + offset))).
    slope: f64,
    offset: f64,
    /// How sure these are, as (co)variances of the slope, of both and of the offset: they go on from there.
    covariance: [f64; 3],
    model: Value,
}

/// The model as JSON. None while it is not fitted.
#[must_use]
pub fn artifact_to_json(names: &Names, kind: &str, fitted: &Fitted) -> Option<Vec<u8>> {
    let of = |kind| names.columns.iter().filter(move |column| column.kind == kind).map(|column| column.name.clone());
    let (slope, offset, covariance) = fitted.calibration.parameters();
    let model = serde_json::to_value(Description::of(&fitted.form)?).ok()?;
    let (numbers, categories) = (of(ColumnKind::Number).collect(), of(ColumnKind::Category).collect());
    let artifact =
        ArtifactJson { larum_model: FORMAT, kind: kind.into(), numbers, categories, slope, offset, covariance, model };
    Some(serde_json::to_vec(&artifact).expect("names and numbers: writing them to memory cannot fail"))
}

/// The model again, and its kind.
///
/// # Errors
/// When it is no model, or one of other columns than those in force.
pub fn artifact_from_json(names: &Names, json: &[u8]) -> Result<(String, Fitted), String> {
    let artifact: ArtifactJson = serde_json::from_slice(json).map_err(|error| format!("it is no model: {error}"))?;
    if artifact.larum_model != FORMAT {
        return Err(format!("its format is {}, and this larum reads {FORMAT}", artifact.larum_model));
    }
    let of = |kind| names.columns.iter().filter(move |column| column.kind == kind).map(|column| &*column.name);
    if !of(ColumnKind::Number).eq(artifact.numbers.iter()) || !of(ColumnKind::Category).eq(artifact.categories.iter()) {
        let theirs: Vec<&str> = artifact.numbers.iter().chain(&artifact.categories).map(String::as_str).collect();
        let ours: Vec<&str> = names.columns.iter().map(|column| column.name.as_str()).collect();
        return Err(format!(
            "it was fitted to other features ({}) than those of the query ({})",
            theirs.join(", "),
            ours.join(", ")
        ));
    }
    let model: Description = serde_json::from_value(artifact.model).map_err(|error| format!("its model: {error}"))?;
    let calibration = Platt::of_parameters(artifact.slope, artifact.offset, artifact.covariance)
        .ok_or("its calibration is not possible")?;
    let form = model.form()?;
    if !form.reads(artifact.numbers.len(), artifact.categories.len()) {
        return Err("its model reads other columns than it names".into());
    }
    Ok((artifact.kind, Fitted { form, calibration }))
}
