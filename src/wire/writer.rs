//! The record of the predictions topic, written by hand: nearly every event passes here, and names are the larger part of its text.
//!
//! It is [`PredictionJson`](super::PredictionJson) byte for byte, which a test holds; through serde every name was escaped anew for every
//! event.

use super::prediction::{Names, rfc3339};
use crate::engine::Scored;
use crate::event::time;
use crate::features::ColumnKind;
use serde::Serialize;

/// Writes the predictions of one topic of events.
#[derive(Debug)]
pub struct PredictionWriter {
    /// `,"topic":"requests","partition":`
    topic: Vec<u8>,
    /// Keys with their colon: `"name":`.
    models: Vec<Vec<u8>>,
    columns: Vec<(Vec<u8>, ColumnKind)>,
}

impl PredictionWriter {
    #[must_use]
    pub fn new(names: &Names, topic: &str) -> Self {
        let key = |name: &str| {
            let mut key = Vec::new();
            value(&mut key, name);
            key.push(b':');
            key
        };
        let mut start = b",\"topic\":".to_vec();
        value(&mut start, topic);
        start.extend_from_slice(b",\"partition\":");
        Self {
            topic: start,
            models: names.models.iter().map(|name| key(name)).collect(),
            columns: names.columns.iter().map(|column| (key(&column.name), column.kind)).collect(),
        }
    }

    /// Appends a scored event of this partition to `out`.
    pub fn write(&self, out: &mut Vec<u8>, partition: i32, scored: &Scored) {
        let prediction = &scored.prediction;
        member(out, b"{\"event_id\":", &*scored.event_id);
        member(out, &self.topic, &partition);
        member(out, b",\"offset\":", &scored.offset);
        match time::rfc3339(scored.time_ms) {
            Some(text) => {
                out.extend_from_slice(b",\"time\":\"");
                out.extend_from_slice(&text);
                out.push(b'"');
            }
            None => member(out, b",\"time\":", &*rfc3339(scored.time_ms)),
        }
        member(out, b",\"entity\":", &*scored.entity);
        member(out, b",\"score\":", &prediction.score());
        member(out, b",\"p_value\":", &prediction.p_value());
        member(out, b",\"alarm\":", &scored.alarm);
        if let Some(warmup) = prediction.warmup {
            member(out, b",\"warmup\":{\"seen\":", &warmup.seen);
            member(out, b",\"needed\":", &warmup.needed);
            out.push(b'}');
        }
        member(out, b",\"model_version\":", &prediction.model_version);
        out.extend_from_slice(b",\"scores\":");
        object(out, self.models.iter().zip(&prediction.scores), |out, (key, score)| member(out, key, score));
        if prediction.probabilities.iter().any(Option::is_some) {
            let known = self.models.iter().zip(&prediction.probabilities).filter_map(|(key, p)| p.map(|p| (key, p)));
            out.extend_from_slice(b",\"probabilities\":");
            object(out, known, |out, (key, probability)| member(out, key, &probability));
        }
        out.extend_from_slice(b",\"features\":");
        let (mut numbers, mut categories) = (prediction.features.numbers.iter(), prediction.features.categories.iter());
        object(out, &self.columns, |out, (key, kind)| match kind {
            ColumnKind::Number => member(out, key, &numbers.next()),
            ColumnKind::Category => member(out, key, &categories.next()),
        });
        if let Some(contributions) = &prediction.contributions {
            out.extend_from_slice(b",\"contributions\":");
            object(out, contributions, |out, (column, value)| member(out, &self.columns[*column].0, value));
        }
        out.push(b'}');
    }
}

fn object<T>(out: &mut Vec<u8>, members: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'{');
    for (place, member) in members.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(out, member);
    }
    out.push(b'}');
}

fn member<T: Serialize + ?Sized>(out: &mut Vec<u8>, key: &[u8], of: &T) {
    out.extend_from_slice(key);
    value(out, of);
}

fn value<T: Serialize + ?Sized>(out: &mut Vec<u8>, of: &T) {
    serde_json::to_writer(out, of).expect("texts and numbers: writing them to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::super::{PredictionJson, SubjectJson, WarmupJson};
    use super::*;
    use crate::engine::{Prediction, Warmup};
    use crate::features::{Column, FeatureVector};

    fn check(names: &Names, scored: &Scored) {
        let prediction = &scored.prediction;
        let named = |&(column, value): &(usize, f64)| (names.columns[column].name.as_str(), value);
        let json = PredictionJson {
            subject: Some(SubjectJson {
                event_id: &scored.event_id,
                topic: "re\"quests",
                partition: 3,
                offset: Some(scored.offset),
                time: rfc3339(scored.time_ms),
                entity: &scored.entity,
            }),
            score: prediction.score(),
            p_value: prediction.p_value(),
            alarm: Some(scored.alarm),
            warmup: prediction.warmup.map(|w| WarmupJson { seen: w.seen, needed: w.needed }),
            model_version: prediction.model_version,
            scores: (names, &prediction.scores),
            probabilities: (names, &prediction.probabilities),
            features: (names, &prediction.features),
            contributions: prediction.contributions.as_ref().map(|list| list.iter().map(named).collect()),
            label: None,
        };
        let mut written = b"before".to_vec();
        PredictionWriter::new(names, "re\"quests").write(&mut written, 3, scored);
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written, format!("before{}", serde_json::to_string(&json).unwrap()));
    }

    #[test]
    fn it_is_the_json_of_the_api_byte_for_byte() {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        let columns = vec![
            column("x", ColumnKind::Number),
            column("regi\"on\n", ColumnKind::Category),
            column("größe", ColumnKind::Number),
            column("verb", ColumnKind::Category),
        ];
        let names = Names { columns, models: vec!["one".into(), "t\\wo".into()] };
        let features =
            FeatureVector { numbers: [0.1 + 0.2, f64::NAN].into(), categories: [Some("e\u{1}u".into()), None].into() };
        let prediction = Prediction {
            surprise: 2.345,
            warmup: None,
            model_version: -1,
            scores: vec![0.0, 1e-300],
            probabilities: vec![None, None],
            features,
            contributions: None,
        };
        let plain = Scored {
            offset: 9_007_199_254_740_993,
            event_id: "r-\"1\"".into(),
            time_ms: 1_700_000_000_123,
            entity: "web\t1".into(),
            alarm: false,
            prediction,
            background: true,
        };
        check(&names, &plain);
        let mut alarm = Scored { alarm: true, time_ms: time::TIME_MS_MAX + 1, ..plain.clone() };
        alarm.prediction.warmup = Some(Warmup { seen: 3, needed: 120 });
        alarm.prediction.contributions = Some(vec![(2, 1.5), (1, -0.0), (0, f64::INFINITY)]);
        check(&names, &alarm);
        for probabilities in [vec![None, Some(0.5)], vec![Some(1e-9), None], vec![Some(0.1 + 0.2), Some(1.0)]] {
            let mut judged = plain.clone();
            judged.prediction.probabilities = probabilities;
            check(&names, &judged);
        }
        let mut bare = plain;
        bare.prediction.contributions = Some(Vec::new());
        bare.prediction.scores.clear();
        bare.prediction.probabilities.clear();
        bare.prediction.features = FeatureVector { numbers: [].into(), categories: [].into() };
        check(&Names { columns: Vec::new(), models: Vec::new() }, &bare);
    }
}
