//! The promise: what a window says equals a naive evaluation over the entity's full history, whatever arrived in whatever order.

use larum::event::{Event, EventSpec, Field, Schema, Value};
use larum::features::{Plan, WindowLimits, Windows};
use proptest::prelude::*;

const LATENESS_MS: i64 = 40;
const RANGES_MS: [i64; 2] = [0, 25];
const ROWS: [usize; 2] = [0, 4];
const LAGS: [usize; 2] = [1, 3];
const AGGREGATES: [&str; 8] = ["COUNT", "SUM", "AVG", "MIN", "MAX", "STDDEV_POP", "VAR_SAMP", "VAR_POP"];

/// Per frame: COUNT(*), then every aggregate; then every LAG, with and without a default.
fn plan() -> Plan {
    let ranges = RANGES_MS.iter().map(|ms| format!("RANGE INTERVAL '{ms}' MILLISECOND PRECEDING"));
    let rows = ROWS.iter().map(|n| format!("ROWS BETWEEN {n} PRECEDING AND CURRENT ROW"));
    let mut columns = Vec::new();
    for frame in ranges.chain(rows) {
        let over = format!("OVER (PARTITION BY host ORDER BY ts {frame})");
        columns.push(format!("COUNT(*) {over}"));
        columns.extend(AGGREGATES.iter().map(|name| format!("{name}(x) {over}")));
    }
    for n in LAGS {
        columns.push(format!("LAG(x, {n}) OVER o"));
        columns.push(format!("LAG(x, {n}, -7.0) OVER o"));
    }
    let columns: Vec<String> = columns.iter().enumerate().map(|(i, c)| format!("{c} AS c{i}")).collect();
    let sql = format!("SELECT {} FROM events WINDOW o AS (PARTITION BY host ORDER BY ts)", columns.join(", "));
    let spec = EventSpec {
        id: None,
        time: Some("ts".into()),
        entity: Some("host".into()),
        fields: vec![Field::parse("x", "double").expect("a known type")],
        lateness_ms: LATENESS_MS,
        bytes_max: 1 << 20,
        depth_max: 8,
    };
    let schema = Schema::new(&spec).expect("one field");
    Plan::compile(&sql, &schema, &spec).expect("a query of the subset")
}

/// Every row that was not late, in the order of time and then of arrival.
#[derive(Default)]
struct History(Vec<(i64, Option<f64>)>);

impl History {
    /// What each column should be, each with how far off rounding may take it; and whether the row is late.
    fn observe(&mut self, time_ms: i64, x: Option<f64>) -> (Vec<(Option<f64>, f64)>, bool) {
        let newest_ms = self.0.last().map_or(time_ms, |row| row.0);
        let late = time_ms < newest_ms - LATENESS_MS;
        let mut place = self.0.len();
        if !late {
            place = self.0.partition_point(|row| row.0 <= time_ms);
            self.0.insert(place, (time_ms, x));
        }
        let seen_from = if late { newest_ms } else { time_ms };
        let mut expected = Vec::new();
        for ms in RANGES_MS {
            let rows: Vec<_> = self.0.iter().filter(|row| row.0 >= seen_from - ms).map(|row| row.1).collect();
            expected.extend(aggregates(&rows));
        }
        for n in ROWS {
            let rows: Vec<_> = self.0[self.0.len().saturating_sub(n + 1)..].iter().map(|row| row.1).collect();
            expected.extend(aggregates(&rows));
        }
        for n in LAGS {
            let lagged = place.checked_sub(n).map(|at| self.0[at].1);
            expected.push((lagged.flatten(), 0.0));
            expected.push((lagged.unwrap_or(Some(-7.0)), 0.0));
        }
        (expected, late)
    }
}

