//! What queries mean, and what refused ones are told.

use super::*;
use crate::event::{Event, EventSpec, Field, Schema, Value};

fn spec() -> EventSpec {
    let fields = [
        ("host", "string"),
        ("ts", "timestamp"),
        ("x", "double"),
        ("y", "double"),
        ("n", "bigint"),
        ("m", "bigint"),
        ("ok", "boolean"),
        ("path", "string"),
        ("latency_ms", "double"),
    ];
    EventSpec {
        id: None,
        time: Some("ts".into()),
        entity: Some("host".into()),
        fields: fields.iter().map(|(n, t)| Field::parse(n, t).unwrap()).collect(),
        lateness_ms: 0,
        bytes_max: 1024,
        depth_max: 8,
    }
}

fn compile(sql: &str) -> Result<Plan, QueryError> {
    Plan::compile(sql, &Schema::new(&spec()).unwrap(), &spec())
}

fn event<'a>(plan: &Plan, time_ms: i64, value_of: &dyn Fn(&str) -> Value<'a>) -> Event<'a> {
    let fields = plan.inputs().iter().map(|name| value_of(name)).collect();
    Event { id: "".into(), time_ms, entity: "h".into(), fields }
}

fn sample(name: &str) -> Value<'static> {
    match name {
        "x" => Value::Double(2.5),
        "n" => Value::Bigint(7),
        "m" => Value::Bigint(-2),
        "ok" => Value::Boolean(true),
        "path" => Value::Text("/a/Béta".into()),
        // A Sunday.
        "ts" => Value::Timestamp(crate::event::time::parse_rfc3339("2026-11-22T21:08:35.250Z").unwrap()),
        _ => Value::Null,
    }
}

/// The value of one expression over [`sample`] as text; `y` and `latency_ms` are NULL.
fn value(expr: &str) -> String {
    let plan = compile(&format!("SELECT {expr} AS f FROM events")).unwrap_or_else(|e| panic!("{expr}: {e}"));
    let limits = WindowLimits { rows_max: 10, lateness_ms: 0 };
    let vector = plan.peek(&event(&plan, 0, &sample), None, &limits);
    match (&vector.numbers[..], &vector.categories[..]) {
        ([x], []) if x.is_nan() => "NULL".into(),
        ([x], []) => format!("{x}"),
        ([], [None]) => "NULL".into(),
        ([], [Some(text)]) => format!("'{text}'"),
        other => panic!("{expr} gave {other:?}"),
    }
}

