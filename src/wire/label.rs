//! A verdict as JSON: the body of a label on its topic, and the label of a prediction.

use crate::model::Label;
use serde::{Deserialize, Serialize};

/// `anomaly` or `normal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Anomaly,
    Normal,
}

impl From<Verdict> for Label {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Anomaly => Self::Anomaly,
            Verdict::Normal => Self::Normal,
        }
    }
}

impl From<Label> for Verdict {
    fn from(label: Label) -> Self {
        match label {
            Label::Anomaly => Self::Anomaly,
            Label::Normal => Self::Normal,
        }
    }
}

/// One verdict on one event: the record of the labels topic, whose key is the event id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelRecord {
    pub event_id: String,
    pub label: Verdict,
    /// Who says so: a person or a system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was said, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}
