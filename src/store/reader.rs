//! Reading: predictions by event id and by page, labels to join, recovery, and figures about the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::ids::Ids;
use super::page::{self, Filter, Page};
use super::segments::{self, Segment};
use super::{LabelRow, Limits, ModelRow, QualityRow, Recovered, StoreError, StoredPrediction};
use super::{columns, find, labels, models, state};

/// A read-only connection. Every answer is of one moment; commits go on meanwhile.
#[derive(Debug)]
pub struct Reader {
    conn: Connection,
    ids: Arc<Ids>,
    limits: Limits,
}

/// How many labels are where. A revoked one is in neither `anomaly` nor `normal`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LabelCounts {
    pub pending: u64,
    pub joined: u64,
    pub expired: u64,
    pub anomaly: u64,
    pub normal: u64,
}

/// Figures about the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub segments: u64,
    /// Rows in segments.
    pub rows: u64,
    /// Rows in `scored_kept`.
    pub rows_kept: u64,
    /// Event times in the segments.
    pub time_min_ms: Option<i64>,
    pub time_max_ms: Option<i64>,
    /// Size of the database, without its write-ahead log.
    pub bytes: u64,
    /// Of it, free for reuse.
    pub bytes_free: u64,
}

impl Reader {
    pub(super) fn new(conn: Connection, ids: Arc<Ids>, limits: Limits) -> Self {
        Self { conn, ids, limits }
    }

    /// The newest stored row of this event, with its label.
    ///
    /// # Errors
    /// What the database refuses; so for all calls here.
    pub fn prediction(&mut self, event_id: &str) -> Result<Option<StoredPrediction>, StoreError> {
        let view = View::new(&self.conn, &self.ids)?;
        view.prediction(event_id)
    }

    /// A page of rows, newest first. Following the cursors meets every row that stays stored exactly once.
    ///
    /// # Errors
    /// [`StoreError::Cursor`] for a cursor that is none.
    pub fn predictions(&mut self, filter: &Filter) -> Result<Page, StoreError> {
        let rows_max = self.limits.page_rows_max.max(1);
        let limit = if filter.limit == 0 { rows_max } else { filter.limit.min(rows_max) };
        let view = View::new(&self.conn, &self.ids)?;
        let mut found = page::find(&view.conn, &view.segments, filter, limit)?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = found.last().filter(|_| has_more).map(|(key, _)| page::cursor(key));
        let rows = found.iter().map(|(_, located)| view.load(located)).collect::<Result<_, _>>()?;
        Ok(Page { rows, next_cursor })
    }