#[test]
fn scalars_follow_sql() {
    for (expr, expected) in [
        ("n / 2", "3"),
        ("m / 3", "0"),
        ("n / 2.0", "3.5"),
        ("n % 4", "3"),
        ("MOD(m, 3)", "-2"),
        ("-n + x * 2", "-2"),
        ("n / 0", "NULL"),
        ("x / 0", "NULL"),
        ("n * 9223372036854775807", "NULL"),
        ("x * 1e30", "NULL"),
        ("x + y", "NULL"),
        ("x > 2 AND ok", "1"),
        ("y > 2 AND FALSE", "0"),
        ("FALSE AND y > 2", "0"),
        ("y > 2 AND ok", "NULL"),
        ("y > 2 OR ok", "1"),
        ("y > 2 OR FALSE", "NULL"),
        ("NOT (y > 2)", "NULL"),
        ("(y > 2) IS TRUE", "0"),
        ("(y > 2) IS NOT TRUE", "1"),
        ("(y > 2) IS UNKNOWN", "1"),
        ("y IS NULL", "1"),
        ("x IS NOT NULL", "1"),
        ("n IN (1, 7)", "1"),
        ("n IN (1, y)", "NULL"),
        ("n NOT IN (1, 2.5)", "1"),
        ("y IN (1)", "NULL"),
        ("n BETWEEN 7 AND 7.5", "1"),
        ("n NOT BETWEEN 1 AND y", "NULL"),
        ("CASE WHEN y > 1 THEN 1 WHEN ok THEN 2.5 END", "2.5"),
        ("CASE n WHEN 7 THEN 'seven' ELSE 'other' END", "'seven'"),
        ("CASE WHEN FALSE THEN 1 END", "NULL"),
        ("COALESCE(y, n)", "7"),
        ("NULLIF(n, 7)", "NULL"),
        ("NULLIF(n, 8)", "7"),
        ("GREATEST(n, x, 3)", "7"),
        ("LEAST(n, y)", "NULL"),
        ("ABS(m)", "2"),
        ("SIGN(-x)", "-1"),
        ("FLOOR(-x)", "-3"),
        ("CEIL(x)", "3"),
        ("ROUND(-x)", "-3"),
        ("ROUND(x * 1.01, 2)", "2.53"),
        ("ROUND(1250, -2)", "1300"),
        ("SQRT(x - 0.25)", "1.5"),
        ("SQRT(-1)", "NULL"),
        ("EXP(0)", "1"),
        ("EXP(1000)", "NULL"),
        ("LN(0)", "NULL"),
        ("LOG10(1000)", "3"),
        ("POWER(2, 10)", "1024"),
        ("SIN(0) + COS(0)", "1"),
        ("LOWER(path)", "'/a/béta'"),
        ("UPPER(path)", "'/A/BÉTA'"),
        ("CHAR_LENGTH(path)", "7"),
        ("SUBSTRING(path FROM 4 FOR 2)", "'Bé'"),
        ("SUBSTRING(path, -1, 3)", "'/'"),
        ("SUBSTRING(path FROM 6)", "'ta'"),
        ("path || '!'", "'/a/Béta!'"),
        ("path LIKE '/a/%'", "1"),
        ("path LIKE '%B_ta'", "1"),
        ("path LIKE '%b%'", "0"),
        ("path NOT LIKE '_'", "1"),
        ("'50%' LIKE '50!%' ESCAPE '!'", "1"),
        ("'500' LIKE '50!%' ESCAPE '!'", "0"),
        ("CAST(x AS BIGINT)", "2"),
        ("CAST('2.5' AS DOUBLE)", "2.5"),
        ("CAST('NaN' AS DOUBLE)", "NULL"),
        ("CAST('x' AS BIGINT)", "NULL"),
        ("CAST(n AS VARCHAR)", "'7'"),
        ("CAST(NULL AS DOUBLE)", "NULL"),
        ("EXTRACT(HOUR FROM ts)", "21"),
        ("EXTRACT(MINUTE FROM ts)", "8"),
        ("EXTRACT(DOW FROM ts)", "1"),
        ("EXTRACT(ISODOW FROM ts)", "7"),
        ("EXTRACT(DOY FROM ts)", "326"),
        ("EXTRACT(WEEK FROM ts)", "47"),
        ("EXTRACT(QUARTER FROM ts)", "4"),
        ("EXTRACT(YEAR FROM ts)", "2026"),
        ("ts > TIMESTAMP '2026-01-01 00:00:00'", "1"),
        ("TIMESTAMPDIFF(DAY, TIMESTAMP '2026-11-01 00:00:00', ts)", "21"),
    ] {
        assert_eq!(value(expr), expected, "{expr}");
    }
}

