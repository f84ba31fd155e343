//! The promise: what a window says equals a naive evaluation over the entity's full history, whatever arrived in whatever order.

use larum::event::{Event, EventSpec, Field, Schema, Value};
use larum::features::{Plan, WindowLimits, Windows};
use proptest::prelude::*;

const LATENESS_MS: i64 = 40;
const RANGES_MS: [i64; 2] = [0, 25];
const ROWS: [usize; 2] = [0, 4];
const LAGS: [usize; 2] = [1, 3];
const AGGREGATES: [&str; 11] = [
    "COUNT(x)",
    "SUM(x)",
    "AVG(x)",
    "MIN(x)",
    "MAX(x)",
    "STDDEV_POP(x)",
    "VAR_SAMP(x)",
    "VAR_POP(x)",
    "FIRST_VALUE(x)",
    "LAST_VALUE(x)",
    "COUNT(DISTINCT x)",
];

fn compile(columns: &[String]) -> Plan {
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

/// COUNT(*), then every aggregate.
fn columns_of(frame: &str) -> Vec<String> {
    let over = format!("OVER (PARTITION BY host ORDER BY ts {frame})");
    std::iter::once("COUNT(*)").chain(AGGREGATES).map(|call| format!("{call} {over}")).collect()
}

/// The columns of every frame; then every LAG, with and without a default.
fn plan() -> Plan {
    let ranges = RANGES_MS.iter().map(|ms| format!("RANGE INTERVAL '{ms}' MILLISECOND PRECEDING"));
    let rows = ROWS.iter().map(|n| format!("ROWS BETWEEN {n} PRECEDING AND CURRENT ROW"));
    let mut columns: Vec<String> = ranges.chain(rows).flat_map(|frame| columns_of(&frame)).collect();
    for n in LAGS {
        columns.push(format!("LAG(x, {n}) OVER o"));
        columns.push(format!("LAG(x, {n}, -7.0) OVER o"));
    }
    compile(&columns)
}

fn event(time_ms: i64, x: Option<f64>) -> Event<'static> {
    Event { id: "".into(), time_ms, entity: "h".into(), fields: vec![x.map_or(Value::Null, Value::Double)] }
}

/// Every row that was not late, in the order of time and then of arrival; and how many rows were late, with none between them but of the newest time.
#[derive(Default)]
struct History(Vec<(i64, Option<f64>)>, u32);

impl History {
    /// Where the row is placed; `None` when it is late.
    fn place(&mut self, time_ms: i64, x: Option<f64>) -> Option<usize> {
        let newest_ms = self.0.last().map_or(time_ms, |row| row.0);
        if time_ms < newest_ms - LATENESS_MS {
            self.1 += 1;
            if self.1 < 100 {
                return None;
            }
            // The newest time was wrong.
            *self = Self::default();
        } else if time_ms != newest_ms {
            self.1 = 0;
        }
        let place = self.0.partition_point(|row| row.0 <= time_ms);
        self.0.insert(place, (time_ms, x));
        Some(place)
    }

    /// What each column should be, each with how far off rounding may take it; and whether the row is late.
    fn observe(&mut self, time_ms: i64, x: Option<f64>) -> (Vec<(Option<f64>, f64)>, bool) {
        let place = self.place(time_ms, x);
        // A late row sees what the newest one does; LAG is from beyond the newest.
        let end = place.map_or(self.0.len(), |place| place + 1);
        let seen_from = place.map_or(self.0[end - 1].0, |_| time_ms);
        let values = |from: usize| self.0[from..end].iter().map(|row| row.1).collect::<Vec<_>>();
        let mut expected = Vec::new();
        for ms in RANGES_MS {
            expected.extend(aggregates(&values(self.0.partition_point(|row| row.0 < seen_from - ms))));
        }
        for n in ROWS {
            expected.extend(aggregates(&values(end.saturating_sub(n + 1))));
        }
        for n in LAGS {
            let lagged = place.unwrap_or(end).checked_sub(n).map(|at| self.0[at].1);
            expected.push((lagged.flatten(), 0.0));
            expected.push((lagged.unwrap_or(Some(-7.0)), 0.0));
        }
        (expected, place.is_none())
    }
}

fn distinct(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    sorted.len() as f64
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
        (values.first().copied(), 0.0),
        (values.last().copied(), 0.0),
        (Some(distinct(&values)), 0.0),
    ]
}

