//! When refits are due that nobody asked for. Time comes in as an argument: that of label-log records, and the present.

use crate::config::RefitWhen;

/// Counts the labels that no refit has had yet. What the label log says of the time before a restart counts, too.
#[derive(Debug)]
pub(super) struct Schedule {
    when: RefitWhen,
    labels: u64,
    /// When the first of them came.
    first_ms: i64,
    /// The last refit.
    refitted_ms: i64,
}

impl Schedule {
    pub(super) fn new(when: RefitWhen) -> Self {
        Self { when, labels: 0, first_ms: 0, refitted_ms: 0 }
    }

    /// The models have learned so many labels more.
    pub(super) fn learned(&mut self, labels: u64, at_ms: i64) {
        if self.labels == 0 {
            self.first_ms = at_ms;
        }
        self.labels += labels;
    }

    /// What was learned before is in a refit.
    pub(super) fn refitted(&mut self, at_ms: i64) {
        self.labels = 0;
        self.refitted_ms = self.refitted_ms.max(at_ms);
    }

    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        // A label may carry an early time: the period since the last refit holds all the same.
        let since_ms = now_ms - self.first_ms.max(self.refitted_ms);
        self.labels >= RefitWhen::LABELS_MIN
            && match self.when {
                RefitWhen::Never => false,
                RefitWhen::Every(period_ms) => since_ms >= period_ms,
                RefitWhen::Labels(labels) => self.labels >= labels,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_begins_with_the_first_new_label_or_with_the_last_refit() {
        let mut schedule = Schedule::new(RefitWhen::Every(1_000));
        assert!(!schedule.is_due(1_000_000), "no label");
        schedule.learned(49, 5_000);
        assert!(!schedule.is_due(1_000_000), "too few");
        schedule.learned(1, 5_900);
        assert!(!schedule.is_due(5_999) && schedule.is_due(6_000));
        schedule.refitted(6_000);
        schedule.learned(80, 1);
        assert!(!schedule.is_due(6_999) && schedule.is_due(7_000), "labels of an early time");
    }

    #[test]
    fn a_count_needs_no_time_and_never_is_never() {
        let mut schedule = Schedule::new(RefitWhen::Labels(100));
        schedule.learned(99, 0);
        assert!(!schedule.is_due(i64::MAX / 2));
        schedule.learned(1, 0);
        assert!(schedule.is_due(0));
        let mut never = Schedule::new(RefitWhen::Never);
        never.learned(1_000_000, 0);
        assert!(!never.is_due(i64::MAX / 2));
    }
}