#[test]
fn refusals_name_the_place_what_was_found_and_what_is_possible() {
    let w = "OVER (PARTITION BY host ORDER BY ts ROWS 3 PRECEDING)";
    let (mut wrong, mut told) = (Vec::new(), String::new());
    for (sql, place, says) in [
        ("SELECT x FROM", "1:14", "found: EOF"),
        ("SELECT x,\n  FROM events", "2:8", "an expression, found: FROM"),
        ("SELECT 'x FROM events", "1:8", "Unterminated"),
        ("INSERT INTO events VALUES (1)", "1:1", "one SELECT"),
        ("SELECT * FROM events", "1:8", "SELECT * is refused"),
        ("SELECT latencyms FROM events", "1:8", "did you mean `latency_ms`?"),
        ("SELECT x,\n       zzz + 1 AS z FROM events", "2:8", "declared in [event.fields] are host, ts"),
        ("SELECT x FROM requests", "1:15", "FROM events"),
        ("SELECT x FROM events e", "1:15", "FROM events"),
        ("SELECT x FROM events, events", "", "found 2 tables"),
        ("SELECT DISTINCT x FROM events", "", "found DISTINCT"),
        ("SELECT x FROM events GROUP BY x", "", "AVG(x) OVER"),
        ("SELECT x FROM events ORDER BY x", "", "found ORDER BY"),
        ("SELECT x FROM events LIMIT 1", "", "found LIMIT"),
        ("SELECT x FROM events UNION SELECT y FROM events", "", "without UNION"),
        ("SELECT x, y AS X FROM events", "1:11", "two features are named `X`"),
        ("SELECT x AS Score FROM events", "1:8", "the name `Score` is taken"),
        ("SELECT x AS \"score:a\" FROM events", "1:8", "is taken"),
        ("SELECT NULL AS a FROM events", "1:8", "CAST(NULL AS DOUBLE)"),
        ("SELECT path + 1 AS a FROM events", "1:8", "`path` is a string; + takes numbers"),
        ("SELECT x = path AS a FROM events", "1:8", "found double and string"),
        ("SELECT x FROM events WHERE n", "1:28", "takes a boolean"),
        ("SELECT ts - ts AS a FROM events", "1:8", "TIMESTAMPDIFF"),
        ("SELECT SQRTT(x) AS a FROM events", "1:8", "did you mean SQRT?"),
        ("SELECT ABS(x, y) AS a FROM events", "1:8", "ABS takes 1 arguments; found 2"),
        ("SELECT x::bigint AS a FROM events", "1:8", "CAST(x AS DOUBLE)"),
        ("SELECT CAST(x AS DATE) AS a FROM events", "1:13", "CAST gives DOUBLE"),
        ("SELECT (SELECT 1) AS a FROM events", "", "subquery"),
        ("SELECT EXTRACT(CENTURY FROM ts) AS a FROM events", "1:29", "EXTRACT gives YEAR"),
        ("SELECT path ILIKE 'a' AS a FROM events", "1:8", "possible are fields"),
        ("SELECT AVG(x) AS a FROM events", "1:8", "needs a window"),
        (
            "SELECT ABS(x) OVER w AS a FROM events WINDOW w AS (PARTITION BY host ORDER BY ts)",
            "1:8",
            "no window function",
        ),
        (
            "SELECT AVG(x) OVER v AS a FROM events WINDOW w AS (PARTITION BY host ORDER BY ts)",
            "1:20",
            "did you mean `w`?",
        ),
        ("SELECT AVG(x) OVER (PARTITION BY host ORDER BY ts) AS a FROM events", "1:8", "needs a frame"),
        (
            "SELECT AVG(x) OVER (PARTITION BY path ORDER BY ts ROWS 1 PRECEDING) AS a FROM events",
            "1:34",
            "PARTITION BY host",
        ),
        ("SELECT AVG(x) OVER (ORDER BY ts ROWS 1 PRECEDING) AS a FROM events", "1:8", "found none"),
        ("SELECT AVG(x) OVER (PARTITION BY host ORDER BY n ROWS 1 PRECEDING) AS a FROM events", "1:48", "ORDER BY ts"),
        (
            "SELECT AVG(x) OVER (PARTITION BY host ORDER BY ts DESC ROWS 1 PRECEDING) AS a FROM events",
            "1:48",
            "ORDER BY ts",
        ),
        (
            "SELECT AVG(x) OVER (PARTITION BY host ORDER BY ts ROWS UNBOUNDED PRECEDING) AS a FROM events",
            "1:8",
            "a window has an edge",
        ),
        (
            "SELECT AVG(x) OVER (PARTITION BY host ORDER BY ts ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS a FROM events",
            "1:8",
            "CURRENT ROW",
        ),
        (
            "SELECT AVG(x) OVER (PARTITION BY host ORDER BY ts RANGE 5 PRECEDING) AS a FROM events",
            "1:57",
            "INTERVAL '5' MINUTE",
        ),
        (
            "SELECT AVG(x) OVER (PARTITION BY host ORDER BY ts RANGE INTERVAL '1' MONTH PRECEDING) AS a FROM events",
            "1:66",
            "MILLISECOND, SECOND",
        ),
        (
            "SELECT LAG(x) OVER (PARTITION BY host ORDER BY ts ROWS 1 PRECEDING) AS a FROM events",
            "1:8",
            "without a frame",
        ),
        ("SELECT LAG(path) OVER (PARTITION BY host ORDER BY ts) AS a FROM events", "1:12", "windows keep no text"),
        ("SELECT LAG(x, n) OVER (PARTITION BY host ORDER BY ts) AS a FROM events", "1:15", "a literal from 0"),
        (&format!("SELECT SUM(DISTINCT x) {w} AS a FROM events"), "1:8", "COUNT(DISTINCT x) is"),
        (&format!("SELECT COUNT(DISTINCT x, y) {w} AS a FROM events"), "1:8", "COUNT takes 1 argument; found 2"),
        (&format!("SELECT COUNT(DISTINCT *) {w} AS a FROM events"), "1:8", "does not take the argument `*`"),
        (&format!("SELECT FIRST_VALUE(path) {w} AS a FROM events"), "1:20", "`path` is a string"),
        (&format!("SELECT LAST_VALUE(x) RESPECT NULLS {w} AS a FROM events"), "1:8", "no FILTER, IGNORE NULLS"),
        ("SELECT FIRST_VALUE(x) OVER (PARTITION BY host ORDER BY ts) AS a FROM events", "1:8", "needs a frame"),
        (&format!("SELECT LEAD(x) {w} AS a FROM events"), "1:8", "no window function; possible are COUNT"),
        (&format!("SELECT ROW_NUMBER() {w} AS a FROM events"), "1:8", "no window function"),
        ("SELECT CAST(x AS TIMESTAMP) AS a FROM events", "1:13", "only text such as"),
        ("SELECT CAST(ts AS DOUBLE) AS a FROM events", "1:13", "BIGINT (epoch milliseconds) only"),
        ("SELECT path LIKE 'a' ESCAPE 'bc' AS a FROM events", "1:29", "one character in quotes"),
        ("SELECT EXTRACT(HOUR FROM x) AS a FROM events", "1:26", "takes a timestamp"),
        ("SELECT SUBSTRING(path FROM x) AS a FROM events", "1:28", "takes a bigint"),
        ("SELECT x BETWEEN 'a' AND 2 AS a FROM events", "1:8", "values of one type"),
        ("SELECT x IN (1, 'a') AS a FROM events", "1:8", "values of one type"),
        ("SELECT x IN (SELECT 1) AS a FROM events", "1:8", "subquery"),
        ("SELECT CASE WHEN ok THEN 1 ELSE 'a' END AS a FROM events", "1:8", "values of one type"),
        ("SELECT COALESCE() AS a FROM events", "1:8", "takes 1 arguments; found 0"),
        ("SELECT NULLIF(x) AS a FROM events", "1:8", "takes 2 arguments"),
        ("SELECT INTERVAL '1' DAY AS a FROM events", "1:17", "RANGE only"),
        (
            "SELECT AVG(x) OVER (PARTITION BY host ORDER BY ts GROUPS 1 PRECEDING) AS a FROM events",
            "1:58",
            "GROUPS is not there",
        ),
        (
            "SELECT AVG(x) OVER (PARTITION BY host ORDER BY ts ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING) AS a FROM events",
            "1:8",
            "found 1 PRECEDING",
        ),
        (
            "SELECT AVG(x) OVER (w ROWS 1 PRECEDING) AS a FROM events WINDOW w AS (PARTITION BY host ORDER BY ts)",
            "1:21",
            "write it out",
        ),
        ("SELECT AVG(x) OVER (PARTITION BY host ROWS 1 PRECEDING) AS a FROM events", "1:8", "found none"),
        (&format!("SELECT SUM(ok) {w} AS a FROM events"), "1:12", "CASE WHEN x"),
        (&format!("SELECT SUM(AVG(x) {w}) {w} AS a FROM events"), "1:12", "inside another"),
        (&format!("SELECT x FROM events WHERE AVG(x) {w} > 1"), "1:28", "WHERE cannot have one"),
        (&format!("SELECT AVG(x) FILTER (WHERE ok) {w} AS a FROM events"), "1:22", "Expected: end of statement"),
    ] {
        let Err(error) = compile(sql) else {
            wrong.push(format!("{sql}\n  is accepted"));
            continue;
        };
        let found = format!("{}:{}", error.line, error.column);
        told.push_str(&format!("{sql}\n    {error}\n"));
        if !(place.is_empty() || found == place) || !error.message.contains(says) || error.line < 1 || error.column < 1
        {
            wrong.push(format!("{sql}\n  is refused at {found} ({place} expected): {}", error.message));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    insta::assert_snapshot!(told);
    let keyless = EventSpec { time: None, ..spec() };
    let sql = format!("SELECT AVG(x) {w} AS a FROM events");
    let error = Plan::compile(&sql, &Schema::new(&keyless).unwrap(), &keyless).unwrap_err();
    assert!(error.to_string().contains("configure [event] time first"), "{error}");
}

#[test]
fn without_an_entity_windows_are_by_the_kafka_key_and_say_nothing() {
    let spec = EventSpec { entity: None, ..spec() };
    let compile = |over: &str| {
        Plan::compile(&format!("SELECT SUM(x) OVER ({over}) AS a FROM events"), &Schema::new(&spec).unwrap(), &spec)
    };
    let plan = compile("ORDER BY ts ROWS 1 PRECEDING").unwrap();
    assert!(plan.to_string().contains("SUM(x) OVER (ORDER BY ts ROWS 1 PRECEDING)"), "{plan}");
    let error = compile("PARTITION BY host ORDER BY ts ROWS 1 PRECEDING").unwrap_err();
    assert!(error.to_string().contains("configure [event] entity, or leave out PARTITION BY"), "{error}");
}

#[test]
fn the_plan_prints_and_its_hash_ignores_layout_only() {
    let sql = "SELECT x, n / 2, path, AVG(x) OVER w AS a, x - LAG(x) OVER (PARTITION BY host ORDER BY ts) AS step
        FROM events WHERE path <> '/healthz'
        WINDOW w AS (PARTITION BY host ORDER BY ts RANGE BETWEEN INTERVAL '5' MINUTE PRECEDING AND CURRENT ROW)";
    let plan = compile(sql).unwrap();
    assert_eq!(plan.inputs(), ["path", "x", "n"]);
    let names: Vec<_> = plan.columns().iter().map(|c| (c.name.as_str(), c.kind)).collect();
    let (number, category) = (ColumnKind::Number, ColumnKind::Category);
    assert_eq!(names, [("x", number), ("n / 2", number), ("path", category), ("a", number), ("step", number)]);
    let expected = "reads
  path string
  x double
  n bigint
where
  (path <> '/healthz')
keeps of each row, per entity
  x
features
  x number (double) = x
  \"n / 2\" number (bigint) = (n / 2)
  path category (string) = path
  a number (double) = AVG(x) OVER (PARTITION BY host ORDER BY ts RANGE 300000 MS PRECEDING)
  step number (double) = (x - LAG(x, 1) OVER (PARTITION BY host ORDER BY ts))
";
    assert_eq!(plan.to_string(), expected);
    let same = sql.replace('\n', " -- a remark\n").replace(" w ", " win ").replace("w AS a", "win AS a");
    assert_eq!(compile(&same).unwrap().hash(), plan.hash());
    for (from, to) in [("'5'", "'6'"), ("/ 2", "/ 2.0"), ("healthz", "health"), ("AVG", "SUM"), ("AS a", "AS b")] {
        assert_ne!(compile(&sql.replace(from, to)).unwrap().hash(), plan.hash(), "{from} -> {to}");
    }
}

#[test]
fn where_selects_only_what_is_true() {
    let plan = compile("SELECT x FROM events WHERE y > 1").unwrap();
    for (y, selected) in [(Value::Null, false), (Value::Double(1.0), false), (Value::Double(2.0), true)] {
        assert_eq!(plan.selects(&event(&plan, 0, &|name| if name == "y" { y.clone() } else { Value::Null })), selected);
    }
}

const EARLY_AND_LATE: &str = "SELECT COUNT(*) OVER w AS c, SUM(x) OVER w AS s, LAG(x, 1, -1.0) OVER o AS l,
    MAX(x) OVER (PARTITION BY host ORDER BY ts ROWS 1 PRECEDING) AS m FROM events
    WINDOW w AS (PARTITION BY host ORDER BY ts RANGE INTERVAL '10' SECOND PRECEDING), o AS (PARTITION BY host ORDER BY ts)";

fn drive(plan: &Plan, windows: &mut Windows, limits: &WindowLimits, time_ms: i64, x: f64) -> (Vec<f64>, bool, u32) {
    let event = event(plan, time_ms, &|_| Value::Double(x));
    let peeked = plan.peek(&event, Some(windows), limits);
    let observed = plan.observe(&event, windows, limits);
    assert_eq!(format!("{peeked:?}"), format!("{:?}", observed.vector), "peek is observe without the trace");
    (observed.vector.numbers.to_vec(), observed.late, observed.rows_merged)
}

#[test]
fn rows_out_of_order_are_placed_by_time_and_late_ones_only_look() {
    let plan = compile(EARLY_AND_LATE).unwrap();
    let limits = WindowLimits { rows_max: 100, lateness_ms: 5_000 };
    let mut windows = Windows::default();
    let mut next = |time_ms, x| drive(&plan, &mut windows, &limits, time_ms, x);
    assert_eq!(next(0, 1e20), (vec![1.0, 1e20, -1.0, 1e20], false, 0));
    assert_eq!(next(10_000, 1.0), (vec![2.0, 1e20, 1e20, 1e20], false, 0), "the interval is inclusive");
    assert_eq!(next(10_001, 2.0), (vec![2.0, 3.0, 1.0, 2.0], false, 0), "1e20 left no trace");
    assert_eq!(next(6_000, 4.0), (vec![2.0, 1e20, 1e20, 1e20], false, 0), "its window is from -4 s to itself");
    assert_eq!(next(4_000, 8.0), (vec![3.0, 7.0, 2.0, 2.0], true, 0), "late: the windows as they stand");
    assert_eq!(next(10_001, 16.0), (vec![4.0, 23.0, 2.0, 16.0], false, 0), "the late one was not kept");
    // From the future by a wrong clock: what comes after it is late, until there is too much of it.
    next(90_000, 1.0);
    let late = (0..200).map(|i| next(20_000 + i, 1.0).1).collect::<Vec<_>>();
    assert_eq!((late.iter().position(|late| !late), late.iter().filter(|late| **late).count()), (Some(99), 99));
    // Also when it says so again and again.
    let late = (0..400).map(|i| next(if i % 20 == 0 { 90_000 } else { 20_200 + i }, 1.0).1).collect::<Vec<_>>();
    assert!(late.iter().filter(|late| **late).count() < 390, "{late:?}");
}

#[test]
fn beyond_rows_max_the_oldest_merge_into_panes_and_are_counted() {
    let plan = compile(EARLY_AND_LATE).unwrap();
    let limits = WindowLimits { rows_max: 3, lateness_ms: 0 };
    let mut windows = Windows::default();
    let merged: u32 = (0..10).map(|t| drive(&plan, &mut windows, &limits, t, 1.0).2).sum();
    assert_eq!((merged, windows.rows(), windows.panes()), (7, 3, 7));
    assert_eq!(drive(&plan, &mut windows, &limits, 10, 5.0).0, [11.0, 15.0, 1.0, 5.0]);
    assert_eq!(drive(&plan, &mut windows, &limits, 10_004, 5.0).0[..2], [8.0, 16.0], "0 to 3 ms have left");
    assert_eq!(drive(&plan, &mut windows, &limits, 60_000, 5.0).0[..2], [1.0, 5.0]);
    assert_eq!((windows.rows(), windows.panes()), (2, 0), "rows that no window can see leave on their own");
}

#[test]
fn a_row_can_be_placed_among_the_panes() {
    let sql = "SELECT COUNT(*) OVER w AS c, SUM(x) OVER w AS s, MIN(x) OVER w AS m, FIRST_VALUE(x) OVER w AS f, LAST_VALUE(x) OVER w AS v,
        LAG(x, 1, -1.0) OVER o AS l FROM events
        WINDOW w AS (PARTITION BY host ORDER BY ts RANGE INTERVAL '10' SECOND PRECEDING), o AS (PARTITION BY host ORDER BY ts)";
    let plan = compile(sql).unwrap();
    let limits = WindowLimits { rows_max: 2, lateness_ms: 9_000 };
    let mut windows = Windows::default();
    let mut next = |time_ms, x| drive(&plan, &mut windows, &limits, time_ms, x);
    for (time_ms, x) in [(1_000, 1.0), (2_000, 2.0), (3_000, 3.0), (4_000, 4.0), (5_000, 5.0)] {
        next(time_ms, x);
    }
    let (found, late, merged) = next(2_500, 0.5);
    assert_eq!(found[..5], [3.0, 3.5, 0.5, 1.0, 0.5], "1 and 2 s are in panes");
    assert!(found[5].is_nan(), "what was before it is not known any more");
    assert!(!late && merged == 1);
    assert_eq!(next(500, 8.0).0[..5], [2.0, 9.0, 1.0, 8.0, 1.0], "it came before the first pane, which it sees as one");
    assert_eq!(next(5_000, 5.0).0, [8.0, 28.5, 0.5, 8.0, 5.0, 5.0]);
}
