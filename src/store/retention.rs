//! What happens to rows as they age, in steps so small that a commit never waits long for one.

use rusqlite::params;

use super::segments::{self, Segment, SegmentState, count};
use super::{StoreError, Writer, labels, writer};

/// Rows moved or deleted in one step.
const STEP_ROWS: i64 = 5_000;

/// The open segment is closed after this share of the retention, however few its rows: a quiet topic's rows age too.
const SEGMENTS_PER_RETENTION: i64 = 8;

/// What one step of maintenance did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Rows that went because they were older than the retention, or kept ones older than the label horizon.
    pub rows_expired: u64,
    /// Rows that went before their time, because `stored_rows_max` was reached.
    pub rows_evicted: u64,
    /// Alarms and labelled rows moved to `scored_kept`.
    pub rows_moved: u64,
    /// Labels whose event has not come within the label horizon.
    pub labels_expired: u64,
    /// There is more to do now: call again when no commit waits.
    pub more: bool,
}

impl Writer {
    /// Does the most urgent piece of maintenance: closes or indexes a segment, drops one, or expires kept rows and labels.
    /// `now_ms` is compared with event times. Call it between commits, again at once while `more`, else every few seconds.
    ///
    /// # Errors
    /// What the database refuses; nothing of the step has then been written.
    pub fn maintain(&mut self, now_ms: i64) -> Result<Maintained, StoreError> {
        let limits = self.shared.limits;
        let more = Maintained { more: true, ..Maintained::default() };
        if !self.full.is_empty() {
            self.seal_step()?;
            return Ok(more);
        }
        if self.open.rows > 0 {
            let opened_ms = self.open.opened_ms.unwrap_or(now_ms);
            let age_ms = now_ms.saturating_sub(opened_ms);
            if self.open.rows >= self.segment_rows || age_ms >= limits.retention_ms / SEGMENTS_PER_RETENTION {
                self.roll()?;
                return Ok(more);
            }
            if self.open.opened_ms.is_none() {
                self.open.opened_ms = Some(now_ms);
                self.open.update(&self.conn)?;
            }
        }
        let all = segments::all(&self.conn)?;
        let sealed = || all.iter().filter(|segment| segment.state == SegmentState::Sealed);
        let oldest_ms = now_ms.saturating_sub(limits.retention_ms);
        let horizon_ms = now_ms.saturating_sub(limits.label_horizon_ms);
        if let Some(old) = sealed().find(|segment| segment.times.is_none_or(|(_, max)| max < oldest_ms)) {
            let (rows_moved, rows_expired) = self.drop_step(old, horizon_ms)?;
            return Ok(Maintained { rows_moved, rows_expired, more: true, ..Maintained::default() });
        }
        // Kept rows take at most half of the room, so that there is always some for what comes.
        let excess = self.kept_rows.saturating_sub(limits.stored_rows_max / 2);
        if excess > 0 {
            let rows_evicted = self.delete_kept(i64::MAX, count(excess).min(STEP_ROWS))?;
            return Ok(Maintained { rows_evicted, more: true, ..Maintained::default() });
        }
        let stored: u64 = self.kept_rows + all.iter().map(|segment| segment.rows).sum::<u64>();
        let is_too_much = stored > limits.stored_rows_max || all.len() > segments::SEGMENTS_MAX;
        if is_too_much && let Some(oldest) = sealed().next() {
            let (rows_moved, rows_evicted) = self.drop_step(oldest, horizon_ms)?;
            return Ok(Maintained { rows_moved, rows_evicted, more: true, ..Maintained::default() });
        }
        let rows_expired = self.delete_kept(horizon_ms, STEP_ROWS)?;
        let labels_expired = labels::expire(&self.conn, horizon_ms, STEP_ROWS)?;
        self.conn.prepare_cached("DELETE FROM model_quality WHERE at_ms < ?1")?.execute(params![horizon_ms])?;
        let full_step = STEP_ROWS.unsigned_abs();
        let more = rows_expired == full_step || labels_expired == full_step;
        Ok(Maintained { rows_expired, labels_expired, more, ..Maintained::default() })
    }

    /// Moves some of the alarms and labelled rows out of a segment; once none is left, drops it. (Moved, dropped) rows.
    fn drop_step(&mut self, segment: &Segment, horizon_ms: i64) -> Result<(u64, u64), StoreError> {
        let transaction = writer::begin(&self.conn)?;
        let table = segment.table();
        let rows = {
            let mut statement = transaction.prepare(&format!(
                "SELECT found FROM (
                     SELECT rowid AS found, time AS at FROM {table} INDEXED BY {table}_notable
                     WHERE {notable} AND alarm = 1
                     UNION
                     SELECT row.rowid, row.time FROM labels CROSS JOIN {table} AS row INDEXED BY {table}_event
                     ON row.event_id = labels.event_id
                 ) WHERE at >= ?1 ORDER BY found LIMIT ?2",
                notable = segments::NOTABLE
            ))?;
            let rows = statement.query_map(params![horizon_ms, STEP_ROWS], |row| row.get::<_, i64>(0))?;
            rows.collect::<Result<Vec<_>, _>>()?
        };
        let layouts = super::columns::layouts(&transaction)?;
        let columns = layouts
            .get(&segment.layout)
            .ok_or_else(|| StoreError::corrupt(format!("no layout {}", segment.layout)))?
            .list();
        let mut moved = 0;
        for row in &rows {
            moved += transaction
                .prepare_cached(&format!(
                    "INSERT OR IGNORE INTO scored_kept({columns}, layout) SELECT {columns}, ?2 FROM {table} WHERE rowid = ?1"
                ))?
                .execute(params![row, segment.layout])? as u64;
            transaction.prepare_cached(&format!("DELETE FROM {table} WHERE rowid = ?1"))?.execute(params![row])?;
        }
        let left = segment.rows.saturating_sub(rows.len() as u64);
        let is_done = (rows.len() as u64) < STEP_ROWS.unsigned_abs();
        if is_done {
            segments::drop_table(&transaction, segment.id)?;
            segments::renew_view(&transaction)?;
        } else {
            Segment { rows: left, ..segment.clone() }.update(&transaction)?;
        }
        transaction.commit()?;
        self.kept_rows += moved;
        Ok((moved, if is_done { left } else { 0 }))
    }

    /// Deletes at most `limit` kept rows with an event time before `before_ms`, the oldest first.
    fn delete_kept(&mut self, before_ms: i64, limit: i64) -> Result<u64, StoreError> {
        let deleted = self
            .conn
            .prepare_cached(
                "DELETE FROM scored_kept WHERE rowid IN (SELECT rowid FROM scored_kept INDEXED BY scored_kept_time
                 WHERE time < ?1 ORDER BY time LIMIT ?2)",
            )?
            .execute(params![before_ms, limit])? as u64;
        self.kept_rows = self.kept_rows.saturating_sub(deleted);
        Ok(deleted)
    }
}
