//! Promotions and rollbacks in the label log. A model travels in chunks below the size limit of a record, before the record that promotes it.

use super::artifact::artifact_from_json;
use super::label_log::from_label_log;
use super::prediction::Names;
use crate::learn::Entry;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Of the text of a model in one record. Its quotes are escaped there; Kafka takes records of 1 MB.
const CHUNK_BYTES: usize = 256 << 10;
/// Models whose chunks are waited for at once, and bytes of one: what never becomes whole is forgotten.
const PENDING_MAX: usize = 4;
const ARTIFACT_BYTES_MAX: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Record<'a> {
    Chunk {
        /// The hash of the whole.
        #[serde(borrow)]
        artifact: Cow<'a, str>,
        index: usize,
        count: usize,
        #[serde(borrow)]
        text: Cow<'a, str>,
    },
    Promotion {
        #[serde(borrow)]
        model: Cow<'a, str>,
        #[serde(borrow)]
        artifact: Cow<'a, str>,
        trained_through: i64,
    },
    Activation {
        #[serde(borrow)]
        model: Cow<'a, str>,
        version: i64,
    },
}

fn write(record: &Record<'_>) -> Vec<u8> {
    serde_json::to_vec(record).expect("names and numbers: writing them to memory cannot fail")
}

/// The records of a promotion: the model's chunks, and last the one that promotes it.
#[must_use]
pub fn promotion_to_label_log(model: &str, artifact: &[u8], trained_through: i64) -> Vec<Vec<u8>> {
    let text = std::str::from_utf8(artifact).expect("an artifact is JSON");
    let hash = format!("{:032x}", xxh3_128(artifact));
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = (CHUNK_BYTES..)
            .find(|end| rest.is_char_boundary((*end).min(rest.len())))
            .map_or(rest.len(), |end| end.min(rest.len()));
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    let count = pieces.len();
    let chunk = |(index, text): (usize, &&str)| {
        write(&Record::Chunk { artifact: hash.as_str().into(), index, count, text: (*text).into() })
    };
    let mut records: Vec<Vec<u8>> = pieces.iter().enumerate().map(chunk).collect();
    records.push(write(&Record::Promotion { model: model.into(), artifact: hash.as_str().into(), trained_through }));
    records
}

/// The record that puts a version in charge again.
#[must_use]
pub fn activation_to_label_log(model: &str, version: i64) -> Vec<u8> {
    write(&Record::Activation { model: model.into(), version })
}

/// A model whose chunks are being put together.
#[derive(Debug)]
struct Pending {
    artifact: String,
    /// The chunk that comes next.
    next: usize,
    text: String,
}

/// Reads the label log record by record, and puts the chunks of models together.
#[derive(Debug)]
pub struct LabelLogReader {
    names: Names,
    pending: VecDeque<Pending>,
}

impl LabelLogReader {
    /// `names`: the columns and models in force.
    #[must_use]
    pub fn new(names: Names) -> Self {
        Self { names, pending: VecDeque::new() }
    }

