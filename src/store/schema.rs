//! The tables and their version.

use rusqlite::{Connection, OptionalExtension, params};

use super::{StoreError, columns};

/// The version that this code writes.
const SCHEMA_VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE meta (schema_version INTEGER NOT NULL);
CREATE TABLE layouts (id INTEGER PRIMARY KEY, columns TEXT NOT NULL);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, layout INTEGER NOT NULL, state TEXT NOT NULL, rows INTEGER NOT NULL,
    time_min INTEGER, time_max INTEGER, opened_ms INTEGER
);
CREATE TABLE offsets (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, scored_through INTEGER NOT NULL, PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE adoptions (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, from_offset INTEGER NOT NULL, label_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition, from_offset)
) WITHOUT ROWID;
CREATE TABLE snapshots (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, plan_hash INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE partition_state (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, name TEXT NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (topic, partition, name)
);
CREATE TABLE entity_state (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, entity TEXT NOT NULL, last_seen INTEGER NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (topic, partition, entity)
);
CREATE TABLE labels (
    event_id TEXT PRIMARY KEY, label TEXT CHECK (label IN ('anomaly', 'normal')), who TEXT NOT NULL, at_ms INTEGER NOT NULL,
    note TEXT, source_topic TEXT NOT NULL, source_partition INTEGER NOT NULL, source_offset INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'joined', 'expired')),
    event_stored INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX labels_pending ON labels(at_ms) WHERE state = 'pending';
CREATE INDEX labels_to_join ON labels(at_ms) WHERE state = 'pending' AND event_stored = 1;
CREATE INDEX labels_verdict ON labels(label, state);
CREATE TABLE models (
    name TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL, at_ms INTEGER NOT NULL, parameters TEXT NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE TABLE model_quality (
    name TEXT NOT NULL, version INTEGER NOT NULL, at_ms INTEGER NOT NULL, metric TEXT NOT NULL, value REAL,
    PRIMARY KEY (name, metric, at_ms)
) WITHOUT ROWID;
CREATE INDEX model_quality_at ON model_quality(at_ms);
";

/// Creates the tables in an empty database; refuses one that a newer larum has written.
pub(super) fn prepare(conn: &Connection) -> Result<(), StoreError> {
    let exists =
        conn.query_row("SELECT 1 FROM sqlite_master WHERE name = 'meta'", [], |_| Ok(())).optional()?.is_some();
    if exists {
        let found = conn.query_row("SELECT schema_version FROM meta", [], |row| row.get::<_, i64>(0))?;
        return match found {
            SCHEMA_VERSION => Ok(()),
            found if found > SCHEMA_VERSION => Err(StoreError::Newer { found, known: SCHEMA_VERSION }),
            found => Err(StoreError::corrupt(format!("schema version {found}"))),
        };
    }
    conn.execute_batch(TABLES)?;
    let base = columns::BASE.iter().map(|(name, kind)| format!("{} {kind}", columns::quoted(name))).collect::<Vec<_>>();
    conn.execute_batch(&format!(
        "CREATE TABLE scored_kept ({}, layout INTEGER NOT NULL, PRIMARY KEY (topic, partition, \"offset\"));",
        base.join(", ")
    ))?;
    for index in super::segments::INDEXES {
        conn.execute_batch(&index.sql("scored_kept"))?;
    }
    conn.execute("INSERT INTO meta(schema_version) VALUES (?1)", params![SCHEMA_VERSION])?;
    Ok(())
}
