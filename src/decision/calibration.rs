//! One seeded reservoir per partition: what strangeness is ordinary here, for each model and for all of them together.

use serde::{Deserialize, Serialize};

use super::table::Table;
use super::{guard, score};
use crate::draw::{Draw, Purpose};
use crate::model::{Encoded, LearnsFrom, Part, Progress};

/// Events in the reservoir. Of 1,000, a tail rests on the 20 strangest, and changes with each of them: on the KDD 1999 http stream the average
/// precision of the score was .57 (over six seeds from .35 to .77), of 4,000 it is .74 (.70 to .79); 8,000 gained .02 (three seeds) for twice the memory.
pub const ENTRIES_MAX: usize = 4000;

/// Entries before a p-value can be relied on: before, the guard holds nothing back, and nothing should alarm.
pub const ENTRIES_MIN: u64 = 100;

/// Scores of a model before it has a p-value at all. Among 20, p is coarse, and better than nothing on short streams.
const SCORES_MIN: usize = 20;

/// At this age the first entries leave: detectors scored them that had seen next to nothing, so they make what is strange ordinary. Without that, NAB's
/// score with a quiet day is 62 instead of 66 (its series have 1,100 to 16,000 rows; three seeds).
const COLD_AGE: u64 = 1000;
const COLD_ENTRIES: usize = 200;

/// Scores of a broad detector before it has all of its weight. With 4,000, F1 on SKAB was .78 instead of .73, and the AUC on mammography .854
/// instead of .865.
const GROWN_SCORES: f64 = 1000.0;

/// The entries' means are computed anew when one of so many parts of the entries has changed. While the reservoir fills more often: with 8, the average
/// precision on ionosphere (351 rows) is .87 instead of .89.
const REFRESH_PARTS_YOUNG: usize = 16;
const REFRESH_PARTS: usize = 8;

/// An event replaces an entry with probability `ENTRIES_MAX` / min(seen, this), so an incident shorter than guard level times this
/// many events does not become normal, and a longer one does; beside the clusters that are left out.
///
/// At 100,000 the two bursts of the KDD 1999 http stream (1,000 events each) made themselves ordinary: with regression as the only
/// detector its AUC was .986 to .995 over six seeds; at 200,000 it was .993 to .995, and 300,000 gained nothing.
pub const CALIBRATION_MEMORY: u64 = 200_000;

/// A cluster: more than this share of about the last [`CLUSTER_EVENTS`] events were held back. Where events are independent of each other and 2 %
/// are held back, that is so for one in some 4,000 of these.
const CLUSTER_SHARE: f64 = 0.3;
const CLUSTER_EVENTS: f64 = 10.0;

/// At most so many events that the guard holds back in clusters do not enter, and fewer in a younger stream ([`Calibration::spared_max`]); they
/// are forgotten over [`SPARED_MEMORY`] events. Else, in a stream of 500, the first ten events of an incident make the rest ordinary. What comes in
/// clusters all the time enters, for it is ordinary here.
///
/// Mean of three or four seeds, with a reservoir of 1,000: on SKAB (incidents of 400 rows after 570) F1 at p = .001 is .69 with this and .01 without,
/// on the KDD 1999 http stream the average precision .51 and .39.
const SPARED_MAX: f64 = 900.0;
/// In a younger stream half of its events, up to so many until this age, and from there on as much fewer as it is older. NAB's score with a quiet day
/// (three seeds, with the cold entries): 61.8 with an age of 1,000, 62.5 with 2,000, 61.4 with 3,000.
const SPARED_YOUNG: f64 = 500.0;
const SPARED_YOUNG_AGE: f64 = 2000.0;
/// This share of all events, when they are many. With half of all, up to 900, NAB's score with a quiet day was lower by three: its series of
/// 1,500 to 16,000 rows have bursts.
const SPARED_SHARE: f64 = 0.01;
const SPARED_MEMORY: f64 = 50_000.0;