fn aggregates(rows: &[Option<f64>]) -> Vec<(Option<f64>, f64)> {
    let values: Vec<f64> = rows.iter().flatten().copied().collect();
    let n = values.len() as f64;
    let some = |x: f64| (!values.is_empty()).then_some(x);
    let sum: f64 = values.iter().sum();
    let mean = sum / n;
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    let size: f64 = values.iter().fold(0.0, |m, x| m.max(x.abs()));
    let (near, near_squared) = (1e-12 * size * (n + 1.0), 1e-12 * size * size * (n + 1.0));
    let finite = |x: Option<f64>| x.filter(|x| x.abs() <= 1e30);
    vec![
        (Some(rows.len() as f64), 0.0),
        (Some(n), 0.0),
        (finite(some(sum)), near),
        (finite(some(mean)), near),
        (values.iter().copied().reduce(f64::min), 0.0),
        (values.iter().copied().reduce(f64::max), 0.0),
        // The root of a rounding error of the variance.
        (finite(some((squares / n).sqrt())), near_squared.sqrt()),
        (finite((n > 1.0).then(|| squares / (n - 1.0))), near_squared),
        (finite(some(squares / n)), near_squared),
    ]
}

fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        6 => (-100i32..100).prop_map(|x| Some(f64::from(x) / 8.0)),
        2 => Just(None),
        1 => Just(Some(1e20)),
        1 => Just(Some(-1e20)),
        1 => Just(Some(1e-9)),
    ]
}

/// Steps of event time in milliseconds, mostly forward, with equal times, jumps, disorder and rows beyond the lateness.
fn step() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0..6i64, 2 => -30..0i64, 1 => -90..-30i64, 1 => 20..200i64]
}

fn check(rows: Vec<(i64, Option<f64>)>, restore_every: usize) -> Result<(), TestCaseError> {
    let plan = plan();
    let limits = WindowLimits { rows_max: 1_000, lateness_ms: LATENESS_MS };
    let (mut windows, mut never_saved, mut history) = (Windows::default(), Windows::default(), History::default());
    let mut time_ms = 1_000_000;
    for (index, (step, x)) in rows.into_iter().enumerate() {
        time_ms += step;
        let fields = vec![x.map_or(Value::Null, Value::Double)];
        let event = Event { id: "".into(), time_ms, entity: "h".into(), fields };
        if index % restore_every == 0 {
            let bytes = postcard::to_allocvec(&windows).expect("windows can be saved");
            windows = postcard::from_bytes(&bytes).expect("windows can be loaded");
            prop_assert!(plan.fits(&windows));
        }
        let peeked = plan.peek(&event, Some(&windows), &limits);
        prop_assert_eq!(&windows, &never_saved, "peek changed something");
        let observed = plan.observe(&event, &mut windows, &limits);
        let uninterrupted = plan.observe(&event, &mut never_saved, &limits);
        let bits = |numbers: &[f64]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(
            bits(&observed.vector.numbers),
            bits(&uninterrupted.vector.numbers),
            "a restored window differs"
        );
        prop_assert_eq!(bits(&observed.vector.numbers), bits(&peeked.numbers), "peek differs");
        prop_assert_eq!(&windows, &never_saved);
        let (expected, late) = history.observe(time_ms, x);
        prop_assert_eq!((observed.late, observed.rows_dropped), (late, 0));
        prop_assert_eq!(observed.vector.numbers.len(), expected.len());
        for (column, (found, (expected, near))) in observed.vector.numbers.iter().zip(expected).enumerate() {
            let same = match expected {
                None => found.is_nan(),
                Some(expected) => (found - expected).abs() <= near,
            };
            prop_assert!(same, "row {} column {}: {} instead of {:?} (late: {})", index, column, found, expected, late);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn in_order(rows in prop::collection::vec((0..12i64, value()), 1..120), restore_every in 1..40usize) {
        check(rows, restore_every)?;
    }

    #[test]
    fn out_of_order(rows in prop::collection::vec((step(), value()), 1..120), restore_every in 1..40usize) {
        check(rows, restore_every)?;
    }
}

/// Memory is bounded by what the frames can see, not by the history.
#[test]
fn rows_that_no_window_sees_leave() {
    let (plan, mut windows) = (plan(), Windows::default());
    let limits = WindowLimits { rows_max: 1_000, lateness_ms: LATENESS_MS };
    for time_ms in 0..10_000 {
        let event = Event { id: "".into(), time_ms, entity: "h".into(), fields: vec![Value::Double(1.0)] };
        assert_eq!(plan.observe(&event, &mut windows, &limits).rows_dropped, 0);
        assert!(windows.rows() <= 67, "{} rows are kept for 25 + 40 ms of one row each", windows.rows());
    }
}
