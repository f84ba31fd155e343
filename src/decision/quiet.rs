//! Which alarming events stay quiet: changes that nobody asked about, and what an open alarm of the same entity has already said.
//!
//! An event that would alarm is scored once more with each quieted feature (one that moved the wrong way, or by less than its minimum) at its
//! expected value; if that would not alarm, the event does not. Contributions were refused as the measure: where two features go together and
//! one of them moves, linear regression blames both.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::features::{Column, ColumnKind};
use crate::suggest::nearest;

/// Which way a feature moves when it matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
    #[default]
    Both,
}

/// One `[decision.features.<name>]` table: a change of the feature from its expected value that does not fulfil all of it is quieted.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRule {
    pub feature: String,
    pub direction: Direction,
    /// In the feature's unit.
    pub min_change: f64,
    /// Of the expected value.
    pub min_relative_change: f64,
}

/// What the `[decision]` table keeps quiet; by default nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuietSpec {
    /// So long an entity's alarm is open, in event time: a further one of the same entity would say nothing new, unless its event is much stranger.
    pub period_ms: i64,
    pub features: Vec<FeatureRule>,
}

/// A rule for what is no feature.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "[decision.features]: the query has no numeric feature `{feature}`{}",
    .nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
)]
pub struct QuietError {
    pub feature: String,
    pub nearest: Option<String>,
}

/// [`QuietSpec`] for the columns of one query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    period_ms: u64,
    /// Each with the index of its feature among the numbers of a feature vector.
    features: Vec<(u32, FeatureRule)>,
}

/// What the decision remembers of one entity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// By event time.
    newest_alarm: Option<Alarm>,
    /// The last one that was raised, when its event was older than that: time may go back for long.
    late_alarm: Option<Alarm>,
    levels: Levels,
}

/// An alarm of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Alarm {
    time_ms: i64,
    /// -log10 of the p-value of its event.
    surprise: f64,
}

/// The running mean of each feature that has a rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Levels(Vec<Level>);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Level {
    number: u32,
    /// Values learned, up to the memory.
    seen: u32,
    mean: f64,
}

impl Rules {
    /// # Errors
    /// When a rule is for what is not among the numeric columns.
    pub fn new(spec: &QuietSpec, columns: &[Column]) -> Result<Self, QuietError> {
        let numbers = || columns.iter().filter(|column| column.kind == ColumnKind::Number).map(|c| c.name.as_str());
        let place = |rule: &FeatureRule| match numbers().position(|name| name == rule.feature) {
            Some(number) => Ok((number as u32, rule.clone())),
            None => Err(QuietError {
                feature: rule.feature.clone(),
                nearest: nearest(&rule.feature, numbers()).map(str::to_owned),
            }),
        };
        let features = spec.features.iter().map(place).collect::<Result<_, _>>()?;
        Ok(Self { period_ms: u64::try_from(spec.period_ms).unwrap_or(0), features })
    }

    #[must_use]
    pub fn period_ms(&self) -> u64 {
        self.period_ms
    }

    /// Whether anything has to be remembered of an entity that raises no alarm.
    #[must_use]
    pub fn has_features(&self) -> bool {
        !self.features.is_empty()
    }

    /// Whether an open alarm of the entity has said what an event at `time_ms` with this surprise (-log10 p) would say: it is less than the quiet
    /// period away, on either side for late events, and the event is not much stranger than that one's.
    ///
    /// Further alarming events do not hold it open, so that an incident that lasts is told again once a period (as by Alertmanager's
    /// `repeat_interval`), and an entity that is always a little strange cannot hide what comes later.
    #[must_use]
    pub fn is_said(&self, watch: &Watch, time_ms: i64, surprise: f64) -> bool {
        [watch.newest_alarm, watch.late_alarm].into_iter().flatten().any(|alarm| {
            let much_stranger = (MUCH_STRANGER * alarm.surprise).max(alarm.surprise + 1.0);
            alarm.time_ms.abs_diff(time_ms) < self.period_ms && surprise < much_stranger
        })
    }

    /// `numbers` with the quieted features at their expected values; `None` when there is no quieted feature.
    #[must_use]
    pub fn without_quieted(&self, watch: &Watch, partition: &Levels, numbers: &[f64]) -> Option<Box<[f64]>> {
        let mut without: Option<Box<[f64]>> = None;
        for (number, rule) in &self.features {
            let value = numbers[*number as usize];
            if let Some(expected) = expected(*number, &watch.levels, partition)
                && rule.quiets(value, expected)
            {
                without.get_or_insert_with(|| numbers.into())[*number as usize] = expected;
            }
        }
        without
    }