fn is_near(found: f64, expected: Option<f64>, near: f64) -> bool {
    expected.map_or(found.is_nan(), |expected| (found - expected).abs() <= near)
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
        let event = event(time_ms, x);
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
        prop_assert_eq!((observed.late, observed.rows_merged), (late, 0));
        prop_assert_eq!(observed.vector.numbers.len(), expected.len());
        for (column, (found, (expected, near))) in observed.vector.numbers.iter().zip(expected).enumerate() {
            let same = is_near(*found, expected, near);
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
        assert_eq!(plan.observe(&event(time_ms, Some(1.0)), &mut windows, &limits).rows_merged, 0);
        assert!(windows.rows() <= 67, "{} rows are kept for 25 + 40 ms of one row each", windows.rows());
    }
}

/// Beyond `rows_max` rows a window lacks at most one pane at its far edge: it is the exact answer over the newest rows of the frame, as many as it
/// says, and hardly fewer than the frame has.
fn check_panes(rows: &[(i64, Option<f64>)], rows_max: usize, restore_every: usize) -> Result<(), TestCaseError> {
    const SEEN_MS: i64 = 300;
    const SEEN_ROWS: usize = 199;
    const SHORT_ROWS: usize = 2;
    let mut columns = columns_of(&format!("RANGE INTERVAL '{SEEN_MS}' MILLISECOND PRECEDING"));
    columns.extend(columns_of(&format!("ROWS {SEEN_ROWS} PRECEDING")));
    columns.extend(columns_of(&format!("ROWS {SHORT_ROWS} PRECEDING")));
    let (plan, limits) = (compile(&columns), WindowLimits { rows_max, lateness_ms: LATENESS_MS });
    let (mut windows, mut never_saved, mut history) = (Windows::default(), Windows::default(), History::default());
    let mut time_ms = 1_000_000;
    for (index, (step, x)) in rows.iter().enumerate() {
        time_ms += step;
        if index % restore_every == 0 {
            let bytes = postcard::to_allocvec(&windows).expect("windows can be saved");
            windows = postcard::from_bytes(&bytes).expect("windows can be loaded");
            prop_assert!(plan.fits(&windows));
        }
        let observed = plan.observe(&event(time_ms, *x), &mut windows, &limits);
        let uninterrupted = plan.observe(&event(time_ms, *x), &mut never_saved, &limits);
        prop_assert_eq!((observed.late, observed.rows_merged), (uninterrupted.late, uninterrupted.rows_merged));
        prop_assert_eq!(&windows, &never_saved);
        prop_assert!(windows.rows() <= rows_max && windows.panes() <= 32);
        let Some(place) = history.place(time_ms, *x) else { continue };
        let end = place + 1;
        let starts = [
            history.0.partition_point(|row| row.0 < time_ms - SEEN_MS),
            end.saturating_sub(SEEN_ROWS + 1),
            end.saturating_sub(SHORT_ROWS + 1),
        ];
        // A pane is begun at a sixteenth of what is kept for the longest window, and two of the smallest become one.
        let longest = starts.iter().map(|start| end - start).max().unwrap_or(0);
        let pane_rows_max = (longest.max(rows_max) / 8).max(1);
        for (found, start) in observed.vector.numbers.chunks(AGGREGATES.len() + 1).zip(starts) {
            let seen = found[0] as usize;
            let full = end - start;
            prop_assert!(seen <= full, "row {}: {} of {} rows are seen", index, seen, full);
            prop_assert!(seen >= full.min(rows_max), "row {}: {} of {} exact rows are seen", index, seen, full);
            prop_assert!(full - seen <= pane_rows_max, "row {}: {} of {} rows are seen", index, seen, full);
            let values: Vec<_> = history.0[end - seen..end].iter().map(|row| row.1).collect();
            let mut expected = aggregates(&values);
            // COUNT(DISTINCT x) sees the exact rows only, which are one more until the row has been read.
            let exact: Vec<_> = values[seen.saturating_sub(rows_max + 1)..].iter().flatten().copied().collect();
            *expected.last_mut().expect("the last column") = (Some(distinct(&exact)), 0.0);
            for (column, (found, (expected, near))) in found.iter().zip(expected).enumerate() {
                let same = is_near(*found, expected, near);
                prop_assert!(same, "row {} column {}: {} instead of {:?}", index, column, found, expected);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn panes(
        rows in prop::collection::vec((prop_oneof![30 => 0..4i64, 1 => 20..200i64], value()), 1..900),
        rows_max in 1..120usize,
        restore_every in 1..400usize,
    ) {
        check_panes(&rows, rows_max, restore_every)?;
    }
}
