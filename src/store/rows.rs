//! A [`ScoredRow`] to and from the columns of its segment.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::columns::BASE;
use super::segments::count;
use super::{ScoredRow, StoreError, StoredColumns};
use crate::features::FeatureVector;

/// The statement that appends a row with these columns.
pub(super) fn insert_sql(table: &str, columns: &StoredColumns) -> String {
    let places = vec!["?"; BASE.len() + columns.columns.len()].join(", ");
    format!("INSERT INTO {table} ({}) VALUES ({places})", columns.list())
}

/// Appends one row. NaN is NULL in SQLite, which is what a missing feature is.
pub(super) fn insert(statement: &mut Statement<'_>, row: &ScoredRow) -> Result<(), StoreError> {
    let contributions = row.contributions.as_deref().map(json);
    let warmup = row.warmup.map(|(seen, needed)| (count(seen), count(needed)));
    statement.raw_bind_parameter(1, row.event_id.as_str())?;
    statement.raw_bind_parameter(2, &*row.topic)?;
    statement.raw_bind_parameter(3, row.partition)?;
    statement.raw_bind_parameter(4, row.offset)?;
    statement.raw_bind_parameter(5, row.time_ms)?;
    statement.raw_bind_parameter(6, row.entity.as_str())?;
    statement.raw_bind_parameter(7, row.score)?;
    statement.raw_bind_parameter(8, row.p_value)?;
    statement.raw_bind_parameter(9, row.alarm)?;
    statement.raw_bind_parameter(10, warmup.map(|warmup| warmup.0))?;
    statement.raw_bind_parameter(11, warmup.map(|warmup| warmup.1))?;
    statement.raw_bind_parameter(12, row.model_version)?;
    statement.raw_bind_parameter(13, contributions)?;
    let mut place = BASE.len();
    let mut next = || {
        place += 1;
        place
    };
    for score in &row.scores {
        statement.raw_bind_parameter(next(), *score)?;
    }
    for number in &row.features.numbers {
        statement.raw_bind_parameter(next(), *number)?;
    }
    for category in &row.features.categories {
        statement.raw_bind_parameter(next(), category.as_deref())?;
    }
    statement.raw_execute()?;
    Ok(())
}

/// The select that [`read`] understands, up to its FROM clause.
pub(super) fn select_sql(table: &str, columns: &StoredColumns) -> String {
    format!("SELECT {} FROM {table}", columns.list())
}

/// Reads a row of [`select_sql`]; `topic` is reused where it is the same.
pub(super) fn read(row: &Row<'_>, columns: &StoredColumns, topic: &mut Arc<str>) -> Result<ScoredRow, StoreError> {
    let stored: &str = row.get_ref(1)?.as_str().map_err(|error| StoreError::corrupt(error.to_string()))?;
    if **topic != *stored {
        *topic = Arc::from(stored);
    }
    let warmup: (Option<i64>, Option<i64>) = (row.get(9)?, row.get(10)?);
    let warmup = warmup.0.zip(warmup.1).map(|(seen, needed)| (seen.unsigned_abs(), needed.unsigned_abs()));
    let contributions = match row.get_ref(12)? {
        ValueRef::Null => None,
        value => {
            let text = value.as_str().map_err(|error| StoreError::corrupt(error.to_string()))?;
            let pairs: Pairs = serde_json::from_str(text).map_err(|error| StoreError::corrupt(error.to_string()))?;
            Some(pairs.0)
        }
    };
    let scores_end = BASE.len() + columns.models.len();
    let numbers_end = scores_end + columns.numbers.len();
    let scores = (BASE.len()..scores_end).map(|place| row.get(place)).collect::<Result<_, _>>()?;
    let numbers = (scores_end..numbers_end)
        .map(|place| Ok(row.get::<_, Option<f64>>(place)?.unwrap_or(f64::NAN)))
        .collect::<Result<_, rusqlite::Error>>()?;
    let categories = (numbers_end..numbers_end + columns.categories.len())
        .map(|place| Ok(row.get::<_, Option<String>>(place)?.map(String::into_boxed_str)))
        .collect::<Result<_, rusqlite::Error>>()?;
    Ok(ScoredRow {
        event_id: row.get(0)?,
        topic: Arc::clone(topic),
        partition: row.get(2)?,
        offset: row.get(3)?,
        time_ms: row.get(4)?,
        entity: row.get(5)?,
        score: row.get(6)?,
        p_value: row.get(7)?,
        alarm: row.get(8)?,
        warmup,
        model_version: row.get(11)?,
        scores,
        features: FeatureVector { numbers, categories },
        contributions,
    })
}

/// Contributions as a JSON object, in their order; what is not finite becomes null.
fn json(contributions: &[(String, f64)]) -> String {
    struct Object<'a>(&'a [(String, f64)]);
    impl Serialize for Object<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(self.0.len()))?;
            for (name, value) in self.0 {
                map.serialize_entry(name, value)?;
            }
            map.end()
        }
    }
    serde_json::to_string(&Object(contributions)).expect("strings and numbers serialise")
}

/// A JSON object in its order: `serde_json::Map` would sort it.
struct Pairs(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Option<f64>>()? {
                    pairs.push((name, value.unwrap_or(f64::NAN)));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}
