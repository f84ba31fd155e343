//! The records of the label log. Features go by name, so that an edited query still reads an old log.

use super::label::Verdict;
use super::prediction::{Names, features};
use crate::event::NUMBER_MAX;
use crate::features::{ColumnKind, FeatureVector};
use crate::learn::{Entry, EventKey, LabelEntry, LabelSource};
use crate::model::Label;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

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

/// A record as it is read. Its features go straight to their columns: through a map of names a log is folded at half the speed.
#[derive(Default)]
struct Read<'a> {
    kind: Cow<'a, str>,
    event_id: Option<Cow<'a, str>>,
    topic: Option<Cow<'a, str>>,
    partition: Option<i32>,
    offset: Option<i64>,
    upload: Option<Cow<'a, str>>,
    row: Option<i64>,
    label: Option<Verdict>,
    source: Option<Source>,
    features: FeatureVector,
    surprises: BTreeMap<Cow<'a, str>, f64>,
}

/// A text that is borrowed where nothing in it is escaped.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct ReadRecord<'n>(&'n Names);

impl<'de> DeserializeSeed<'de> for ReadRecord<'_> {
    type Value = Read<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ReadRecord<'_> {
    type Value = Read<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record of the label log")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read<'de>, A::Error> {
        let mut read = Read::default();
        let mut features = None;
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "kind" => read.kind = map.next_value::<Text<'de>>()?.0,
                "event_id" => read.event_id = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0),
                "topic" => read.topic = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0),
                "partition" => read.partition = map.next_value()?,
                "offset" => read.offset = map.next_value()?,
                "upload" => read.upload = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0),
                "row" => read.row = map.next_value()?,
                "label" => read.label = map.next_value()?,
                "source" => read.source = map.next_value()?,
                "features" => features = Some(map.next_value_seed(ReadFeatures(self.0))?),
                "surprises" => {
                    let all: BTreeMap<Text<'de>, f64> = map.next_value()?;
                    read.surprises = all.into_iter().map(|(name, surprise)| (name.0, surprise)).collect();
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        read.features = features.ok_or_else(|| serde::de::Error::missing_field("features"))?;
        Ok(read)
    }
}

/// The features by name, in the order of the columns in force. A column that the record does not know is missing.
struct ReadFeatures<'n>(&'n Names);

impl<'de> DeserializeSeed<'de> for ReadFeatures<'_> {
    type Value = FeatureVector;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FeatureVector, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ReadFeatures<'_> {
    type Value = FeatureVector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("features by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FeatureVector, A::Error> {
        let columns = &self.0.columns;
        let of = |kind| columns.iter().filter(move |column| column.kind == kind).count();
        let mut numbers = vec![f64::NAN; of(ColumnKind::Number)];
        let mut categories = vec![None; of(ColumnKind::Category)];
        // Where each column stands among its kind; nearly every record has the columns in force in their order.
        let mut next = 0;
        while let Some(Text(name)) = map.next_key()? {
            let at = match columns.get(next) {
                Some(column) if *column.name == *name => Some(next),
                _ => columns.iter().position(|column| *column.name == *name),
            };
            let Some(at) = at else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            next = at + 1;
            let kind = columns[at].kind;
            let place = columns[..at].iter().filter(|column| column.kind == kind).count();
            match (kind, map.next_value()?) {
                (ColumnKind::Number, Feature::Number(x)) if x.abs() <= NUMBER_MAX => numbers[place] = x,
                (_, Feature::Number(x)) if x.abs() > NUMBER_MAX => {
                    return Err(serde::de::Error::custom(format!("{name:?} is beyond {NUMBER_MAX:e}: {x:e}")));
                }
                (ColumnKind::Category, Feature::Category(text)) => categories[place] = Some(text.as_ref().into()),
                // Another type than the column has by now.
                _ => {}
            }
        }
        Ok(FeatureVector { numbers: numbers.into(), categories: categories.into() })
    }
}

/// Where the verdict stands on the labels topic.
#[derive(Serialize, Deserialize)]
struct Source {
    partition: i32,
    offset: i64,
}

enum Feature<'a> {
    Number(f64),
    Category(Cow<'a, str>),
    Missing,
}

impl<'de> Deserialize<'de> for Feature<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Feature<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text or null")
            }

            fn visit_f64<E>(self, x: f64) -> Result<Self::Value, E> {
                Ok(Feature::Number(x))
            }

            fn visit_u64<E>(self, x: u64) -> Result<Self::Value, E> {
                Ok(Feature::Number(x as f64))
            }

            fn visit_i64<E>(self, x: i64) -> Result<Self::Value, E> {
                Ok(Feature::Number(x as f64))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Feature::Category(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Feature::Category(text.to_owned().into()))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Feature::Missing)
            }
        }
        deserializer.deserialize_any(Any)
    }
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
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = ReadRecord(names).deserialize(&mut deserializer).map_err(|e| e.to_string())?;
    deserializer.end().map_err(|e| e.to_string())?;
    let vector = read.features;
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
        let huge = br#"{"kind":"example","upload":"u","row":1,"label":"normal","features":{"x":1e308}}"#;
        assert!(from_label_log(&names, huge).unwrap_err().contains("beyond 1e30"));
    }
}
