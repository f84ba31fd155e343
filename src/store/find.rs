//! Where a scored event is stored: in which table, at which row.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::ids::Ids;
use super::segments::{Segment, SegmentState};
use super::{ScoredRow, StoreError, StoredColumns, columns, rows};

/// The row of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) table: String,
    /// The layout of its segment; None for a kept row, which names its own.
    pub(super) layout: Option<i64>,
    pub(super) row: i64,
}

/// Finds the newest row of this event id, None where it is not stored.
pub(super) fn event(
    conn: &Connection,
    ids: &Ids,
    all: &[Segment],
    event_id: &str,
) -> Result<Option<Located>, StoreError> {
    for segment in all.iter().rev() {
        let table = segment.table();
        let row = if segment.state == SegmentState::Sealed {
            indexed(conn, &table, event_id)?
        } else {
            match ids.find(segment.id, event_id) {
                Some(candidates) => verified(conn, &table, &candidates, event_id)?,
                // It was sealed after this connection's view of the database began: rare, so look at its rows.
                None => scanned(conn, &table, event_id)?,
            }
        };
        if let Some(row) = row {
            return Ok(Some(Located { table, layout: Some(segment.layout), row }));
        }
    }
    let row = indexed(conn, "scored_kept", event_id)?;
    Ok(row.map(|row| Located { table: "scored_kept".to_owned(), layout: None, row }))
}

/// Reads a row that was found, with its columns.
pub(super) fn load(
    conn: &Connection,
    layouts: &columns::Layouts,
    located: &Located,
) -> Result<(ScoredRow, Arc<StoredColumns>), StoreError> {
    let layout = match located.layout {
        Some(layout) => layout,
        None => conn
            .prepare_cached("SELECT layout FROM scored_kept WHERE rowid = ?1")?
            .query_row(params![located.row], |row| row.get(0))?,
    };
    let columns = layouts.get(&layout).ok_or_else(|| StoreError::corrupt(format!("no layout {layout}")))?;
    let mut statement =
        conn.prepare_cached(&format!("{} WHERE rowid = ?1", rows::select_sql(&located.table, columns)))?;
    let mut found = statement.query(params![located.row])?;
    let row =
        found.next()?.ok_or_else(|| StoreError::corrupt(format!("no row {} in {}", located.row, located.table)))?;
    Ok((rows::read(row, columns, &mut Arc::from(""))?, Arc::clone(columns)))
}

fn indexed(conn: &Connection, table: &str, event_id: &str) -> Result<Option<i64>, StoreError> {
    let sql =
        format!("SELECT rowid FROM {table} INDEXED BY {table}_event WHERE event_id = ?1 ORDER BY rowid DESC LIMIT 1");
    Ok(conn.prepare_cached(&sql)?.query_row(params![event_id], |row| row.get(0)).optional()?)
}

fn scanned(conn: &Connection, table: &str, event_id: &str) -> Result<Option<i64>, StoreError> {
    let sql = format!("SELECT rowid FROM {table} WHERE event_id = ?1 ORDER BY rowid DESC LIMIT 1");
    Ok(conn.prepare_cached(&sql)?.query_row(params![event_id], |row| row.get(0)).optional()?)
}

fn verified(conn: &Connection, table: &str, candidates: &[i64], event_id: &str) -> Result<Option<i64>, StoreError> {
    let mut statement = conn.prepare_cached(&format!("SELECT 1 FROM {table} WHERE rowid = ?1 AND event_id = ?2"))?;
    for row in candidates {
        if statement.exists(params![row, event_id])? {
            return Ok(Some(*row));
        }
    }
    Ok(None)
}
