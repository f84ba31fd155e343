//! Where the events of the segments without an event-id index are: 20 bytes per row in memory instead of a random index on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use xxhash_rust::xxh3::xxh3_64;

/// By segment: (hash of the event id, row number). The hash only narrows the search; the row says whether it is the event.
#[derive(Debug, Default)]
pub(super) struct Ids {
    segments: Mutex<BTreeMap<i64, BTreeSet<(u64, i64)>>>,
}

impl Ids {
    pub(super) fn hash(event_id: &str) -> u64 {
        xxh3_64(event_id.as_bytes())
    }

    /// Adds rows of a segment.
    pub(super) fn extend(&self, segment: i64, rows: &[(u64, i64)]) {
        self.lock().entry(segment).or_default().extend(rows);
    }

    /// The segment has its index now, or is gone.
    pub(super) fn forget(&self, segment: i64) {
        self.lock().remove(&segment);
    }

    /// The rows that may be this event, newest first; None when the segment is not held here.
    pub(super) fn find(&self, segment: i64, event_id: &str) -> Option<Vec<i64>> {
        let hash = Self::hash(event_id);
        let segments = self.lock();
        let rows = segments.get(&segment)?;
        Some(rows.range((hash, i64::MIN)..=(hash, i64::MAX)).rev().map(|(_, row)| *row).collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, BTreeSet<(u64, i64)>>> {
        self.segments.lock().expect("no holder of the lock can panic")
    }
}
