//! What the demo measured, in words: the whole, the two halves, and whether the second is better.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::follower::{Followed, Row};
use crate::quality;

/// What is known when all has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) seconds: f64,
    pub(super) sent: u64,
    pub(super) scored: u64,
    pub(super) dead_letters: u64,
    pub(super) labels_given: u64,
    pub(super) anomalies_learned: u64,
    pub(super) normals_learned: u64,
    pub(super) model_version: i64,
}

/// The figures of one half.
#[derive(Debug, Clone, PartialEq)]
struct Half {
    events: usize,
    anomalies: usize,
    auc: Option<f64>,
    average_precision: Option<f64>,
    /// By the detector alone, which no label reaches.
    detector_average_precision: Option<f64>,
    alarms: usize,
    alarms_true: usize,
    incidents: usize,
    incidents_found: usize,
}

pub(super) fn write(ending: &Ending, followed: &Followed) -> String {
    let mut out = String::new();
    let Ending { seconds, sent, scored, dead_letters, labels_given, anomalies_learned, normals_learned, .. } = ending;
    let found = followed.incidents.values().filter(|found| **found).count();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string cannot fail");
    line(format!("\nAfter {seconds:.1} s"));
    line(format!("consumed {} of {sent} events sent", scored + dead_letters));
    line(format!("scored {scored} events ({} while warming up), {dead_letters} dead letters", followed.warmup));
    let alarms_false = followed.alarms - followed.alarms_true;
    line(format!("raised {} alarms: {} true, {alarms_false} false", followed.alarms, followed.alarms_true));
    line(format!("found {found} of {} incidents", followed.incidents.len()));
    line(format!(
        "given {labels_given} labels, learned {}: {anomalies_learned} anomaly, {normals_learned} normal; model version {}",
        anomalies_learned + normals_learned,
        ending.model_version
    ));
    let (first, second) = halves(followed);
    line(format!("\n{:<34} {:>12} {:>12}", "against the truth, after warm-up", "first half", "second half"));
    let mut row = |name: &str, figure: &dyn Fn(&Half) -> String| {
        line(format!("{name:<34} {:>12} {:>12}", figure(&first), figure(&second)));
    };
    row("events", &|half| half.events.to_string());
    row("of them in incidents", &|half| half.anomalies.to_string());
    row("AUC of the score", &|half| share(half.auc));
    row("average precision", &|half| share(half.average_precision));
    row("  by the detector, without labels", &|half| share(half.detector_average_precision));
    row("alarms", &|half| half.alarms.to_string());
    row("precision of alarms", &|half| share(half.precision()));
    row("recall of events", &|half| share(half.recall()));
    row("incidents found", &|half| format!("{} of {}", half.incidents_found, half.incidents));
    line(String::new());
    line(verdict(&first, &second));
    out
}

impl Half {
    fn new(rows: &[Row]) -> Self {
        let truth: Vec<bool> = rows.iter().map(|row| row.incident.is_some()).collect();
        let scores: Vec<f64> = rows.iter().map(|row| row.score).collect();
        let detector: Vec<f64> = rows.iter().map(|row| row.detector).collect();
        let mut incidents: BTreeMap<u64, bool> = BTreeMap::new();
        for row in rows {
            if let Some(incident) = row.incident {
                *incidents.entry(incident).or_default() |= row.alarm;
            }
        }
        Self {
            events: rows.len(),
            anomalies: truth.iter().filter(|anomaly| **anomaly).count(),
            auc: quality::auc(&scores, &truth),
            average_precision: quality::average_precision(&scores, &truth),
            detector_average_precision: quality::average_precision(&detector, &truth),
            alarms: rows.iter().filter(|row| row.alarm).count(),
            alarms_true: rows.iter().filter(|row| row.alarm && row.incident.is_some()).count(),
            incidents: incidents.len(),
            incidents_found: incidents.values().filter(|found| **found).count(),
        }
    }

    fn precision(&self) -> Option<f64> {
        (self.alarms > 0).then(|| self.alarms_true as f64 / self.alarms as f64)
    }

    fn recall(&self) -> Option<f64> {
        (self.anomalies > 0).then(|| self.alarms_true as f64 / self.anomalies as f64)
    }
}

/// In the order of the traffic, split in the middle; where not all was kept, the first that were and the last.
fn halves(followed: &Followed) -> (Half, Half) {
    let sorted = |mut rows: Vec<Row>| {
        rows.sort_by_key(|row| row.index);
        rows
    };
    let all = sorted(followed.first.iter().chain(&followed.last).copied().collect());
    let (first, second) = all.split_at(all.len() / 2);
    (Half::new(first), Half::new(second))
}

/// One line. Better is what is better by both measures; anything else is said as it is.
fn verdict(first: &Half, second: &Half) -> String {
    let measures = [
        ("average precision", first.average_precision, second.average_precision),
        ("precision of alarms", first.precision(), second.precision()),
    ];
    let figures =
        measures.map(|(name, before, after)| format!("{name} {} -> {}", share(before), share(after))).join(", ");
    let changes: Option<Vec<f64>> =
        measures.iter().map(|(_, before, after)| Some(after.as_ref()? - before.as_ref()?)).collect();
    let word = match changes.as_deref() {
        Some([ranking, alarms]) if *ranking > 0.0 && *alarms > 0.0 => "The second half is better than the first",
        Some([ranking, alarms]) if *ranking <= 0.0 && *alarms <= 0.0 => "The second half is not better than the first",
        Some(_) => "The second half is better than the first by one measure of two",
        None => "The halves cannot be compared: one of them had no incident or raised no alarm",
    };
    format!("{word}: {figures}.")
}

fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: u64, score: f64, alarm: bool, incident: Option<u64>) -> Row {
        Row { index, score, detector: 0.5, alarm, incident }
    }

    fn followed() -> Followed {
        // First half: the anomaly ranks second and is missed. Second half, come out of order: it ranks first and is found.
        let first = vec![
            row(0, 0.9, true, None),
            row(3, 0.1, false, None),
            row(1, 0.8, false, Some(4)),
            row(2, 0.9, true, Some(5)),
        ];
        let incidents = [(4, false), (5, true)].into();
        Followed { warmup: 7, first, last: [].into(), incidents, alarms: 2, alarms_true: 1 }
    }

    #[test]
    fn halves_are_by_the_order_of_the_traffic() {
        let (first, second) = halves(&followed());
        assert_eq!((first.average_precision, second.average_precision), (Some(0.5), Some(1.0)));
        assert_eq!((first.precision(), second.precision()), (Some(0.0), Some(1.0)));
        assert_eq!((first.incidents_found, first.incidents), (0, 1));
        assert_eq!((second.incidents_found, second.incidents, second.recall()), (1, 1, Some(1.0)));
    }

    #[test]
    fn the_verdict_says_what_was_measured() {
        let (first, second) = halves(&followed());
        assert_eq!(
            verdict(&first, &second),
            "The second half is better than the first: average precision 0.500 -> 1.000, precision of alarms 0.000 -> 1.000."
        );
        assert!(verdict(&second, &first).starts_with("The second half is not better"));
        let mixed = Half { alarms_true: 0, ..second.clone() };
        assert!(verdict(&first, &mixed).contains("one measure of two"));
        let silent = Half { alarms: 0, alarms_true: 0, ..second };
        assert!(verdict(&first, &silent).contains("cannot be compared"));
    }
}
