//! The promise: an expression means what PostgreSQL says it means, or the table of cases says why not.
//!
//! The cases are in `tests/data/expressions/`; `ask.py` there asked PostgreSQL.

use larum::event::{Event, EventSpec, Field, FieldType, Schema, Value, time::parse_sql_timestamp};
use larum::features::{Plan, WindowLimits, Windows};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Functions whose last bits may differ between libraries, or whose sums another order rounds differently.
const INEXACT: [&str; 9] = ["EXP", "LN", "LOG10", "POWER", "SIN", "COS", "STDDEV", "VAR", "AVG"];
const RELATIVE_ERROR_MAX: f64 = 1e-12;

struct Case {
    expression: String,
    /// The column of `arrivals.csv` or the only answer.
    expected: Vec<String>,
}

fn table(name: &str) -> Vec<BTreeMap<String, String>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/expressions").join(name);
    let mut reader = csv::Reader::from_path(path).expect("the table is there");
    reader.deserialize().map(|row| row.expect("a row of the table")).collect()
}

fn cases(name: &str) -> Vec<Case> {
    let case = |mut row: BTreeMap<String, String>| {
        let mut take = |column: &str| row.remove(column).expect("a column of the table");
        let [expression, postgresql, larum, reason] = ["expression", "postgresql", "larum", "reason"].map(&mut take);
        assert_eq!(larum.is_empty(), reason.is_empty(), "{expression}: another answer needs a reason");
        assert!(larum.is_empty() || larum != postgresql, "{expression}: the answers are the same");
        let answer = if larum.is_empty() { postgresql } else { larum };
        Case { expression, expected: answer.split('|').map(str::to_owned).collect() }
    };
    table(name).into_iter().map(case).collect()
}

fn value(kind: FieldType, text: &str) -> Value<'_> {
    match kind {
        _ if text.is_empty() => Value::Null,
        FieldType::String => Value::Text(text.into()),
        FieldType::Double => Value::Double(text.parse().expect("a double")),
        FieldType::Bigint => Value::Bigint(text.parse().expect("a bigint")),
        FieldType::Boolean => Value::Boolean(text.parse().expect("true or false")),
        FieldType::Timestamp => Value::Timestamp(parse_sql_timestamp(text).expect("a timestamp")),
    }
}

fn spec(fields: &[(&str, &str)], windows: bool) -> EventSpec {
    EventSpec {
        id: None,
        time: windows.then(|| "ts".into()),
        entity: windows.then(|| "host".into()),
        fields: fields.iter().map(|(name, kind)| Field::parse(name, kind).expect("a known type")).collect(),
        lateness_ms: 3_600_000,
        bytes_max: 1 << 20,
        depth_max: 8,
    }
}

fn compile(expression: &str, spec: &EventSpec) -> Plan {
    let sql = format!("SELECT {expression} AS answer FROM events");
    Plan::compile(&sql, &Schema::new(spec).expect("the table's own fields"), spec)
        .unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn event<'a>(plan: &Plan, row: &'a BTreeMap<String, String>, kinds: &[(&str, &str)]) -> Event<'a> {
    let kind_of = |name: &str| kinds.iter().find(|(known, _)| *known == name).map_or("string", |(_, kind)| kind);
    let typed = |name: &String| {
        let kind = Field::parse(name, kind_of(name)).expect("a known type").kind;
        // An empty text cannot be told from a missing one in CSV: one field is empty, all others are missing.
        if name == "empty" { Value::Text("".into()) } else { value(kind, &row[name]) }
    };
    let time_ms = row.get("ts").and_then(|ts| parse_sql_timestamp(ts)).expect("every row has a time");
    let entity = row.get("host").map_or("", String::as_str).into();
    Event { id: "".into(), time_ms, entity, fields: plan.inputs().iter().map(typed).collect() }
}

/// What is wrong with the answer, if anything.
fn compare(expression: &str, numbers: &[f64], categories: &[Option<Box<str>>], expected: &str) -> Option<String> {
    let found = match (numbers, categories) {
        ([x], []) if x.is_nan() => "NULL".to_owned(),
        ([x], []) => format!("{x}"),
        ([], [text]) => text.as_deref().unwrap_or("NULL").to_owned(),
        other => panic!("one column gave {other:?}"),
    };
    let number = |text: &str| match text {
        "true" => Some(1.0),
        "false" => Some(0.0),
        text => text.parse::<f64>().ok(),
    };
    let same = match (numbers.first(), number(expected)) {
        (Some(found), Some(expected)) => {
            let inexact = INEXACT
                .iter()
                .any(|name| expression.contains(&format!("{name}(")) || expression.contains(&format!("{name}_")));
            let off_max = if inexact { RELATIVE_ERROR_MAX * expected.abs().max(f64::MIN_POSITIVE) } else { 0.0 };
            (found - expected).abs() <= off_max
        }
        _ => found == expected,
    };
    (!same).then(|| format!("{expression} is {found} instead of {expected}"))
}

#[test]
fn scalars_are_postgresqls() {
    let declared = table("row.csv");
    let fields: Vec<_> = declared.iter().map(|field| (field["name"].as_str(), field["type"].as_str())).collect();
    let row = declared.iter().map(|field| (field["name"].clone(), field["value"].clone())).collect();
    let (spec, limits) = (spec(&fields, false), WindowLimits { rows_max: 1, lateness_ms: 0 });
    let cases = cases("scalars.csv");
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|Case { expression, expected }| {
            let plan = compile(expression, &spec);
            let vector = plan.peek(&event(&plan, &row, &fields), None, &limits);
            compare(expression, &vector.numbers, &vector.categories, &expected[0])
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() > 250, "{} cases are left", cases.len());
}

/// Rows arrive out of order and in two entities; each answer is PostgreSQL's over the rows that have arrived.
#[test]
fn windows_are_postgresqls_over_what_has_arrived() {
    let fields = [
        ("ts", "timestamp"),
        ("host", "string"),
        ("x", "double"),
        ("n", "bigint"),
        ("ok", "boolean"),
        ("path", "string"),
    ];
    let (spec, arrivals) = (spec(&fields, true), table("arrivals.csv"));
    let limits = WindowLimits { rows_max: 1_000, lateness_ms: spec.lateness_ms };
    let cases = cases("windows.csv");
    let mut wrong = Vec::new();
    for Case { expression, expected } in &cases {
        let plan = compile(expression, &spec);
        let mut windows: BTreeMap<&str, Windows> = BTreeMap::new();
        assert_eq!(expected.len(), arrivals.len(), "{expression}");
        for (row, expected) in arrivals.iter().zip(expected) {
            let windows = windows.entry(&row["host"]).or_default();
            let observed = plan.observe(&event(&plan, row, &fields), windows, &limits);
            let answer = compare(expression, &observed.vector.numbers, &observed.vector.categories, expected);
            wrong.extend(answer.map(|wrong| format!("row {}: {wrong}", row["id"])));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases.len() > 80, "{} cases are left", cases.len());
}
