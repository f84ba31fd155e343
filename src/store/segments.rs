//! Segments: the tables `scored_N` that scored rows are appended to, and their catalogue.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoredColumns;
use super::columns::{self, quoted};
use super::{StoreError, ids::Ids};

/// Segments at most: SQLite takes 500 terms in the view, and an unknown event id is looked up in each.
pub(super) const SEGMENTS_MAX: usize = 200;

/// The rows that people look for: an index that holds only these costs next to nothing, so it exists from the start.
pub(super) const NOTABLE: &str = "(alarm = 1 OR score >= 0.5)";

/// An index of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Index {
    pub(super) name: &'static str,
    columns: &'static str,
    filter: Option<&'static str>,
    /// Kept up to date while rows are appended; the others are built when the segment is full.
    live: bool,
}

pub(super) const INDEXES: [Index; 4] = [
    Index { name: "notable", columns: "time", filter: Some(NOTABLE), live: true },
    Index { name: "event", columns: "event_id", filter: None, live: false },
    Index { name: "time", columns: "time", filter: None, live: false },
    Index { name: "entity", columns: "entity, time", filter: None, live: false },
];

impl Index {
    pub(super) fn sql(&self, table: &str) -> String {
        let filter = self.filter.map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
        format!("CREATE INDEX IF NOT EXISTS {table}_{} ON {table}({}){filter};", self.name, self.columns)
    }
}

/// Where a segment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SegmentState {
    /// Rows are appended.
    Open,
    /// Full; its indexes are being built.
    Full,
    /// Indexed; waits for retention.
    Sealed,
}

impl SegmentState {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Full => "full",
            Self::Sealed => "sealed",
        }
    }
}

/// One line of the catalogue.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) id: i64,
    pub(super) layout: i64,
    pub(super) state: SegmentState,
    pub(super) rows: u64,
    /// Event times of its rows, None while it is empty.
    pub(super) times: Option<(i64, i64)>,
    /// When maintenance first saw it.
    pub(super) opened_ms: Option<i64>,
}

impl Segment {
    pub(super) fn table(&self) -> String {
        table(self.id)
    }

    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let state = match row.get_ref(2)?.as_str()? {
            "open" => SegmentState::Open,
            "full" => SegmentState::Full,
            _ => SegmentState::Sealed,
        };
        let times: (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
        Ok(Self {
            id: row.get(0)?,
            layout: row.get(1)?,
            state,
            rows: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
            times: times.0.zip(times.1),
            opened_ms: row.get(6)?,
        })
    }

    /// Writes the line's changing parts.
    pub(super) fn update(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached(
            "UPDATE segments SET state = ?2, rows = ?3, time_min = ?4, time_max = ?5, opened_ms = ?6 WHERE id = ?1",
        )?
        .execute(params![
            self.id,
            self.state.name(),
            count(self.rows),
            self.times.map(|times| times.0),
            self.times.map(|times| times.1),
            self.opened_ms
        ])?;
        Ok(())
    }
}

pub(super) fn table(id: i64) -> String {
    format!("scored_{id}")
}

/// A count as SQLite keeps it.
pub(super) fn count(rows: u64) -> i64 {
    i64::try_from(rows).expect("a count of rows is far below 2^63")
}

/// All segments, oldest first.
pub(super) fn all(conn: &Connection) -> Result<Vec<Segment>, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT id, layout, state, rows, time_min, time_max, opened_ms FROM segments ORDER BY id")?;
    let segments = statement.query_map([], Segment::read)?.collect::<Result<_, _>>()?;
    Ok(segments)
}

/// Opens a new segment; an open one becomes full, or goes when it is empty. Call it inside a transaction.
pub(super) fn open_new(conn: &Connection, layout: i64, columns: &StoredColumns) -> Result<Segment, StoreError> {
    for mut segment in all(conn)?.into_iter().filter(|segment| segment.state == SegmentState::Open) {
        if segment.rows == 0 {
            drop_table(conn, segment.id)?;
        } else {
            segment.state = SegmentState::Full;
            segment.update(conn)?;
        }
    }
    conn.execute("INSERT INTO segments(layout, state, rows) VALUES (?1, 'open', 0)", params![layout])?;
    let segment = Segment {
        id: conn.last_insert_rowid(),
        layout,
        state: SegmentState::Open,
        rows: 0,
        times: None,
        opened_ms: None,
    };
    let table = segment.table();
    conn.execute_batch(&format!(
        "CREATE TABLE {table} ({}, PRIMARY KEY (topic, partition, {}));",
        columns.definition(),
        quoted("offset")
    ))?;
    for index in INDEXES.iter().filter(|index| index.live) {
        conn.execute_batch(&index.sql(&table))?;
    }
    renew_view(conn)?;
    Ok(segment)
}

/// Builds the next index of a full segment; true once it is sealed. Call it inside a transaction.
pub(super) fn seal_step(conn: &Connection, segment: &mut Segment) -> Result<bool, StoreError> {
    let table = segment.table();
    for (position, index) in INDEXES.iter().enumerate() {
        let name = format!("{table}_{}", index.name);
        let exists = conn
            .prepare_cached("SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?1")?
            .query_row(params![name], |_| Ok(()))
            .optional()?;
        if exists.is_none() {
            conn.execute_batch(&index.sql(&table))?;
            if position + 1 < INDEXES.len() {
                return Ok(false);
            }
        }
    }
    segment.state = SegmentState::Sealed;
    segment.update(conn)?;
    Ok(true)
}

/// Drops a segment without a look at its rows; the view must be renewed in the same transaction.
pub(super) fn drop_table(conn: &Connection, id: i64) -> Result<(), StoreError> {
    conn.execute_batch(&format!("DROP VIEW IF EXISTS scored; DROP TABLE {};", table(id)))?;
    conn.execute("DELETE FROM segments WHERE id = ?1", params![id])?;
    Ok(())
}

/// Makes the view fit the catalogue.
pub(super) fn renew_view(conn: &Connection) -> Result<(), StoreError> {
    let segments: Vec<(i64, i64)> = all(conn)?.iter().map(|segment| (segment.id, segment.layout)).collect();
    let newest = segments.last().map_or(0, |segment| segment.1);
    columns::create_view(conn, &segments, newest)
}

/// Fills the map of event ids for the segments that have no index of them yet.
pub(super) fn load_ids(conn: &Connection, ids: &Ids) -> Result<(), StoreError> {
    for segment in all(conn)?.iter().filter(|segment| segment.state != SegmentState::Sealed) {
        let mut statement = conn.prepare(&format!("SELECT event_id, rowid FROM {}", segment.table()))?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let event_id = row.get_ref(0)?.as_str().map_err(|error| StoreError::corrupt(error.to_string()))?;
            found.push((Ids::hash(event_id), row.get(1)?));
        }
        ids.extend(segment.id, found);
    }
    Ok(())
}
