//! What the service's SQLite database holds, read from outside and read-only, also while the service runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};

pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// By partition the offset after the last record that was dealt with; nothing before there is a store.
pub(crate) fn scored_through(path: &Path, topic: &str) -> BTreeMap<i32, i64> {
    by_partition(path, "SELECT partition, scored_through FROM offsets WHERE topic = ?", topic).unwrap_or_default()
}

/// By partition the offset of the newest snapshot of its state.
pub(crate) fn snapshots(path: &Path, topic: &str) -> BTreeMap<i32, i64> {
    by_partition(path, "SELECT partition, \"offset\" FROM snapshots WHERE topic = ?", topic).unwrap()
}

fn by_partition(path: &Path, sql: &str, topic: &str) -> rusqlite::Result<BTreeMap<i32, i64>> {
    let connection = open(path)?;
    let mut query = connection.prepare(sql)?;
    query.query_map([topic], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// One number out of the store.
pub(crate) fn number(path: &Path, sql: &str) -> i64 {
    open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// One scored event, as far as the tests look into it by name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored {
    pub(crate) event_id: String,
    pub(crate) entity: String,
    pub(crate) time: i64,
    pub(crate) score: f64,
    pub(crate) p_value: f64,
    pub(crate) alarm: bool,
    pub(crate) model_version: i64,
}

/// Every scored event by partition and offset. The key is unique in the table, so an event scored twice shows as a repeated id.
pub(crate) fn scored(path: &Path) -> BTreeMap<(i32, i64), Scored> {
    let connection = open(path).unwrap();
    let sql = "SELECT partition, \"offset\", event_id, entity, time, score, p_value, alarm, model_version FROM scored";
    let mut query = connection.prepare(sql).unwrap();
    let row = |row: &Row<'_>| {
        let event = Scored {
            event_id: row.get(2)?,
            entity: row.get(3)?,
            time: row.get(4)?,
            score: row.get(5)?,
            p_value: row.get(6)?,
            alarm: row.get(7)?,
            model_version: row.get(8)?,
        };
        Ok(((row.get(0)?, row.get(1)?), event))
    };
    let mut all = BTreeMap::new();
    for row in query.query_map([], row).unwrap() {
        let (at, event) = row.unwrap();
        assert_eq!(all.insert(at, event), None, "two rows for one record");
    }
    all
}

/// Asserts that the store holds each of these ids once, and nothing else.
pub(crate) fn assert_ids(path: &Path, expected: impl Iterator<Item = String>) {
    let mut expected: Vec<String> = expected.collect();
    expected.sort_unstable();
    let mut found: Vec<String> = scored(path).into_values().map(|event| event.event_id).collect();
    found.sort_unstable();
    if found != expected {
        let missing: Vec<_> = expected.iter().filter(|id| found.binary_search(id).is_err()).take(5).collect();
        let strange: Vec<_> = found.iter().filter(|id| expected.binary_search(id).is_err()).take(5).collect();
        let twice: Vec<_> = found.windows(2).filter(|pair| pair[0] == pair[1]).take(5).collect();
        panic!(
            "{} ids instead of {}; missing {missing:?}, unexpected {strange:?}, twice {twice:?}",
            found.len(),
            expected.len()
        );
    }
}

/// Asserts that scores and partition state of two stores are the same bits.
pub(crate) fn assert_same(one: &Path, other: &Path) {
    assert_same_rows(one, other, "scored", "topic, partition, \"offset\"");
    assert_same_rows(one, other, "snapshots", "topic, partition");
    assert_same_rows(one, other, "partition_state", "topic, partition, name");
    assert_same_rows(one, other, "entity_state", "topic, partition, entity");
    assert_same_rows(one, other, "offsets", "topic, partition");
}

fn assert_same_rows(one: &Path, other: &Path, table: &str, order: &str) {
    // Only the tables of events: the topics of labels are named after the deployment.
    let sql = format!("SELECT * FROM {table} WHERE topic IN (SELECT DISTINCT topic FROM scored) ORDER BY {order}");
    let (one, other) = (open(one).unwrap(), open(other).unwrap());
    let (mut left, mut right) = (one.prepare(&sql).unwrap(), other.prepare(&sql).unwrap());
    let columns: Vec<String> = left.column_names().iter().map(ToString::to_string).collect();
    assert_eq!(columns, right.column_names(), "the columns of {table}");
    let (mut left, mut right) = (left.query([]).unwrap(), right.query([]).unwrap());
    let mut rows = 0_u64;
    loop {
        match (left.next().unwrap(), right.next().unwrap()) {
            (None, None) => break,
            (Some(a), Some(b)) => {
                for (i, column) in columns.iter().enumerate() {
                    let (x, y) = (cell(a, i), cell(b, i));
                    assert!(x == y, "{table}, row {rows}, {column}: {x:?} and {y:?}");
                }
            }
            (a, b) => panic!("{table}: after {rows} rows, one ended: {} {}", a.is_some(), b.is_some()),
        }
        rows += 1;
    }
    assert!(rows > 0, "{table} is empty: nothing was compared");
}

/// One cell, floats by their bits.
#[derive(Debug, PartialEq)]
enum Cell {
    Null,
    Integer(i64),
    Bits(u64),
    Bytes(Vec<u8>),
}

fn cell(row: &Row<'_>, index: usize) -> Cell {
    match row.get_ref(index).unwrap() {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Integer(value),
        ValueRef::Real(value) => Cell::Bits(value.to_bits()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}