    /// Learns the levels from an event that the detectors learn too: an incident must not become what is expected.
    pub fn learn(&self, watch: &mut Watch, partition: &mut Levels, numbers: &[f64]) {
        for (levels, memory) in [(&mut watch.levels, ENTITY_MEMORY), (partition, PARTITION_MEMORY)] {
            levels.fit(&self.features);
            for level in &mut levels.0 {
                level.learn(numbers[level.number as usize], memory);
            }
        }
    }
}

impl FeatureRule {
    /// Whether the change from `expected` to `value` is not worth an alarm. A missing value has not changed at all: what is strange
    /// about it is not its size, so it is not quieted.
    fn quiets(&self, value: f64, expected: f64) -> bool {
        let change = value - expected;
        let wrong_way = match self.direction {
            Direction::Up => change < 0.0,
            Direction::Down => change > 0.0,
            Direction::Both => false,
        };
        let size = change.abs();
        wrong_way || size < self.min_change || size < self.min_relative_change * expected.abs()
    }
}

impl Watch {
    /// An alarm was raised for an event at `time_ms` with this surprise (-log10 p).
    pub fn raised(&mut self, time_ms: i64, surprise: f64) {
        let alarm = Some(Alarm { time_ms, surprise });
        if self.newest_alarm.is_none_or(|newest| newest.time_ms <= time_ms) {
            self.newest_alarm = alarm;
        } else {
            self.late_alarm = alarm;
        }
    }
}

impl Levels {
    fn get(&self, number: u32) -> Option<&Level> {
        self.0.iter().find(|level| level.number == number && level.seen > 0)
    }

    /// One level per rule. A snapshot may come from a configuration with other rules: what is known of a feature stays.
    fn fit(&mut self, rules: &[(u32, FeatureRule)]) {
        let numbers = || rules.iter().map(|(number, _)| *number);
        if self.0.iter().map(|level| level.number).eq(numbers()) {
            return;
        }
        self.0 =
            numbers().map(|number| self.get(number).copied().unwrap_or(Level { number, seen: 0, mean: 0.0 })).collect();
    }
}

impl Level {
    fn learn(&mut self, value: f64, memory: u32) {
        if value.is_nan() {
            return;
        }
        self.seen = (self.seen + 1).min(memory);
        self.mean += (value - self.mean) / f64::from(self.seen);
    }
}

/// The entity's own level, or the partition's while it has few values. `None` before the feature's first value.
fn expected(number: u32, entity: &Levels, partition: &Levels) -> Option<f64> {
    let own = entity.get(number).filter(|own| own.seen >= OWN_MIN);
    own.or_else(|| partition.get(number)).map(|level| level.mean)
}

/// An event whose surprise is so many times that of the open alarm, and whose p-value is a tenth, is raised beside it: .00003 after .001, for a disk that
/// fills must not hide that it fails. As a ratio, because far in a tail every event is orders of magnitude from the next. NAB's score, where an alarm keeps its series quiet for
/// a day, differs by less than 1 between 1.25, 1.5, 2 and no such rule (three seeds).
const MUCH_STRANGER: f64 = 1.5;

/// The level of an entity is that of its last 200 events or so, that of a partition of its last 10,000.
const ENTITY_MEMORY: u32 = 200;
const PARTITION_MEMORY: u32 = 10_000;