    /// Pending labels, revocations among them, whose event is stored: what the joiner can send to the label log. Oldest first.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn pending_with_event(&mut self, limit: usize) -> Result<Vec<(LabelRow, StoredPrediction)>, StoreError> {
        let view = View::new(&self.conn, &self.ids)?;
        let mut pairs = Vec::new();
        if limit == 0 {
            return Ok(pairs);
        }
        labels::to_join(&view.conn, |label| {
            // An event that has been evicted meanwhile holds nobody up; its label expires in time.
            if let Some(stored) = view.prediction(&label.verdict.event_id)? {
                pairs.push((label, stored));
            }
            Ok(pairs.len() < limit)
        })?;
        Ok(pairs)
    }

    /// The current label of an event, stored or not.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn label(&mut self, event_id: &str) -> Result<Option<LabelRow>, StoreError> {
        labels::get(&self.conn, event_id)
    }

    /// How many labels there are.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn label_counts(&mut self) -> Result<LabelCounts, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT label, state, COUNT(*) FROM labels GROUP BY label, state")?;
        let mut found = statement.query([])?;
        let mut counts = LabelCounts::default();
        while let Some(row) = found.next()? {
            let number = row.get::<_, i64>(2)?.unsigned_abs();
            match row.get_ref(0)?.as_str_or_null().map_err(rusqlite::Error::from)? {
                Some("anomaly") => counts.anomaly += number,
                Some(_) => counts.normal += number,
                None => {}
            }
            match row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)? {
                "pending" => counts.pending += number,
                "joined" => counts.joined += number,
                _ => counts.expired += number,
            }
        }
        Ok(counts)
    }

    /// What recovery of a partition starts from under this plan; None for one that has never been committed.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn load(&mut self, topic: &str, partition: i32, plan_hash: u64) -> Result<Option<Recovered>, StoreError> {
        let transaction = self.conn.unchecked_transaction()?;
        state::load(&transaction, topic, partition, plan_hash)
    }

    /// Where reading of a partition goes on: at its snapshot, or without one under this plan where scoring stopped.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn position(&mut self, topic: &str, partition: i32, plan_hash: u64) -> Result<Option<i64>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT COALESCE(s.offset, o.scored_through) FROM offsets o LEFT JOIN snapshots s
             ON s.topic = o.topic AND s.partition = o.partition AND s.plan_hash = ?3
             WHERE o.topic = ?1 AND o.partition = ?2",
        )?;
        Ok(statement.query_row(params![topic, partition, plan_hash.cast_signed()], |row| row.get(0)).optional()?)
    }

    /// How far each partition of a topic has been committed.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn offsets(&mut self, topic: &str) -> Result<BTreeMap<i32, i64>, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT partition, scored_through FROM offsets WHERE topic = ?1")?;
        let found = statement.query_map([topic], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The model versions that each partition of a topic may ask for at recovery, oldest first.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn adopted_versions(&mut self, topic: &str) -> Result<BTreeMap<i32, Vec<i64>>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT partition, label_offset FROM adoptions WHERE topic = ?1 ORDER BY partition, from_offset",
        )?;
        let mut versions = BTreeMap::<i32, Vec<i64>>::new();
        let mut found = statement.query([topic])?;
        while let Some(row) = found.next()? {
            versions.entry(row.get(0)?).or_default().push(row.get(1)?);
        }
        Ok(versions)
    }

    /// How far a partition, of events or of labels, has been committed.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn offset(&mut self, topic: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT scored_through FROM offsets WHERE topic = ?1 AND partition = ?2")?;
        Ok(statement.query_row(params![topic, partition], |row| row.get(0)).optional()?)
    }

    /// The newest version of every model, or with a name the kept versions of that one, newest first.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn models(&mut self, name: Option<&str>) -> Result<Vec<ModelRow>, StoreError> {
        models::read(&self.conn, name)
    }

    /// The newest measurements of a model's quality, newest first.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn quality(&mut self, name: &str, limit: u32) -> Result<Vec<QualityRow>, StoreError> {
        models::quality(&self.conn, name, limit)
    }

    /// Figures about the store.
    ///
    /// # Errors
    /// What the database refuses.
    pub fn stats(&mut self) -> Result<Stats, StoreError> {
        let view = View::new(&self.conn, &self.ids)?;
        let number = |sql: &str| -> Result<u64, StoreError> {
            Ok(view.conn.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
        };
        let page_bytes = number("PRAGMA page_size")?;
        Ok(Stats {
            segments: view.segments.len() as u64,
            rows: view.segments.iter().map(|segment| segment.rows).sum(),
            rows_kept: number("SELECT COUNT(*) FROM scored_kept")?,
            time_min_ms: view.segments.iter().filter_map(|segment| segment.times).map(|times| times.0).min(),
            time_max_ms: view.segments.iter().filter_map(|segment| segment.times).map(|times| times.1).max(),
            bytes: page_bytes * number("PRAGMA page_count")?,
            bytes_free: page_bytes * number("PRAGMA freelist_count")?,
        })
    }
}

/// The database at one moment.
struct View<'a> {
    conn: rusqlite::Transaction<'a>,
    ids: &'a Ids,
    segments: Vec<Segment>,
    layouts: columns::Layouts,
}

impl<'a> View<'a> {
    fn new(conn: &'a Connection, ids: &'a Ids) -> Result<Self, StoreError> {
        let conn = conn.unchecked_transaction()?;
        let segments = segments::all(&conn)?;
        let layouts = columns::layouts(&conn)?;
        Ok(Self { conn, ids, segments, layouts })
    }

    fn prediction(&self, event_id: &str) -> Result<Option<StoredPrediction>, StoreError> {
        let located = find::event(&self.conn, self.ids, &self.segments, event_id)?;
        located.map(|located| self.load(&located)).transpose()
    }

    fn load(&self, located: &find::Located) -> Result<StoredPrediction, StoreError> {
        let (row, columns) = find::load(&self.conn, &self.layouts, located)?;
        let label = labels::get(&self.conn, &row.event_id)?;
        Ok(StoredPrediction { row, columns, label })
    }
}