/// Past events with the strangeness that each model gave them. Alarms enter, too, but for some in clusters: leaving all of them out trims the
/// tail that the threshold is read from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    draw: Draw,
    parts: Vec<Part>,
    seen: u64,
    /// The share of events held back of late, fading by [`CLUSTER_EVENTS`].
    held_back_lately: f64,
    /// Events that did not enter because of their cluster, fading by [`SPARED_MEMORY`].
    spared: f64,
    entries: Vec<Entry>,
    tables: Vec<Table>,
    /// Mean scores over the detectors, and over all parts.
    unsupervised: Table,
    total: Table,
    /// What each part's score weighs in the total.
    weights: Vec<f64>,
    /// Entries added or replaced since the means were computed anew.
    stale: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// For the label learners of a new version; empty where there are none.
    encoded: Encoded,
    strangeness: Vec<Option<f64>>,
    unsupervised: f64,
    total: f64,
}

/// The surprises (-log10 p) of one event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// By model; None while the model does not vote or has fewer than 20 scores here.
    pub parts: Vec<Option<f64>>,
    /// By the detectors alone, for the guard. None until [`Calibration::progress`] is ready.
    pub unsupervised: Option<f64>,
    /// By all models together: the p-value of the event.
    pub total: Option<f64>,
}

impl Calibration {
    /// `parts`: what each model is, in the order in which strangeness will be given.
    #[must_use]
    pub fn new(parts: &[Part], draw: Draw) -> Self {
        Self {
            draw,
            parts: parts.to_vec(),
            seen: 0,
            held_back_lately: 0.0,
            spared: 0.0,
            entries: Vec::new(),
            tables: vec![Table::default(); parts.len()],
            unsupervised: Table::default(),
            total: Table::default(),
            weights: parts.iter().map(|part| part.weight).collect(),
            stale: 0,
        }
    }

