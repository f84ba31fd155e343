//! The records of the label log. Features go by name, so that an edited query still reads an old log.

use super::label::Verdict;
use super::prediction::{Names, features};
use crate::features::{ColumnKind, FeatureVector};
use crate::learn::{Entry, EventKey, LabelEntry, LabelSource};
use crate::model::Label;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Written<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(flatten)]
    at: At<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    #[serde(serialize_with = "features")]
    features: (&'a Names, &'a FeatureVector),
    /// By model, as the event was scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    surprises: Option<BTreeMap<&'a str, f64>>,
}

/// Where the event stands: on its topic, or in the upload that brought it.
#[derive(Serialize)]
#[serde(untagged)]
enum At<'a> {
    Topic { topic: &'a str, partition: i32, offset: i64 },
    Upload { upload: &'a str, row: i64 },
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    event_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    topic: Option<Cow<'a, str>>,
    partition: Option<i32>,
    offset: Option<i64>,
    #[serde(borrow, default)]
    upload: Option<Cow<'a, str>>,
    row: Option<i64>,
    label: Option<Verdict>,
    source: Option<Source>,
    #[serde(borrow)]
    features: BTreeMap<Cow<'a, str>, Feature<'a>>,
    #[serde(borrow, default)]
    surprises: BTreeMap<Cow<'a, str>, f64>,
}

/// Where the verdict stands on the labels topic.
#[derive(Serialize, Deserialize)]
struct Source {
    partition: i32,
    offset: i64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Feature<'a> {
    Number(f64),
    Category(#[serde(borrow)] Cow<'a, str>),
    Missing(()),
}

fn write(written: &Written<'_>) -> Vec<u8> {
    serde_json::to_vec(written).expect("names and numbers: writing them to memory cannot fail")
}

/// A joined label as a record of the label log.
#[must_use]
pub fn label_to_label_log(names: &Names, entry: &LabelEntry) -> Vec<u8> {
    write(&Written {
        kind: "label",
        event_id: Some(&entry.event_id),
        at: At::Topic { topic: &entry.event.topic, partition: entry.event.partition, offset: entry.event.offset },
        label: Some(entry.label.into()),
        source: Some(Source { partition: entry.source.partition, offset: entry.source.offset }),
        features: (names, &entry.features),
        surprises: Some(names.models.iter().map(String::as_str).zip(entry.surprises.iter().copied()).collect()),
    })
}

/// A background sample as a record of the label log.
#[must_use]
pub fn background_to_label_log(
    names: &Names,
    topic: &str,
    partition: i32,
    offset: i64,
    sample: &FeatureVector,
) -> Vec<u8> {
    write(&Written {
        kind: "background",
        event_id: None,
        at: At::Topic { topic, partition, offset },
        label: None,
        source: None,
        features: (names, sample),
        surprises: None,
    })
}

/// A labelled event of an upload as a record of the label log.
#[must_use]
pub fn example_to_label_log(names: &Names, upload: &str, row: i64, label: Label, example: &FeatureVector) -> Vec<u8> {
    write(&Written {
        kind: "example",
        event_id: None,
        at: At::Upload { upload, row },
        label: Some(label.into()),
        source: None,
        features: (names, example),
        surprises: None,
    })
}

/// The upload and the row of an example, if the record is one: for those who look through a log without learning it.
#[must_use]
pub fn example_in_label_log(bytes: &[u8]) -> Option<(Cow<'_, str>, i64)> {
    #[derive(Deserialize)]
    struct Example<'a> {
        #[serde(borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        upload: Cow<'a, str>,
        row: i64,
    }
    let read: Example<'_> = serde_json::from_slice(bytes).ok()?;
    (read.kind == "example").then_some((read.upload, read.row))
}

/// Reads a record of the label log against the columns in force.
///
/// # Errors
/// When it is no record of the label log; it then teaches nothing, on every instance alike.
pub fn from_label_log(names: &Names, bytes: &[u8]) -> Result<Entry, String> {
    let read: Read<'_> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let mut vector = FeatureVector::default();
    let (mut numbers, mut categories) = (Vec::new(), Vec::new());
    for column in &names.columns {
        let value = read.features.get(column.name.as_str());
        match column.kind {
            ColumnKind::Number => numbers.push(if let Some(Feature::Number(x)) = value { *x } else { f64::NAN }),
            ColumnKind::Category => {
                categories.push(if let Some(Feature::Category(text)) = value {
                    Some(text.as_ref().into())
                } else {
                    None
                });
            }
        }
    }
    vector.numbers = numbers.into();
    vector.categories = categories.into();
    let event = match (read.topic, read.partition, read.offset) {
        (Some(topic), Some(partition), Some(offset)) => {
            Ok(EventKey { topic: topic.as_ref().into(), partition, offset })
        }
        _ => Err("an event needs topic, partition and offset"),
    };
    match read.kind.as_ref() {
        "background" => Ok(Entry::Background { event: event?, features: vector }),
        "example" => {
            let (Some(upload), Some(row), Some(label)) = (read.upload, read.row, read.label) else {
                return Err("an example needs upload, row and label".into());
            };
            Ok(Entry::Example { upload: upload.as_ref().into(), row, label: label.into(), features: vector })
        }
        "label" => {
            let (Some(label), Some(source), Some(event_id)) = (read.label, read.source, read.event_id) else {
                return Err("a label needs event_id, label and source".into());
            };
            Ok(Entry::Label(LabelEntry {
                source: LabelSource { partition: source.partition, offset: source.offset },
                event: event?,
                event_id: event_id.into_owned(),
                label: Label::from(label),
                features: vector,
                // A model that was not there when the event was scored has not spoken.
                surprises: names
                    .models
                    .iter()
                    .map(|name| read.surprises.get(name.as_str()).copied().unwrap_or(0.0))
                    .collect(),
            }))
        }
        other => Err(format!("unknown kind {other:?}: it was written by a newer version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Column;

    fn names() -> Names {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        Names {
            columns: vec![column("x", ColumnKind::Number), column("region", ColumnKind::Category)],
            models: vec!["m".into()],
        }
    }

    fn entry(x: f64) -> LabelEntry {
        LabelEntry {
            source: LabelSource { partition: 0, offset: 7 },
            event: EventKey { topic: "t".into(), partition: 3, offset: 9 },
            event_id: "quoted \" id".into(),
            label: Label::Anomaly,
            features: FeatureVector { numbers: [x].into(), categories: [Some("eu".into())].into() },
            surprises: vec![0.1 + x.abs().min(1.0)],
        }
    }

    #[test]
    fn a_label_comes_back_bit_for_bit() {
        for x in [0.1 + 0.2, 1e-308, -0.0, 9_007_199_254_740_993.0, 5e-324] {
            let entry = entry(x);
            let Ok(Entry::Label(back)) = from_label_log(&names(), &label_to_label_log(&names(), &entry)) else {
                panic!("a label")
            };
            assert_eq!(back.features.numbers[0].to_bits(), x.to_bits());
            assert_eq!(back, entry);
        }
    }

    #[test]
    fn an_example_comes_back_bit_for_bit() {
        for x in [0.1 + 0.2, 1e-308, -0.0, 9_007_199_254_740_993.0, 5e-324] {
            let features = entry(x).features;
            let bytes = example_to_label_log(&names(), "up \"load\"", 7, Label::Normal, &features);
            let Ok(Entry::Example { upload, row, label, features: back }) = from_label_log(&names(), &bytes) else {
                panic!("an example")
            };
            assert_eq!((&*upload, row, label), ("up \"load\"", 7, Label::Normal));
            assert_eq!(back.numbers[0].to_bits(), x.to_bits());
            assert_eq!(back, features);
            assert_eq!(example_in_label_log(&bytes), Some(("up \"load\"".into(), 7)));
        }
        assert!(from_label_log(&names(), br#"{"kind":"example","upload":"a","row":1,"features":{}}"#).is_err());
        assert!(from_label_log(&names(), br#"{"kind":"background","upload":"a","row":1,"features":{}}"#).is_err());
        assert_eq!(example_in_label_log(&label_to_label_log(&names(), &entry(1.0))), None);
    }

    #[test]
    fn a_missing_value_stays_missing_and_an_unknown_column_is_dropped() {
        let mut names = names();
        let bytes = background_to_label_log(&names, "t", 0, 1, &entry(f64::NAN).features);
        names.columns.remove(1);
        names.columns.push(Column { name: "new".into(), kind: ColumnKind::Number });
        let Ok(Entry::Background { features, .. }) = from_label_log(&names, &bytes) else { panic!("a sample") };
        assert!(
            features.numbers.iter().all(|x| x.is_nan())
                && features.numbers.len() == 2
                && features.categories.is_empty()
        );
        assert!(from_label_log(&names, b"{\"kind\":\"label\"}").is_err());
    }
}
