//! The writer: one commit is one transaction, and after a failure it is as if it had not been tried.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::FixedState;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::ids::Ids;
use super::segments::{Segment, SegmentState};
use super::sqlite::Shared;
use super::{Commit, Committed, Layout, Limits, PartitionCommit, StoreError, StoredColumns};
use super::{columns, find, labels, models, rows, segments, state};

/// Full segments that may wait for their indexes before a commit builds them itself.
const FULL_MAX: usize = 2;

/// The one that writes. It belongs to one thread; dropping it loses nothing that was committed.
#[derive(Debug)]
pub struct Writer {
    pub(super) conn: Connection,
    pub(super) shared: Arc<Shared>,
    layout: i64,
    columns: Arc<StoredColumns>,
    pub(super) open: Segment,
    /// Segments that are full and not sealed, oldest first.
    pub(super) full: Vec<Segment>,
    /// Hashes of the event ids of pending labels, and of some that were: a row that meets one asks the table.
    waiting: HashSet<u64, FixedState>,
    pub(super) segment_rows: u64,
    /// Rows of `scored_kept`.
    pub(super) kept_rows: u64,
}

pub(super) fn begin(conn: &Connection) -> Result<Transaction<'_>, StoreError> {
    Ok(Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?)
}

impl Writer {
    pub(super) fn new(conn: Connection, shared: Arc<Shared>, layout: Layout<'_>) -> Result<Self, StoreError> {
        let transaction = begin(&conn)?;
        let (layout, columns) = columns::register(&transaction, &layout)?;
        let existing = segments::all(&transaction)?;
        let open = existing.iter().find(|segment| segment.state == SegmentState::Open && segment.layout == layout);
        let open = match open {
            Some(open) => open.clone(),
            None => segments::open_new(&transaction, layout, &columns)?,
        };
        transaction.commit()?;
        let full = segments::all(&conn)?.into_iter().filter(|segment| segment.state == SegmentState::Full).collect();
        segments::load_ids(&conn, &shared.ids)?;
        shared.ids.extend(open.id, Vec::new());
        // From 8 segments, so that dropping one is not dropping much, to 150, which leaves some for plan edits and for time.
        let Limits { segment_rows, stored_rows_max, .. } = shared.limits;
        let segment_rows = segment_rows.min(stored_rows_max / 8).max(stored_rows_max / 150).max(1);
        let kept_rows: i64 = conn.query_row("SELECT COUNT(*) FROM scored_kept", [], |row| row.get(0))?;
        let kept_rows = kept_rows.unsigned_abs();
        let waiting = HashSet::default();
        let mut writer = Self { conn, shared, layout, columns, open, full, waiting, segment_rows, kept_rows };
        writer.load_waiting()?;
        Ok(writer)
    }

    /// Stores all of this, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when a partition is not where `expected_offset` says, and what the database refuses.
    ///
    /// # Panics
    /// When a row is not of its part's partition, lies beyond `next_offset` or does not have the layout's columns.
    pub fn commit(&mut self, commit: &Commit) -> Result<Committed, StoreError> {
        self.make_room()?;
        let mut committed = Committed::default();
        let mut ids = Vec::with_capacity(commit.parts.iter().map(|part| part.rows.len()).sum());
        let mut open = self.open.clone();
        let transaction = begin(&self.conn)?;
        if !commit.labels.verdicts.is_empty() {
            self.waiting.extend(commit.labels.verdicts.iter().map(|verdict| Ids::hash(&verdict.event_id)));
            let existing = segments::all(&transaction)?;
            let is_stored = |id: &str| Ok(find::event(&transaction, &self.shared.ids, &existing, id)?.is_some());
            labels::write(&transaction, &commit.labels, &self.shared.limits, &is_stored, &mut committed)?;
        } else {
            labels::write(&transaction, &commit.labels, &self.shared.limits, &|_| Ok(false), &mut committed)?;
        }
        for part in &commit.parts {
            advance(&transaction, &part.topic, part.partition, part.expected_offset, part.next_offset)?;
            append(&transaction, &self.columns, &mut open, part, &self.waiting, &mut ids)?;
            state::write(&transaction, part)?;
        }
        models::write(&transaction, &commit.models, &commit.quality)?;
        if !ids.is_empty() {
            open.update(&transaction)?;
        }
        committed.rows = ids.len() as u64;
        // Before the rows can be seen: an entry without its row misleads nobody, for the row has the last word.
        self.shared.ids.extend(open.id, ids);
        transaction.commit()?;
        self.open = open;
        Ok(committed)
    }