    /// Entries of the model that has most of them, of those needed before there is a p-value.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let seen = self.tables.iter().map(Table::len).max().unwrap_or(0);
        Progress { seen: seen as u64, needed: ENTRIES_MIN }
    }

    /// The surprises of an event by the strangeness of each model (None: it does not vote).
    ///
    /// # Panics
    /// When there is not one strangeness for each part.
    #[must_use]
    pub fn judge(&self, strangeness: &[Option<f64>]) -> Judgement {
        let parts = self.surprises(strangeness);
        let unsupervised =
            self.together(&parts, is_detector, || self.unsupervised.surprise(self.unsupervised_mean(&parts)));
        let unsupervised = unsupervised.filter(|_| self.progress().ready());
        let total = self.together(&parts, |_| true, || self.total.surprise(self.total_mean(&parts)));
        Judgement { parts, unsupervised, total }
    }

    /// `several` when more than one of these parts has a table to speak of; one alone has its own surprise. None when none spoke.
    fn together(
        &self,
        surprises: &[Option<f64>],
        of: impl Fn(&Part) -> bool + Copy,
        several: impl FnOnce() -> f64,
    ) -> Option<f64> {
        if !self.speak(surprises, of) {
            return None;
        }
        let mut able = (0..self.parts.len()).filter(|i| of(&self.parts[*i]) && self.tables[*i].len() >= SCORES_MIN);
        match (able.next(), able.next()) {
            (Some(alone), None) => surprises[alone],
            _ => Some(several()),
        }
    }

    /// Whether any of these parts has said something.
    fn speak(&self, said: &[Option<f64>], of: impl Fn(&Part) -> bool) -> bool {
        self.parts.iter().zip(said).any(|(part, said)| of(part) && said.is_some())
    }

    /// Lets the judged event at offset `index` into the reservoir, with the probability that is due.
    ///
    /// # Panics
    /// When there is not one strangeness for each part.
    pub fn learn(&mut self, index: u64, encoded: &Encoded, strangeness: &[Option<f64>], judgement: &Judgement) {
        assert_eq!(strangeness.len(), self.parts.len(), "a strangeness for every model");
        // While no detector is ready there is nothing to keep: the entry would be a hole until it is replaced.
        if self.parts.iter().any(is_detector) && !self.speak(strangeness, is_detector) {
            return;
        }
        let probability = self.entry_probability(guard::holds_back(judgement.unsupervised));
        if probability == 1.0 || self.draw.chance(Purpose::CalibrationEnter, index, probability) {
            self.enter(index, encoded, strangeness, judgement);
        }
        if self.seen == COLD_AGE {
            self.forget_cold_entries();
        }
    }

    fn enter(&mut self, index: u64, encoded: &Encoded, strangeness: &[Option<f64>], judgement: &Judgement) {
        let entry = Entry {
            encoded: if self.parts.iter().all(is_detector) { Encoded::default() } else { encoded.clone() },
            strangeness: strangeness.to_vec(),
            unsupervised: self.unsupervised_mean(&judgement.parts),
            total: self.total_mean(&judgement.parts),
        };
        if self.entries.len() < ENTRIES_MAX {
            for (table, strangeness) in self.tables.iter_mut().zip(strangeness) {
                if let Some(strangeness) = strangeness {
                    table.insert(*strangeness);
                }
            }
            self.unsupervised.insert(entry.unsupervised);
            self.total.insert(entry.total);
            self.entries.push(entry);
        } else {
            let slot = (self.draw.bits(Purpose::CalibrationSlot, index) % ENTRIES_MAX as u64) as usize;
            let old = &self.entries[slot];
            for (i, table) in self.tables.iter_mut().enumerate() {
                match (old.strangeness[i], strangeness[i]) {
                    (Some(old), Some(new)) => table.replace(old, new),
                    (None, Some(new)) => table.insert(new),
                    (Some(old), None) => table.remove(old),
                    (None, None) => {}
                }
            }
            self.unsupervised.replace(old.unsupervised, entry.unsupervised);
            self.total.replace(old.total, entry.total);
            self.entries[slot] = entry;
        }
        self.stale += 1;
        // The means were computed from tables that have moved since.
        let parts = if self.entries.len() < ENTRIES_MAX { REFRESH_PARTS_YOUNG } else { REFRESH_PARTS };
        if self.stale >= (self.entries.len() / parts).max(1) {
            self.refresh();
        }
    }

    /// Counts the event in, and answers the probability with which it enters.
    fn entry_probability(&mut self, held_back: bool) -> f64 {
        self.seen += 1;
        self.held_back_lately += (f64::from(u8::from(held_back)) - self.held_back_lately) / CLUSTER_EVENTS;
        self.spared -= self.spared / SPARED_MEMORY;
        let clustered = held_back && self.held_back_lately > CLUSTER_SHARE;
        if clustered && self.spared < self.spared_max() {
            self.spared += 1.0;
            return 0.0;
        }
        if self.entries.len() < ENTRIES_MAX {
            return 1.0;
        }
        ENTRIES_MAX as f64 / self.seen.min(CALIBRATION_MEMORY) as f64
    }

    /// Half of the events up to 500; from an age of 2,000 on fewer, down to 100 at 10,000; from there on 1 % of all, up to 900.
    fn spared_max(&self) -> f64 {
        let seen = self.seen as f64;
        let young = (seen / 2.0).min(SPARED_YOUNG).min(SPARED_YOUNG * SPARED_YOUNG_AGE / seen);
        young.max(SPARED_SHARE * seen).min(SPARED_MAX)
    }

    /// Gives the label learners' parts of every entry the strangeness of a new model version, and computes everything anew.
    /// `rescore` answers one for each of them; the detectors keep theirs, for they have learned since. From now on the parts weigh
    /// `weights` in the total; the guard's mean over the detectors stays as it is, for no label may move it.
    ///
    /// # Panics
    /// When `rescore` does not answer one for each label learner.
    pub fn adopt(&mut self, weights: &[f64], rescore: impl Fn(&Encoded) -> Vec<Option<f64>>) {
        assert_eq!(weights.len(), self.parts.len(), "a weight for every model");
        self.weights = weights.to_vec();
        let learners = self.parts.iter().enumerate().filter(|(_, part)| part.learns_from == LearnsFrom::Labels);
        let learners: Vec<usize> = learners.map(|(i, _)| i).collect();
        for entry in &mut self.entries {
            let scores = rescore(&entry.encoded);
            assert_eq!(scores.len(), learners.len(), "a strangeness for every label learner");
            for (i, score) in learners.iter().zip(scores) {
                entry.strangeness[*i] = score;
            }
        }
        learners.into_iter().for_each(|i| self.rebuild(i));
        self.refresh();
    }

    fn forget_cold_entries(&mut self) {
        self.entries.drain(..COLD_ENTRIES.min(self.entries.len() / 2));
        (0..self.tables.len()).for_each(|i| self.rebuild(i));
        self.refresh();
    }

    /// The table of one part, from the entries.
    fn rebuild(&mut self, part: usize) {
        self.tables[part] = Table::new(self.entries.iter().filter_map(|entry| entry.strangeness[part]).collect());
    }

    fn refresh(&mut self) {
        for i in 0..self.entries.len() {
            let parts = self.surprises(&self.entries[i].strangeness);
            self.entries[i].unsupervised = self.unsupervised_mean(&parts);
            self.entries[i].total = self.total_mean(&parts);
        }
        self.unsupervised = Table::new(self.entries.iter().map(|entry| entry.unsupervised).collect());
        self.total = Table::new(self.entries.iter().map(|entry| entry.total).collect());
        self.stale = 0;
    }

    fn surprises(&self, strangeness: &[Option<f64>]) -> Vec<Option<f64>> {
        assert_eq!(strangeness.len(), self.parts.len(), "a strangeness for every model");
        let each = self.tables.iter().zip(strangeness);
        each.map(|(table, strangeness)| {
            let ready = table.len() >= SCORES_MIN;
            strangeness.filter(|_| ready).map(|strangeness| table.surprise(strangeness))
        })
        .collect()
    }

    /// The weighted mean of the scores: a score is bounded, so no part alone drowns the others, however heavy its tail. A part that can
    /// speak and does not is taken as ordinary (p = .5), so that means stay comparable; one that cannot yet does not count.
    fn mean(&self, surprises: &[Option<f64>], weight: impl Fn(usize) -> f64) -> f64 {
        let able = || (0..self.parts.len()).filter(|i| self.tables[*i].len() >= SCORES_MIN);
        let grown = |i: usize| {
            let share = (self.tables[i].len() as f64 / GROWN_SCORES).min(1.0);
            weight(i) * if self.parts[i].broad { share * share } else { 1.0 }
        };
        // What broad detectors do not weigh yet, the other detectors do: models that learn from labels gain nothing by it.
        let detectors = || able().filter(|i| is_detector(&self.parts[*i]));
        let (due, have) = (detectors().map(&weight).sum::<f64>(), detectors().map(grown).sum::<f64>());
        let (mut sum, mut weights) = (0.0, 0.0);
        for i in able() {
            let weight = if is_detector(&self.parts[i]) { grown(i) * due / have } else { weight(i) };
            sum += weight * score(surprises[i].unwrap_or(std::f64::consts::LOG10_2));
            weights += weight;
        }
        if weights > 0.0 { sum / weights } else { 0.0 }
    }

    fn unsupervised_mean(&self, surprises: &[Option<f64>]) -> f64 {
        self.mean(surprises, |i| if is_detector(&self.parts[i]) { self.parts[i].weight } else { 0.0 })
    }

    fn total_mean(&self, surprises: &[Option<f64>]) -> f64 {
        self.mean(surprises, |i| self.weights[i])
    }
}

fn is_detector(part: &Part) -> bool {
    part.learns_from == LearnsFrom::Events
}