/// Values of an entity before its own level counts.
const OWN_MIN: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(period_ms: i64, direction: Direction, min_change: f64, min_relative_change: f64) -> Rules {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        let columns = [
            column("bytes", ColumnKind::Number),
            column("region", ColumnKind::Category),
            column("latency_ms", ColumnKind::Number),
        ];
        let features = vec![FeatureRule { feature: "latency_ms".into(), direction, min_change, min_relative_change }];
        Rules::new(&QuietSpec { period_ms, features }, &columns).expect("it is a column")
    }

    #[test]
    fn a_rule_names_a_numeric_feature() {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        let columns = [column("region", ColumnKind::Category), column("latency_ms", ColumnKind::Number)];
        let refused = |feature: &str| {
            let rule = FeatureRule {
                feature: feature.into(),
                direction: Direction::Both,
                min_change: 1.0,
                min_relative_change: 0.0,
            };
            Rules::new(&QuietSpec { period_ms: 0, features: vec![rule] }, &columns).expect_err(feature).to_string()
        };
        assert_eq!(
            refused("latncy_ms"),
            "[decision.features]: the query has no numeric feature `latncy_ms`; did you mean `latency_ms`?"
        );
        assert_eq!(refused("region"), "[decision.features]: the query has no numeric feature `region`");
    }

    #[test]
    fn a_change_is_quieted_by_direction_size_and_share() {
        // (direction, min_change, min_relative_change), value; expected is 100.
        let cases = [
            (Direction::Both, 50.0, 0.0, 149.0, true),
            (Direction::Both, 50.0, 0.0, 150.0, false),
            (Direction::Both, 50.0, 0.0, 51.0, true),
            (Direction::Both, 50.0, 0.0, 50.0, false),
            (Direction::Both, 0.0, 0.2, 119.0, true),
            (Direction::Both, 0.0, 0.2, 120.0, false),
            // Both minima have to be reached.
            (Direction::Both, 50.0, 0.2, 130.0, true),
            (Direction::Both, 10.0, 0.2, 115.0, true),
            (Direction::Up, 0.0, 0.0, 99.0, true),
            (Direction::Up, 0.0, 0.0, 101.0, false),
            (Direction::Up, 50.0, 0.0, 10.0, true),
            (Direction::Down, 0.0, 0.0, 101.0, true),
            (Direction::Down, 0.0, 0.0, 99.0, false),
            (Direction::Both, 50.0, 0.2, f64::NAN, false),
        ];
        for (direction, change, relative, value, quieted) in cases {
            let rules = rules(0, direction, change, relative);
            let (mut watch, mut partition) = (Watch::default(), Levels::default());
            rules.learn(&mut watch, &mut partition, &[7.0, 100.0]);
            let without = rules.without_quieted(&watch, &partition, &[7.0, value]);
            let expected = quieted.then(|| Box::from([7.0, 100.0]));
            assert_eq!(without, expected, "{direction:?}, {change}, {relative}: {value}");
        }
    }

    #[test]
    fn the_expected_value_is_the_entitys_own_once_it_is_known() {
        let rules = rules(0, Direction::Both, 1e9, 0.0);
        let (mut old, mut partition) = (Watch::default(), Levels::default());
        let young = Watch::default();
        assert_eq!(rules.without_quieted(&young, &partition, &[0.0, 5.0]), None, "nothing is expected yet");
        for _ in 0..1_000 {
            rules.learn(&mut Watch::default(), &mut partition, &[0.0, 100.0]);
        }
        for _ in 0..1_000 {
            rules.learn(&mut old, &mut partition.clone(), &[0.0, 500.0]);
            rules.learn(&mut old, &mut partition.clone(), &[0.0, f64::NAN]);
        }
        let expected = |watch| rules.without_quieted(watch, &partition, &[0.0, 5.0]).map(|numbers| numbers[1]);
        assert_eq!(expected(&young), Some(100.0));
        assert_eq!(expected(&old), Some(500.0));
        // And it follows: nine tenths of a change within three memories.
        for _ in 0..600 {
            rules.learn(&mut old, &mut partition.clone(), &[0.0, 1500.0]);
        }
        assert!(old.levels.get(1).is_some_and(|level| level.mean > 1400.0));
    }

    #[test]
    fn levels_of_other_rules_are_left_and_those_of_the_same_features_kept() {
        let mut levels = Levels(vec![Level { number: 0, seen: 9, mean: 4.0 }, Level { number: 1, seen: 8, mean: 2.0 }]);
        levels.fit(&rules(0, Direction::Up, 0.0, 0.0).features);
        assert_eq!(levels, Levels(vec![Level { number: 1, seen: 8, mean: 2.0 }]));
    }

    #[test]
    fn an_alarm_is_open_for_the_period_on_either_side() {
        let rules = rules(600, Direction::Both, 0.0, 0.0);
        let mut watch = Watch::default();
        assert!(!rules.is_said(&watch, 0, 3.0));
        watch.raised(1_000, 3.0);
        let is_said = |watch: &Watch| [400, 401, 1_000, 1_599, 1_600].map(|ms| rules.is_said(watch, ms, 3.0));
        assert_eq!(is_said(&watch), [false, true, true, true, false]);
        // An alarm on a late event leaves the newer one open.
        watch.raised(100, 3.0);
        assert!(rules.is_said(&watch, 1_599, 3.0));
        // And is one itself, for as long as time stays behind.
        assert_eq!([-501, -500, 300].map(|ms| rules.is_said(&watch, ms, 3.0)), [false, false, true]);
        watch.raised(-501, 3.0);
        assert_eq!([-501, -1_000, 98].map(|ms| rules.is_said(&watch, ms, 3.0)), [true; 3]);
        let never = Rules::default();
        assert!(!never.is_said(&watch, 1_000, 3.0), "without a period no alarm is open");
    }

    #[test]
    fn what_is_much_stranger_than_an_open_alarm_has_not_been_said() {
        let rules = rules(600, Direction::Both, 0.0, 0.0);
        let mut watch = Watch::default();
        watch.raised(0, 3.0);
        assert_eq!([2.0, 4.4, 4.5, 9.0].map(|surprise| rules.is_said(&watch, 1, surprise)), [true, true, false, false]);
        watch.raised(1, 9.0);
        assert!(rules.is_said(&watch, 2, 13.0));
    }
}
