//! Labels on their way to the label log: verdicts, corrections, what waits for its event, and what no longer does.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::segments::count;
use super::writer::advance;
use super::{Committed, Joined, LabelCommit, LabelRow, LabelSource, LabelState, Limits, StoreError, Verdict};
use crate::model::Label;

/// The columns that [`read`] understands.
pub(super) const COLUMNS: &str =
    "event_id, label, who, at_ms, note, source_topic, source_partition, source_offset, state";

/// Writes the label part of a commit. `is_stored` says whether an event is stored already.
pub(super) fn write(
    conn: &Connection,
    commit: &LabelCommit,
    limits: &Limits,
    is_stored: &dyn Fn(&str) -> Result<bool, StoreError>,
    committed: &mut Committed,
) -> Result<(), StoreError> {
    for verdict in &commit.verdicts {
        committed.verdicts += u64::from(upsert(conn, verdict, is_stored)?);
    }
    for joined in &commit.joined {
        join(conn, joined)?;
    }
    for consumed in &commit.consumed {
        advance(conn, &consumed.topic, consumed.partition, consumed.expected_offset, consumed.next_offset)?;
    }
    if committed.verdicts > 0 {
        let pending: i64 =
            conn.query_row("SELECT COUNT(*) FROM labels WHERE state = 'pending'", [], |row| row.get(0))?;
        let excess = pending - count(limits.pending_labels_max);
        if excess > 0 {
            let expired = conn.execute(
                "UPDATE labels SET state = 'expired' WHERE rowid IN
                 (SELECT rowid FROM labels WHERE state = 'pending' ORDER BY at_ms, rowid LIMIT ?1)",
                params![excess],
            )?;
            committed.pending_evicted += expired as u64;
        }
        let labels: i64 = conn.query_row("SELECT COUNT(*) FROM labels", [], |row| row.get(0))?;
        let excess = labels - count(limits.labels_max);
        if excess > 0 {
            let deleted = conn.execute(
                "DELETE FROM labels WHERE rowid IN
                 (SELECT rowid FROM labels WHERE state <> 'pending' ORDER BY at_ms, rowid LIMIT ?1)",
                params![excess],
            )?;
            committed.labels_evicted += deleted as u64;
        }
    }
    Ok(())
}

/// True when the verdict changed something.
fn upsert(
    conn: &Connection,
    verdict: &Verdict,
    is_stored: &dyn Fn(&str) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    let source = &verdict.source;
    let earlier = conn
        .prepare_cached(
            "SELECT source_topic, source_partition, source_offset, at_ms, event_stored FROM labels WHERE event_id = ?1",
        )?
        .query_row(params![verdict.event_id], |row| {
            let topic: String = row.get(0)?;
            Ok((topic, row.get::<_, i32>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?, row.get::<_, bool>(4)?))
        })
        .optional()?;
    let mut known = false;
    if let Some((topic, partition, offset, at_ms, stored)) = earlier {
        let (topic, new_topic) = (topic.as_str(), &*source.topic);
        let is_later = if (topic, partition) == (new_topic, source.partition) {
            source.offset > offset
        } else {
            // Two logs have no common order: the verdict's own time decides, and the names where it is the same.
            (verdict.at_ms, new_topic, source.partition) > (at_ms, topic, partition)
        };
        if !is_later {
            return Ok(false);
        }
        known = stored;
    }
    let known = known || is_stored(&verdict.event_id)?;
    conn.prepare_cached(
        "INSERT OR REPLACE INTO labels(event_id, label, who, at_ms, note, source_topic, source_partition, source_offset,
         state, event_stored) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'pending', ?9)",
    )?
    .execute(params![
        verdict.event_id,
        verdict.label.map(name),
        verdict.who,
        verdict.at_ms,
        verdict.note,
        &*source.topic,
        source.partition,
        source.offset,
        known
    ])?;
    Ok(true)
}

fn join(conn: &Connection, joined: &Joined) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE labels SET state = 'joined' WHERE event_id = ?1
         AND source_topic = ?2 AND source_partition = ?3 AND source_offset = ?4",
    )?
    .execute(params![joined.event_id, &*joined.source.topic, joined.source.partition, joined.source.offset])?;
    Ok(())
}

/// A pending label's event has just been stored.
pub(super) fn mark_stored(conn: &Connection, event_id: &str) -> Result<(), StoreError> {
    conn.prepare_cached("UPDATE labels SET event_stored = 1 WHERE event_id = ?1 AND state = 'pending'")?
        .execute(params![event_id])?;
    Ok(())
}

/// Expires at most `limit` labels that have waited since before `before_ms`; how many it was.
pub(super) fn expire(conn: &Connection, before_ms: i64, limit: i64) -> Result<u64, StoreError> {
    let expired = conn
        .prepare_cached(
            "UPDATE labels SET state = 'expired' WHERE rowid IN
             (SELECT rowid FROM labels WHERE state = 'pending' AND at_ms < ?1 ORDER BY at_ms LIMIT ?2)",
        )?
        .execute(params![before_ms, limit])?;
    Ok(expired as u64)
}

/// The current label of an event.
pub(super) fn get(conn: &Connection, event_id: &str) -> Result<Option<LabelRow>, StoreError> {
    let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM labels WHERE event_id = ?1"))?;
    Ok(statement.query_row(params![event_id], read).optional()?)
}

/// Calls `keep` for every pending label whose event is stored, the oldest first, until it says no.
pub(super) fn to_join(
    conn: &Connection,
    mut keep: impl FnMut(LabelRow) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM labels INDEXED BY labels_to_join
         WHERE state = 'pending' AND event_stored = 1 ORDER BY at_ms, rowid"
    ))?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        if !keep(read(row)?)? {
            break;
        }
    }
    Ok(())
}

pub(super) fn name(label: Label) -> &'static str {
    match label {
        Label::Anomaly => "anomaly",
        Label::Normal => "normal",
    }
}

fn read(row: &Row<'_>) -> Result<LabelRow, rusqlite::Error> {
    let label = match row.get_ref(1)?.as_str_or_null()? {
        None => None,
        Some("anomaly") => Some(Label::Anomaly),
        Some(_) => Some(Label::Normal), // the table's CHECK allows no third
    };
    let state = match row.get_ref(8)?.as_str()? {
        "pending" => LabelState::Pending,
        "joined" => LabelState::Joined,
        _ => LabelState::Expired,
    };
    let source =
        LabelSource { topic: Arc::from(row.get_ref(5)?.as_str()?), partition: row.get(6)?, offset: row.get(7)? };
    Ok(LabelRow {
        verdict: Verdict {
            event_id: row.get(0)?,
            label,
            who: row.get(2)?,
            at_ms: row.get(3)?,
            note: row.get(4)?,
            source,
        },
        state,
    })
}