    /// Starts a new segment when the open one is full.
    fn make_room(&mut self) -> Result<(), StoreError> {
        if self.open.rows >= self.segment_rows {
            self.roll()?;
        }
        while self.full.len() > FULL_MAX {
            self.seal_step()?;
        }
        let waiting_max = 1024 + 2 * usize::try_from(self.shared.limits.pending_labels_max).unwrap_or(usize::MAX / 4);
        if self.waiting.len() > waiting_max {
            self.load_waiting()?;
        }
        Ok(())
    }

    /// Closes the open segment and opens a new one.
    pub(super) fn roll(&mut self) -> Result<(), StoreError> {
        let transaction = begin(&self.conn)?;
        let open = segments::open_new(&transaction, self.layout, &self.columns)?;
        transaction.commit()?;
        self.shared.ids.extend(open.id, Vec::new());
        let mut closed = std::mem::replace(&mut self.open, open);
        if closed.rows > 0 {
            closed.state = SegmentState::Full;
            self.full.push(closed);
        } else {
            self.shared.ids.forget(closed.id);
        }
        Ok(())
    }

    /// Builds one index of the oldest full segment.
    pub(super) fn seal_step(&mut self) -> Result<(), StoreError> {
        let Some(segment) = self.full.first_mut() else { return Ok(()) };
        let transaction = begin(&self.conn)?;
        let mut sealed = segment.clone();
        let is_sealed = segments::seal_step(&transaction, &mut sealed)?;
        transaction.commit()?;
        if is_sealed {
            self.shared.ids.forget(sealed.id);
            self.full.remove(0);
        }
        Ok(())
    }

    fn load_waiting(&mut self) -> Result<(), StoreError> {
        let mut statement = self.conn.prepare("SELECT event_id FROM labels WHERE state = 'pending'")?;
        let mut found = statement.query([])?;
        self.waiting.clear();
        while let Some(row) = found.next()? {
            self.waiting.insert(Ids::hash(&row.get::<_, String>(0)?));
        }
        Ok(())
    }
}

/// Moves a partition's offset on, if it is where the caller thinks.
pub(super) fn advance(
    conn: &Connection,
    topic: &str,
    partition: i32,
    expected: Option<i64>,
    next: i64,
) -> Result<(), StoreError> {
    let stored: Option<i64> = conn
        .prepare_cached("SELECT scored_through FROM offsets WHERE topic = ?1 AND partition = ?2")?
        .query_row(params![topic, partition], |row| row.get(0))
        .optional()?;
    if stored != expected {
        return Err(StoreError::Fenced { topic: topic.to_owned(), partition, expected, stored });
    }
    conn.prepare_cached("INSERT OR REPLACE INTO offsets(topic, partition, scored_through) VALUES (?1, ?2, ?3)")?
        .execute(params![topic, partition, next])?;
    Ok(())
}

/// Appends a partition's rows to the open segment, and tells the labels that wait for them.
fn append(
    conn: &Connection,
    columns: &StoredColumns,
    open: &mut Segment,
    part: &PartitionCommit,
    waiting: &HashSet<u64, FixedState>,
    ids: &mut Vec<(u64, i64)>,
) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(&rows::insert_sql(&open.table(), columns))?;
    for row in &part.rows {
        let at = || format!("{}/{} offset {}", row.topic, row.partition, row.offset);
        assert!(row.topic == part.topic && row.partition == part.partition, "{} is of another partition", at());
        assert!(row.offset < part.next_offset, "{} is beyond {}", at(), part.next_offset);
        assert!(
            row.scores.len() == columns.models.len()
                && row.features.numbers.len() == columns.numbers.len()
                && row.features.categories.len() == columns.categories.len(),
            "{} does not have the columns of the layout",
            at()
        );
        rows::insert(&mut statement, row)?;
        let hash = Ids::hash(&row.event_id);
        if waiting.contains(&hash) {
            labels::mark_stored(conn, &row.event_id)?;
        }
        ids.push((hash, conn.last_insert_rowid()));
        open.times = Some(
            open.times.map_or((row.time_ms, row.time_ms), |(min, max)| (min.min(row.time_ms), max.max(row.time_ms))),
        );
    }
    open.rows += part.rows.len() as u64;
    Ok(())
}
