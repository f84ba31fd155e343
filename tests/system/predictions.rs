//! What the predictions topic holds, held against the store.

use std::collections::BTreeMap;

use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::kafka::{Broker, Received};
use crate::larum::Deployment;
use crate::store;

/// Reads the predictions topic. Every copy of an id must be the same bytes, key and headers included, in the same partition.
///
/// `first` sees the first copy of each id. Returns how many copies there are of each id.
pub(crate) fn copies(broker: &Broker, topic: &str, mut first: impl FnMut(&Received, &Value)) -> BTreeMap<String, u32> {
    let mut seen: BTreeMap<String, (u128, u32)> = BTreeMap::new();
    broker.read(topic, |record| {
        let json = record.json();
        let id = json["event_id"].as_str().expect("a prediction with an event_id").to_owned();
        let print = fingerprint(&record);
        let entry = seen.entry(id).or_insert_with_key(|_| {
            first(&record, &json);
            (print, 0)
        });
        assert_eq!(entry.0, print, "two copies of one prediction differ; the later one: {json}");
        entry.1 += 1;
    });
    seen.into_iter().map(|(id, (_, copies))| (id, copies)).collect()
}

fn fingerprint(record: &Received) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(format!("{:?}{:?}{:?}", record.partition, record.key, record.headers).as_bytes());
    hash.update(record.payload.as_deref().unwrap_or_default());
    hash.digest128()
}

/// Asserts that the predictions topic holds exactly the ids of the store, each at least once, all copies alike, and that both say
/// the same of an event, bit by bit. Returns how many copies were more than one.
pub(crate) fn assert_agree(broker: &Broker, deployment: &Deployment) -> u64 {
    let rows = store::scored(&deployment.store());
    let copies = copies(broker, &deployment.topic("scored"), |record, json| {
        let at = (number(json, "partition"), i64::from(number(json, "offset")));
        let row = rows.get(&at).unwrap_or_else(|| panic!("the store does not know {json}"));
        assert_eq!(json["event_id"], row.event_id.as_str());
        assert_eq!(json["topic"], deployment.options.events.as_str());
        assert_eq!(json["entity"], row.entity.as_str());
        assert_eq!(record.key.as_deref(), Some(row.entity.as_bytes()), "the key is the entity");
        assert_eq!(json["score"].as_f64().map(f64::to_bits), Some(row.score.to_bits()), "{json}");
        assert_eq!(json["p_value"].as_f64().map(f64::to_bits), Some(row.p_value.to_bits()), "{json}");
        assert_eq!(json["alarm"], row.alarm);
        assert_eq!(json["model_version"], row.model_version);
        let time: jiff::Timestamp = json["time"].as_str().expect("a time").parse().expect("RFC 3339");
        assert_eq!(time.as_millisecond(), row.time);
    });
    assert_eq!(copies.len(), rows.len(), "ids in the predictions topic and rows in the store");
    copies.values().map(|count| u64::from(count - 1)).sum()
}

fn number(json: &Value, name: &str) -> i32 {
    json[name].as_i64().and_then(|value| i32::try_from(value).ok()).unwrap_or_else(|| panic!("{name} in {json}"))
}
