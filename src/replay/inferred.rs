//! What a file is taken for that comes without a configuration: its columns are features, and of a series so are its levels and daily cycles.

use super::Options;
use crate::decision::{DecisionSpec, QuietSpec};
use crate::event::{EventSpec, FieldType};

/// What a file is taken for that comes without a configuration.
#[derive(Debug)]
pub struct Inferred {
    pub event: EventSpec,
    /// The feature query.
    pub sql: String,
    /// When a series alarms. `None` for other files: as without a `[decision]`.
    pub decision: Option<(DecisionSpec, QuietSpec)>,
}

/// The score at which a series alarms: p = .0028. The alarms with this and a quiet day have a standard score of 67.1 on NAB (three seeds); with
/// .45 (p = .0035) it would be 65, with .47 (p = .0022) 62.
const SERIES_THRESHOLD: f64 = 0.46;
/// So long after an alarm a series is quiet.
const SERIES_QUIET_MS: i64 = 3_600_000;
/// The same in a file of more than a day: each row is compared with a day ago, so the day after an incident is strange, too.
const SERIES_OVER_A_DAY_QUIET_MS: i64 = 86_400_000;

/// With more numbers, events are taken as points and not as a series.
const SERIES_NUMBERS_MAX: usize = 8;
/// The rows before a row that its level is the mean of, too.
const LEVEL_ROWS: u32 = 30;

/// Minutes ago, a day less or more half an hour, at which the hour begins and ends that a value is compared with.
const HOUR_MINUTES: [u32; 2] = [24 * 60 + 30, 24 * 60 - 30];
/// A difference from that hour's mean that is smaller than this share of the value is rounding: sums are subtracted to get the mean.
const ROUNDING: &str = "0.000000001";

/// Every column; and with a time and few numbers two more for each. Its level is its mean over the last rows, for a fault that single rows do not
/// show. On SKAB F1 was .71 with these and .43 with how far row and level are from the last hundred rows (means of three seeds). Means over 20 to 60
/// rows do as well. In a file of more than a day, its difference from the mean of the same hour a day ago is for what is ordinary at another hour only.
/// On NAB, where an alarm keeps its series quiet for a day, it raised the score by 3.5. The step and the spread gained nothing. Where windows hold
/// less than a day, because there are more rows than `limits.window_rows`, the hour is as coarse as their panes, and most differences are missing.
pub(super) fn query(features: &[(String, FieldType)], options: &Options, over_a_day: bool) -> String {
    let columns = || features.iter().map(|(name, _)| quoted(name));
    let Some(time) = series_time(features, options) else {
        return format!("SELECT {} FROM events", columns().collect::<Vec<_>>().join(", "));
    };
    let mut taken: Vec<String> = features.iter().map(|(name, _)| name.to_lowercase()).collect();
    let mut alias = |mut name: String| {
        while taken.contains(&name.to_lowercase()) {
            name.push('_');
        }
        taken.push(name.to_lowercase());
        quoted(&name)
    };
    let level = |name: &str| format!("AVG({}) OVER recent", quoted(name));
    let daily_difference = |name: &str| {
        let x = quoted(name);
        let hour = |of: &str| format!("({of}({x}) OVER since_hour_began - {of}({x}) OVER since_hour_ended)");
        let difference = format!("{x} - {} / NULLIF({}, 0)", hour("SUM"), hour("COUNT"));
        format!("CASE WHEN ABS({difference}) <= {ROUNDING} * ABS({x}) THEN 0 ELSE {difference} END")
    };
    let mut select: Vec<String> = columns().collect();
    for (name, _) in numbers(features) {
        select.push(format!("{} AS {}", level(name), alias(format!("{name}_level"))));
        if over_a_day {
            select.push(format!("{} AS {}", daily_difference(name), alias(format!("{name}_daily_difference"))));
        }
    }
    let entity = options.entity.as_ref().map_or_else(String::new, |name| format!("PARTITION BY {} ", quoted(name)));
    let order = format!("{entity}ORDER BY {}", quoted(time));
    let mut windows = vec![format!("recent AS ({order} ROWS {LEVEL_ROWS} PRECEDING)")];
    if over_a_day {
        for (name, minutes) in ["since_hour_began", "since_hour_ended"].into_iter().zip(HOUR_MINUTES) {
            windows.push(format!("{name} AS ({order} RANGE INTERVAL '{minutes}' MINUTE PRECEDING)"));
        }
    }
    format!("SELECT {} FROM events WINDOW {}", select.join(", "), windows.join(", "))
}

/// When a series alarms; `None` for other files.
pub(super) fn decision(
    features: &[(String, FieldType)],
    options: &Options,
    over_a_day: bool,
) -> Option<(DecisionSpec, QuietSpec)> {
    series_time(features, options)?;
    let period_ms = if over_a_day { SERIES_OVER_A_DAY_QUIET_MS } else { SERIES_QUIET_MS };
    Some((DecisionSpec::Threshold(SERIES_THRESHOLD), QuietSpec { period_ms, features: Vec::new() }))
}

/// The column of the times, if the file is a series.
fn series_time<'a>(features: &[(String, FieldType)], options: &'a Options) -> Option<&'a String> {
    options.time.as_ref().filter(|_| (1..=SERIES_NUMBERS_MAX).contains(&numbers(features).count()))
}

fn numbers(features: &[(String, FieldType)]) -> impl Iterator<Item = &(String, FieldType)> {
    features.iter().filter(|(_, kind)| *kind == FieldType::Double)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_levels_and_days_and_a_table_has_none() {
        let options = Options { time: Some("at".into()), entity: Some("pump".into()), ..Options::default() };
        let series = query(&[("x".into(), FieldType::Double), ("y".into(), FieldType::String)], &options, true);
        insta::assert_snapshot!(series, @r#"SELECT "x", "y", AVG("x") OVER recent AS "x_level", CASE WHEN ABS("x" - (SUM("x") OVER since_hour_began - SUM("x") OVER since_hour_ended) / NULLIF((COUNT("x") OVER since_hour_began - COUNT("x") OVER since_hour_ended), 0)) <= 0.000000001 * ABS("x") THEN 0 ELSE "x" - (SUM("x") OVER since_hour_began - SUM("x") OVER since_hour_ended) / NULLIF((COUNT("x") OVER since_hour_began - COUNT("x") OVER since_hour_ended), 0) END AS "x_daily_difference" FROM events WINDOW recent AS (PARTITION BY "pump" ORDER BY "at" ROWS 30 PRECEDING), since_hour_began AS (PARTITION BY "pump" ORDER BY "at" RANGE INTERVAL '1470' MINUTE PRECEDING), since_hour_ended AS (PARTITION BY "pump" ORDER BY "at" RANGE INTERVAL '1410' MINUTE PRECEDING)"#);
        let tanks = ["tank", "tank_level", "TANK_LEVEL_"].map(|name| (name.to_owned(), FieldType::Double));
        let series = query(&tanks, &options, false);
        assert!(!series.contains("hour"), "{series}");
        let names = [r#""tank_level__""#, r#""tank_level_level""#, r#""TANK_LEVEL__level""#];
        assert!(names.iter().all(|name| series.contains(&format!(" AS {name}"))), "{series}");
        let wide: Vec<_> = (0..9).map(|i| (format!("x{i}"), FieldType::Double)).collect();
        assert!(!query(&wide, &options, true).contains("OVER"));
        assert_eq!(query(&wide[..2], &Options::default(), true), r#"SELECT "x0", "x1" FROM events"#);
    }
}
