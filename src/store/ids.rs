//! Where the events of the segments without an event-id index are: 16 bytes per row in memory instead of a random index on disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use xxhash_rust::xxh3::xxh3_64;

/// Hash of the event id, row number. The hash only narrows the search; the row says whether it is the event.
type Entry = (u64, i64);

/// The entries of every segment that is held here.
#[derive(Debug, Default)]
pub(super) struct Ids {
    segments: Mutex<BTreeMap<i64, Runs>>,
}

impl Ids {
    pub(super) fn hash(event_id: &str) -> u64 {
        xxh3_64(event_id.as_bytes())
    }

    /// Adds rows of a segment.
    pub(super) fn extend(&self, segment: i64, rows: Vec<Entry>) {
        self.lock().entry(segment).or_default().push(rows);
    }

    /// The segment has its index now, or is gone.
    pub(super) fn forget(&self, segment: i64) {
        self.lock().remove(&segment);
    }

    /// The rows that may be this event, newest first; None when the segment is not held here.
    pub(super) fn find(&self, segment: i64, event_id: &str) -> Option<Vec<i64>> {
        Some(self.lock().get(&segment)?.find(Self::hash(event_id)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Runs>> {
        self.segments.lock().expect("no holder of the lock can panic")
    }
}

/// Sorted runs, each more than twice as long as the next: to look into one of them per doubling is cheap, and so is to merge one, while a
/// tree pays for every entry with a walk through cold memory (O'Neil 1996, the log-structured merge tree).
#[derive(Debug, Default)]
struct Runs(Vec<Vec<Entry>>);

impl Runs {
    fn push(&mut self, mut run: Vec<Entry>) {
        if run.is_empty() {
            return;
        }
        run.sort_unstable();
        while let Some(mut longer) = self.0.pop_if(|last| last.len() <= 2 * run.len()) {
            longer.reserve_exact(run.len());
            longer.append(&mut run);
            longer.sort(); // the stable sort sees that these are two runs, and merges them
            run = longer;
        }
        self.0.push(run);
    }

    fn find(&self, hash: u64) -> Vec<i64> {
        let mut rows = Vec::new();
        for run in &self.0 {
            let start = run.partition_point(|entry| entry.0 < hash);
            rows.extend(run[start..].iter().take_while(|entry| entry.0 == hash).map(|entry| entry.1));
        }
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_newest_first_in_few_runs() {
        let mut runs = Runs::default();
        let mut row = 0;
        for commit in 0..500_i64 {
            // Commits of 1 to 37 rows, each hash three times over all.
            let rows = 1 + (commit * 17) % 37;
            runs.push((0..rows).map(|i| (hash((row + i) / 3), row + i)).collect());
            row += rows;
        }
        let entries: usize = runs.0.iter().map(Vec::len).sum();
        assert_eq!(entries as i64, row);
        assert!(runs.0.windows(2).all(|pair| pair[0].len() > 2 * pair[1].len()), "runs of {:?}", lengths(&runs));
        for wanted in 0..row / 3 {
            assert_eq!(runs.find(hash(wanted)), [3 * wanted + 2, 3 * wanted + 1, 3 * wanted]);
        }
        assert!(runs.find(1).is_empty());
    }

    fn hash(event: i64) -> u64 {
        Ids::hash(&event.to_string())
    }

    fn lengths(runs: &Runs) -> Vec<usize> {
        runs.0.iter().map(Vec::len).collect()
    }
}