    /// The entry of the next record; `None` for a part of one.
    ///
    /// # Errors
    /// When it is no record of the label log, or promotes what cannot be used; it then teaches nothing, on every instance alike.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<Entry>, String> {
        // Nearly every record is a label or a sample: the others say so in their first bytes.
        if ![&b"{\"kind\":\"chunk\""[..], b"{\"kind\":\"promotion\"", b"{\"kind\":\"activation\""]
            .iter()
            .any(|start| bytes.starts_with(start))
        {
            return from_label_log(&self.names, bytes).map(Some);
        }
        match serde_json::from_slice(bytes).map_err(|error| error.to_string())? {
            Record::Chunk { artifact, index, count, text } => {
                self.take(&artifact, index, count, &text)?;
                Ok(None)
            }
            Record::Promotion { model, artifact, trained_through } => {
                let at = self.pending.iter().position(|pending| pending.artifact == artifact);
                let text = at.and_then(|at| self.pending.remove(at)).map(|pending| pending.text);
                let text = text.filter(|text| format!("{:032x}", xxh3_128(text.as_bytes())) == artifact);
                let text = text.ok_or("the promoted model is not whole")?;
                let (_, fitted) = artifact_from_json(&self.names, text.as_bytes())?;
                Ok(Some(Entry::Promotion { model: model.into_owned(), fitted: Arc::new(fitted), trained_through }))
            }
            Record::Activation { model, version } => Ok(Some(Entry::Activation { model: model.into_owned(), version })),
        }
    }

    fn take(&mut self, artifact: &str, index: usize, count: usize, text: &str) -> Result<(), String> {
        if count > ARTIFACT_BYTES_MAX / CHUNK_BYTES || text.len() > 2 * CHUNK_BYTES {
            return Err(format!("a model of more than {ARTIFACT_BYTES_MAX} bytes"));
        }
        let at = self.pending.iter().position(|pending| pending.artifact == artifact);
        let at = at.unwrap_or_else(|| {
            if self.pending.len() >= PENDING_MAX {
                self.pending.pop_front();
            }
            self.pending.push_back(Pending { artifact: artifact.to_owned(), next: 0, text: String::new() });
            self.pending.len() - 1
        });
        // The name of a model is the hash of its text: a chunk that comes again, or from another writer, is the same chunk.
        let pending = &mut self.pending[at];
        if index == pending.next && index < count {
            pending.text.push_str(text);
            pending.next += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::artifact_to_json;
    use super::*;
    use crate::features::{Column, ColumnKind, FeatureVector};
    use crate::learn::Fitted;
    use crate::model::{Hashing, Kernel, KernelSettings, Kind, Label, Lesson, Model, ModelSpec, Shape};

    fn names() -> Names {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        Names {
            columns: vec![column("x", ColumnKind::Number), column("größe", ColumnKind::Category)], models: vec![]
        }
    }

    fn taught(kind: Kind) -> Fitted {
        let mut model = Model::new(&ModelSpec::new("m", kind), &names().columns).unwrap();
        let hashing = Hashing::new(&names().columns);
        for i in 0..300 {
            let value = if i % 7 == 0 { f64::NAN } else { f64::from(i % 29) / 3.0 };
            let category = if i % 5 == 0 { None } else { Some(format!("c{}", i % 11).into()) };
            let x = hashing.encode(&FeatureVector { numbers: [value].into(), categories: [category].into() });
            let label = if i % 29 > 20 { Label::Anomaly } else { Label::Normal };
            model.learn(&x, Lesson::Label { label, weight: 1.0 });
        }
        let learner = model.learner().unwrap();
        Fitted { form: learner.form().clone(), calibration: learner.calibration().clone() }
    }

    #[test]
    fn a_model_comes_back_through_its_chunks_and_again_the_same() {
        let curved = |shape| Kind::Svm { kernel: Kernel::Curved(KernelSettings::new(shape)) };
        for kind in [Kind::LogisticRegression, curved(Shape::Rbf), curved(Shape::Poly { degree: 3 })] {
            let artifact = artifact_to_json(&names(), kind.name(), &taught(kind.clone())).unwrap();
            let mut reader = LabelLogReader::new(names());
            let records = promotion_to_label_log("m", &artifact, 17);
            let entries: Vec<_> = records.iter().map(|record| reader.read(record).unwrap()).collect();
            let Some(Some(Entry::Promotion { model, fitted, trained_through })) = entries.last() else {
                panic!("{entries:?}")
            };
            assert_eq!((model.as_str(), *trained_through), ("m", 17));
            assert_eq!(artifact_to_json(&names(), kind.name(), fitted).unwrap(), artifact, "{kind:?}");
        }
    }

    #[test]
    fn a_model_that_is_not_whole_or_of_other_features_is_refused() {
        let artifact = artifact_to_json(&names(), "svm", &taught(Kind::LogisticRegression)).unwrap();
        let long = [&artifact[..], &vec![b' '; 3 * CHUNK_BYTES]].concat();
        let records = promotion_to_label_log("m", &long, 1);
        assert_eq!(records.len(), 5);
        let read = |reader: &mut LabelLogReader, records: &[&Vec<u8>]| {
            records.iter().map(|record| reader.read(record)).last().unwrap()
        };
        let mut reader = LabelLogReader::new(names());
        let missing: Vec<&Vec<u8>> = records.iter().enumerate().filter(|(i, _)| *i != 2).map(|(_, r)| r).collect();
        assert!(read(&mut reader, &missing).unwrap_err().contains("not whole"));
        // Cut off, and sent again from its start; each chunk twice; two writers at once.
        let again: Vec<&Vec<u8>> = records[..2].iter().chain(&records).collect();
        let chunks = &records[..records.len() - 1];
        let twice: Vec<&Vec<u8>> = chunks.iter().flat_map(|chunk| [chunk, chunk]).chain(records.last()).collect();
        for records in [again, twice] {
            let mut reader = LabelLogReader::new(names());
            assert!(matches!(read(&mut reader, &records), Ok(Some(Entry::Promotion { .. }))));
        }
        let mut others = names();
        others.columns[0].name = "y".into();
        let mut reader = LabelLogReader::new(others);
        assert!(read(&mut reader, &records.iter().collect::<Vec<_>>()).unwrap_err().contains("other features"));
    }
}
