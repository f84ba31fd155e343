//! `larum replay` as a user runs it: files in, `scores.csv` and `report.json` out, exit codes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use flate2::{Compression, write::GzEncoder};
use larum::draw::{Draw, Purpose};
use larum::quality;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const HEADER: &str = "row,event_id,score,p_value,alarm,model_version,score:linear_regression,score:nearest_neighbours,\
    score:wide_neighbours,score:isolation_forest,score:logistic_regression,score:svm";

/// The default ones, in their order.
const MODELS: [&str; 6] =
    ["linear_regression", "nearest_neighbours", "wide_neighbours", "isolation_forest", "logistic_regression", "svm"];

fn place(model: &str) -> usize {
    MODELS.iter().position(|name| *name == model).unwrap()
}

fn larum(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_larum")).current_dir(folder).args(arguments.split_whitespace()).output().unwrap()
}

/// Runs `larum replay` in `folder`, which must go well; its `scores.csv` and `report.json`.
fn replay(folder: &Path, arguments: &str) -> (String, Value) {
    let output = larum(folder, &format!("replay {arguments} -o scores.csv --report report.json"));
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    read_results(folder)
}

fn read_results(folder: &Path) -> (String, Value) {
    let scores = std::fs::read_to_string(folder.join("scores.csv")).unwrap();
    (scores, serde_json::from_slice(&std::fs::read(folder.join("report.json")).unwrap()).unwrap())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), content).unwrap();
}

/// One line of `scores.csv`.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    row: usize,
    event_id: String,
    score: f64,
    p_value: f64,
    alarm: u8,
    model_version: i64,
    models: Vec<f64>,
}

fn lines(scores: &str) -> Vec<Line> {
    let mut reader = csv::Reader::from_reader(scores.as_bytes());
    let line = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.unwrap();
        Line {
            row: record[0].parse().unwrap(),
            event_id: record[1].into(),
            score: record[2].parse().unwrap(),
            p_value: record[3].parse().unwrap(),
            alarm: record[4].parse().unwrap(),
            model_version: record[5].parse().unwrap(),
            models: record.iter().skip(6).map(|cell| cell.parse().unwrap()).collect(),
        }
    };
    reader.records().map(line).collect()
}

/// What models said, without ids and alarms.
fn said(scores: &str) -> Vec<(f64, f64, i64, Vec<f64>)> {
    lines(scores).into_iter().map(|line| (line.score, line.p_value, line.model_version, line.models)).collect()
}

fn unit(i: usize, what: u64) -> f64 {
    Draw::new(what).unit(Purpose::Traffic, i as u64)
}

/// One row in twenty-five is an anomaly: its load does not go with its latency.
fn anomaly(i: usize) -> bool {
    unit(i, 1) < 0.04
}

/// (latency, load, region); latency is missing now and then, and so is the region.
fn features(i: usize) -> (Option<f64>, f64, Option<&'static str>) {
    let load = unit(i, 2);
    let latency = if anomaly(i) { 30.0 + 20.0 * unit(i, 3) } else { 10.0 + 10.0 * load + unit(i, 3) };
    let region = (unit(i, 4) > 0.03).then_some(if unit(i, 5) < 0.7 { "eu" } else { "us" });
    ((unit(i, 6) > 0.02).then_some(latency), load, region)
}

fn table(rows: usize) -> String {
    let mut out = "latency,load,region,truth\n".to_owned();
    for i in 0..rows {
        let (latency, load, region) = features(i);
        let latency = latency.map_or_else(String::new, |latency| latency.to_string());
        writeln!(out, "{latency},{load},{},{}", region.unwrap_or(""), u8::from(anomaly(i))).unwrap();
    }
    out
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn sorted<const N: usize>(mut names: [&str; N]) -> Vec<&str> {
    names.sort_unstable();
    names.to_vec()
}

#[test]
fn scores_and_report_have_the_shape_of_the_contract() {
    let folder = folder();
    write(folder.path(), "t.csv", table(700));
    let (scores, report) = replay(folder.path(), "-i t.csv --label truth --label-delay 10");
    assert_eq!(scores.lines().next(), Some(HEADER));
    let lines = lines(&scores);
    assert_eq!(lines.iter().map(|line| line.row).collect::<Vec<_>>(), (1..=700).collect::<Vec<_>>());
    for line in &lines {
        assert_eq!(line.event_id, format!("replay-0-{}", line.row - 1));
        assert!((0.0..1.0).contains(&line.score) && line.p_value > 0.0 && line.p_value <= 1.0, "{line:?}");
        let surprise = -line.p_value.log10();
        assert!((surprise / (surprise + 3.0) - line.score).abs() < 1e-9, "{line:?}");
        assert!(line.alarm <= 1 && line.models.len() == MODELS.len(), "{line:?}");
        assert!(line.models.iter().all(|score| (0.0..1.0).contains(score)), "{line:?}");
    }
    assert!(lines.iter().any(|line| line.score > 0.4) && lines[650].models.iter().all(|score| *score > 0.0));

    let report_keys = sorted([
        "rows",
        "scored",
        "seconds",
        "events_per_second",
        "alarms",
        "alarm_rate",
        "labels_used",
        "late",
        "auc",
        "average_precision",
        "budgets",
        "models",
    ]);
    let mut found = keys(&report);
    found.sort_unstable();
    assert_eq!(found, report_keys);
    assert_eq!((&report["rows"], &report["scored"], &report["labels_used"]), (&json!(700), &json!(700), &json!(689)));
    let budgets = report["budgets"].as_array().unwrap();
    assert_eq!(budgets.iter().map(|found| found["budget"].as_f64().unwrap()).collect::<Vec<_>>(), [0.005, 0.01, 0.05]);
    for budget in budgets {
        let mut found = keys(budget);
        found.sort_unstable();
        assert_eq!(found, ["budget", "precision", "recall"]);
    }
    let detector = sorted(["auc", "average_precision"]);
    let learner = sorted(["auc", "average_precision", "accuracy", "log_loss", "brier"]);
    for (name, expected) in [("linear_regression", &detector), ("logistic_regression", &learner), ("svm", &learner)] {
        let mut found = keys(&report["models"][name]);
        found.sort_unstable();
        assert_eq!(found, *expected, "{name}");
        assert!(report["models"][name].as_object().unwrap().values().all(Value::is_f64), "{name}");
    }
    assert_eq!(keys(&report["models"]).len(), MODELS.len());

    // Without truth every figure that needs it is null.
    let (_, report) = replay(folder.path(), "-i t.csv");
    assert!(report["auc"].is_null() && report["average_precision"].is_null());
    assert!(report["budgets"][0]["precision"].is_null() && report["models"]["svm"]["brier"].is_null());
    assert!(report["models"]["svm"].as_object().unwrap().contains_key("brier"));
}

#[test]
fn two_runs_write_the_same_bytes_and_another_seed_does_not() {
    let folder = folder();
    write(folder.path(), "t.csv", table(1_500));
    let (scores, _) = replay(folder.path(), "-i t.csv --label truth --label-delay 5 --label-rate 0.5");
    let (again, _) = replay(folder.path(), "-i t.csv --label truth --label-delay 5 --label-rate 0.5");
    assert!(scores == again);
    let (other, _) = replay(folder.path(), "-i t.csv --label truth --label-delay 5 --label-rate 0.5 --seed 7");
    assert!(scores != other);
}

#[test]
fn the_report_agrees_with_the_written_scores() {
    let folder = folder();
    write(folder.path(), "t.csv", table(2_000));
    for warmup in [0, 500] {
        let (scores, report) =
            replay(folder.path(), &format!("-i t.csv --label truth --label-delay 3 --warmup {warmup}"));
        let lines: Vec<Line> = lines(&scores).into_iter().filter(|line| line.row > warmup).collect();
        let truth: Vec<bool> = lines.iter().map(|line| anomaly(line.row - 1)).collect();
        let all: Vec<f64> = lines.iter().map(|line| line.score).collect();
        let same = |found: &Value, expected: Option<f64>| assert_eq!(found.as_f64(), expected);
        assert!(quality::auc(&all, &truth).unwrap() > 0.8);
        same(&report["auc"], quality::auc(&all, &truth));
        same(&report["average_precision"], quality::average_precision(&all, &truth));
        for (i, model) in MODELS.iter().enumerate() {
            let scores: Vec<f64> = lines.iter().map(|line| line.models[i]).collect();
            same(&report["models"][model]["auc"], quality::auc(&scores, &truth));
            same(&report["models"][model]["average_precision"], quality::average_precision(&scores, &truth));
        }
        for (i, budget) in [0.005, 0.01, 0.05].into_iter().enumerate() {
            let found = quality::precision_recall_at(budget, &all, &truth).unwrap();
            same(&report["budgets"][i]["precision"], Some(found.0));
            same(&report["budgets"][i]["recall"], Some(found.1));
        }
        let alarms = lines.iter().filter(|line| line.alarm == 1).count();
        assert_eq!(report["alarms"], json!(alarms));
        same(&report["alarm_rate"], Some(alarms as f64 / lines.len() as f64));
    }
}

#[test]
fn warmup_leaves_rows_out_of_the_report_and_not_out_of_the_scores() {
    let folder = folder();
    write(folder.path(), "t.csv", table(900));
    let (all, whole) = replay(folder.path(), "-i t.csv --label truth");
    let (scores, report) = replay(folder.path(), "-i t.csv --label truth --warmup 400");
    assert!(all == scores);
    assert_eq!((&report["rows"], &report["scored"]), (&json!(900), &json!(900)));
    assert_ne!(report["auc"], whole["auc"]);
    let (scores, report) = replay(folder.path(), "-i t.csv --label truth --warmup 900");
    assert!(all == scores);
    assert!(report["auc"].is_null() && report["alarm_rate"].is_null() && report["alarms"] == json!(0));
}

#[test]
fn a_label_is_learned_after_its_delay_and_before_the_next_row() {
    let folder = folder();
    // Two rows have a truth: an anomaly in row 300, a normal in row 400.
    let mut text = "a,b,truth\n".to_owned();
    for row in 1..=900 {
        let truth = [(300, "1"), (400, "0")].into_iter().find_map(|(at, truth)| (row == at).then_some(truth));
        writeln!(text, "{},{},{}", unit(row, 1), unit(row, 2), truth.unwrap_or("")).unwrap();
    }
    write(folder.path(), "t.csv", &text);
    for delay in [0, 1, 37, 499] {
        let (scores, report) = replay(folder.path(), &format!("-i t.csv --label truth --label-delay {delay}"));
        assert_eq!(report["labels_used"], json!(2), "delay {delay}");
        let lines = lines(&scores);
        let version = |row: usize| lines[row - 1].model_version;
        let changes: Vec<usize> = (2..=900).filter(|row| version(*row) != version(row - 1)).collect();
        assert_eq!(changes, [300 + delay + 1, 400 + delay + 1], "delay {delay}");
        assert!(version(1) == 0 && version(300 + delay + 1) > 0 && version(900) > version(300 + delay + 1));
        let learner = |row: usize| lines[row - 1].models[place("logistic_regression")];
        assert!(
            (1..=400 + delay).all(|row| learner(row) == 0.0),
            "delay {delay}: it spoke before both classes were labelled"
        );
    }
    let (scores, report) = replay(folder.path(), "-i t.csv --label truth --label-delay 500");
    assert_eq!(report["labels_used"], json!(1), "row 400 + 500 is the last: nothing is scored after it");
    assert_eq!(lines(&scores).iter().filter(|line| line.model_version > 0).count(), 100);
    let (scores, report) = replay(folder.path(), "-i t.csv --label truth");
    assert_eq!(report["labels_used"], json!(0));
    assert!(lines(&scores).iter().all(|line| line.model_version == 0));
}

#[test]
fn a_share_of_the_labels_comes_back() {
    let folder = folder();
    write(folder.path(), "t.csv", table(2_000));
    let used = |arguments: &str| {
        let (scores, report) = replay(folder.path(), &format!("-i t.csv --label truth --label-delay 0 {arguments}"));
        (report["labels_used"].as_u64().unwrap(), scores)
    };
    assert_eq!(used("").0, 1_999);
    assert_eq!(used("--label-rate 1").0, 1_999);
    assert_eq!(used("--label-rate 0").0, 0);
    let (quarter, scores) = used("--label-rate 0.25");
    assert!((430..=570).contains(&quarter), "{quarter}");
    assert!(scores == used("--label-rate 0.25").1);
    let versions = |scores: &str| lines(scores).iter().map(|line| line.model_version).collect::<Vec<_>>();
    assert_ne!(versions(&scores), versions(&used("--label-rate 0.25 --seed 5").1), "the seed chooses");
}

#[test]
fn an_empty_cell_is_missing_and_not_zero() {
    let folder = folder();
    let mut text = "a,b\n".to_owned();
    let (empty, zero) = (|row: usize| row > 500 && row.is_multiple_of(50), |row: usize| row > 500 && row % 50 == 25);
    for row in 1..=1_200 {
        let a =
            if empty(row) { String::new() } else { (if zero(row) { 0.0 } else { 1_000.0 + unit(row, 1) }).to_string() };
        writeln!(text, "{a},{}", unit(row, 2)).unwrap();
    }
    write(folder.path(), "t.csv", &text);
    let (scores, report) = replay(folder.path(), "-i t.csv");
    assert_eq!(report["scored"], json!(1_200));
    let of = |chosen: &dyn Fn(usize) -> bool| {
        let scores: Vec<f64> = lines(&scores).iter().filter(|line| chosen(line.row)).map(|line| line.score).collect();
        assert_eq!(scores.len(), 14);
        scores.iter().sum::<f64>() / 14.0
    };
    let (missing, zero) = (of(&empty), of(&zero));
    assert!(missing < 0.25 && zero > 0.4, "missing {missing}, zero {zero}");
}

#[test]
fn a_text_column_is_a_category() {
    let folder = folder();
    // Only the colour says what is an anomaly, and numbers in it do not make it one.
    let mut text = "a,colour,truth\n".to_owned();
    for row in 0..1_500 {
        let colour = if anomaly(row) { "4711" } else { ["red", "green", "1"][row % 3] };
        writeln!(text, "{},{colour},{}", unit(row, 2), u8::from(anomaly(row))).unwrap();
    }
    write(folder.path(), "t.csv", &text);
    let (_, report) = replay(folder.path(), "-i t.csv --label truth --label-delay 0 --warmup 300");
    for model in ["linear_regression", "logistic_regression", "svm"] {
        assert!(report["models"][model]["auc"].as_f64().unwrap() > 0.95, "{model}: {report:#}");
    }
}

#[test]
fn columns_named_by_flags_are_no_features() {
    let folder = folder();
    // The truth is chance: whoever knows it before it comes reads it from the row.
    // Nine numbers: so many are no series, of which --time would make more features.
    let names: String = (0..8).map(|i| format!("x{i},")).collect();
    let mut plain = format!("{names}b,truth\n");
    let mut named = format!("id,when,{names}host,b,truth\n");
    for row in 0..1_200 {
        let numbers: String = (4..12).map(|column| format!("{},", unit(row, column))).collect();
        let (b, truth) = (unit(row, 2), u8::from(unit(row, 3) < 0.1));
        writeln!(plain, "{numbers}{b},{truth}").unwrap();
        let when = format!("2026-01-01T00:{:02}:{:02}Z", row / 60, row % 60);
        writeln!(named, "e{truth}-{row},{when},{numbers}host-{truth},{b},{truth}").unwrap();
    }
    write(folder.path(), "plain.csv", &plain);
    write(folder.path(), "named.csv", &named);
    let (scores, report) = replay(folder.path(), "-i plain.csv --label truth --label-delay 0");
    let auc = report["models"]["logistic_regression"]["auc"].as_f64().unwrap();
    assert!((0.35..0.65).contains(&auc), "the truth is a feature: {auc}");
    let (same, _) =
        replay(folder.path(), "-i named.csv --label truth --label-delay 0 --id id --time when --entity host");
    assert_eq!(said(&scores), said(&same));
    let truth = u8::from(unit(6, 3) < 0.1);
    assert_eq!(lines(&same)[6].event_id, format!("e{truth}-6"));
    let (other, _) = replay(folder.path(), "-i named.csv --label truth --label-delay 0 --id id --time when");
    assert_ne!(said(&scores), said(&other), "without the flag it is one");
}

#[test]
fn a_time_makes_a_series_of_few_numbers() {
    let folder = folder();
    // A level that moves for a while by less than the noise: no value is rare, their mean is.
    let mut text = "when,x,truth\n".to_owned();
    for row in 0..3_000 {
        let moved = row >= 1_000 && row % 1_000 < 60;
        let x = unit(row, 1) + if moved { 0.4 } else { 0.0 };
        writeln!(text, "{},{x},{}", 1_700_000_000_000_u64 + 60_000 * row as u64, u8::from(moved)).unwrap();
    }
    write(folder.path(), "level.csv", &text);
    let auc = |flags: &str| {
        let (_, report) = replay(folder.path(), &format!("-i level.csv --label truth --warmup 500 {flags}"));
        report["auc"].as_f64().unwrap()
    };
    let (series, points) = (auc("--time when"), auc("--id when"));
    assert!(series > 0.9 && points < 0.8, "series {series}, points {points}");
}

#[test]
fn a_series_has_days() {
    let folder = folder();
    // Fifteen days, a row every ten minutes; busy from nine to five, but for one day on which all is as at night.
    let mut text = "when,x,truth\n".to_owned();
    for row in 0..15 * 144 {
        let (day, hour) = (row / 144, row % 144 / 6);
        let busy = (9..17).contains(&hour);
        let missed = busy && day == 11;
        let x = unit(row, 1) + if busy && !missed { 8.0 } else { 0.0 };
        writeln!(text, "{},{x},{}", 1_700_006_400_000_u64 + 600_000 * row as u64, u8::from(missed)).unwrap();
    }
    write(folder.path(), "days.csv", &text);
    let objects = text.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        format!(r#"{{"when":{},"x":{},"truth":{}}}"#, cells[0], cells[1], cells[2]) + "\n"
    });
    write(folder.path(), "days.ndjson", objects.collect::<String>());
    for file in ["days.csv", "days.ndjson"] {
        let (_, report) = replay(folder.path(), &format!("-i {file} --label truth --warmup 500 --time when"));
        let auc = report["auc"].as_f64().unwrap();
        assert!(auc > 0.95, "{file}: {auc}");
    }
}

#[test]
fn a_series_alarms_by_a_threshold_once_an_hour_and_in_a_file_of_more_than_a_day_once_a_day() {
    let folder = folder();
    // Two thousand rows, the last hundred of them an incident.
    let file = |seconds: u64| {
        let line = |row: u64| {
            let x = unit(row as usize, 1) + if row < 1_900 { 0.0 } else { 9.0 };
            format!("{},{x}\n", 1_700_006_400_000 + 1_000 * seconds * row)
        };
        "when,x\n".to_owned() + &(0..2_000).map(line).collect::<String>()
    };
    for (seconds, loud_min, loud_max) in [(40, 2, 3), (60, 1, 2)] {
        write(folder.path(), "t.csv", file(seconds));
        let (scores, _) = replay(folder.path(), "-i t.csv --time when");
        let incident = &lines(&scores)[1_900..];
        let strange = incident.iter().filter(|line| line.score >= 0.46).count();
        let loud = incident.iter().filter(|line| line.alarm == 1).count();
        assert!(strange >= 50 && (loud_min..=loud_max).contains(&loud), "{seconds} s: {loud} alarms of {strange}");
        assert!(incident.iter().all(|line| line.alarm == 0 || line.score >= 0.46));
    }
}

#[test]
fn a_slip_among_numbers_is_refused_and_what_is_missing_is_not() {
    let folder = folder();
    let mut csv = "a,b\n".to_owned();
    let mut json = String::new();
    for row in 0..600 {
        let cell = match row {
            200 => "12,5".to_owned(),
            300 => "N/A".to_owned(),
            _ => unit(row, 1).to_string(),
        };
        writeln!(csv, "\"{cell}\",{}", unit(row, 2)).unwrap();
        let cell = if cell.parse::<f64>().is_ok() { cell } else { format!("{cell:?}") };
        writeln!(json, r#"{{"a":{cell},"b":{}}}"#, unit(row, 2)).unwrap();
    }
    write(folder.path(), "t.csv", csv);
    write(folder.path(), "t.ndjson", json);
    // JSON has a word for what is missing, and text is not it.
    for (file, scored) in [("t.csv", 599), ("t.ndjson", 598)] {
        let output = larum(folder.path(), &format!("replay -i {file} --report report.json -o scores.csv"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let (_, report) = read_results(folder.path());
        assert!(output.status.success() && report["scored"] == json!(scored), "{file}: {report:#} {said}");
        assert!(said.contains("12,5") && said.contains("N/A") == (file == "t.ndjson"), "{file}: {said}");
    }
}

#[test]
fn a_word_that_comes_twice_among_numbers_is_a_category() {
    let folder = folder();
    let line = |row: usize| format!("{},{}\n", if row % 250 == 249 { "ERR" } else { "200" }, unit(row, 1));
    write(folder.path(), "t.csv", "code,x\n".to_owned() + &(0..1_000).map(line).collect::<String>());
    let (_, report) = replay(folder.path(), "-i t.csv");
    assert_eq!(report["scored"], json!(1_000));
}

#[test]
fn a_replay_says_by_what_rule_it_alarms_and_what_came_late() {
    let folder = folder();
    let line = |row: u64| format!("{},{}\n", 1_700_006_400_000 + 60_000 * (row * 7 % 200), unit(row as usize, 1));
    write(folder.path(), "t.csv", "when,x\n".to_owned() + &(0..200).map(line).collect::<String>());
    let said = |arguments: &str| {
        String::from_utf8(larum(folder.path(), &format!("replay -i t.csv {arguments}")).stdout).unwrap()
    };
    let series = said("--time when");
    assert!(series.contains("alarm rule: score of at least 0.46, one per entity in 3600 s"), "{series}");
    assert!(series.contains("rows were older than"), "{series}");
    let table = said("--id when");
    assert!(table.contains("alarm rule: 20 alarms per 86400 s") && !table.contains("older"), "{table}");
    let help = String::from_utf8(larum(folder.path(), "replay --help").stdout).unwrap();
    assert!(help.contains("score of 0.46"), "{help}");
}

#[test]
fn a_constant_series_has_no_days() {
    let folder = folder();
    // A tenth is no binary fraction: sums of it are rounded.
    let line = |row: u64| format!("{},0.1\n", 1_700_006_400_000 + 600_000 * row);
    write(folder.path(), "constant.csv", "when,x\n".to_owned() + &(0..5 * 144).map(line).collect::<String>());
    let (scores, _) = replay(folder.path(), "-i constant.csv --time when");
    let strange = lines(&scores).into_iter().filter(|line| line.score > 0.4).count();
    assert_eq!(strange, 0);
}

#[test]
fn files_of_every_form_give_the_same_scores() {
    let folder = folder();
    let table = table(1_100);
    write(folder.path(), "t.csv", &table);
    let arguments = "--label truth --label-delay 2";
    let (expected, report) = replay(folder.path(), &format!("-i t.csv {arguments}"));
    let figures = |report: &Value| (report["auc"].clone(), report["models"].clone(), report["labels_used"].clone());

    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(table.as_bytes()).unwrap();
    // The name does not matter; the first bytes do.
    write(folder.path(), "packed", packed.finish().unwrap());
    let (scores, packed) = replay(folder.path(), &format!("-i packed {arguments}"));
    assert!(scores == expected && figures(&packed) == figures(&report), "gzip");

    let mut child = Command::new(env!("CARGO_BIN_EXE_larum"))
        .current_dir(folder.path())
        .args(format!("replay -i - {arguments} -o scores.csv --report report.json").split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let (scores, piped) = read_results(folder.path());
    assert!(scores == expected && figures(&piped) == figures(&report), "standard input");

    // NDJSON: what is missing is null in one row and absent in the next.
    let mut json = String::new();
    for i in 0..1_100 {
        let (latency, load, region) = features(i);
        let mut fields = vec![format!("\"load\":{load}")];
        match latency {
            Some(latency) => fields.insert(0, format!("\"latency\":{latency}")),
            None if i % 2 == 0 => fields.insert(0, "\"latency\":null".into()),
            None => {}
        }
        fields.extend(region.map(|region| format!("\"region\":\"{region}\"")));
        fields.push(format!("\"truth\":{}", ["0", "1", "false", "true"][usize::from(anomaly(i)) + 2 * (i % 2)]));
        writeln!(json, "{{{}}}", fields.join(",")).unwrap();
    }
    write(folder.path(), "t.ndjson", &json);
    let (scores, lines) = replay(folder.path(), &format!("-i t.ndjson {arguments}"));
    assert!(scores == expected && figures(&lines) == figures(&report), "NDJSON");

    // A byte order mark, CRLF, quotes and true/false for 1/0 say nothing either.
    let quoted: String = table.lines().map(|line| line.replace(",eu,", ",\"eu\",") + "\r\n").collect();
    write(folder.path(), "w.csv", format!("\u{feff}{quoted}"));
    assert!(replay(folder.path(), &format!("-i w.csv {arguments}")).0 == expected, "as Windows writes it");
}

#[test]
fn what_the_user_can_mend_is_exit_code_2() {
    let folder = folder();
    let at = folder.path();
    write(at, "t.csv", "a,b,truth\n1,2,0\n2,3,1\n");
    write(at, "truth.csv", "a,b,truth\n1,2,0\n2,3,maybe\n");
    write(at, "short.csv", "a,b,truth\n1,2,0\n2,3\n");
    write(at, "twice.csv", "a,a\n1,2\n");
    write(at, "empty.csv", "");
    write(at, "label.csv", "truth\n0\n1\n");
    write(at, "truth.ndjson", "{\"a\":1,\"truth\":0}\n{\"a\":1,\"truth\":2}\n");
    write(at, "good.toml", "[kafka]\nevents = \"x\"\n[event.fields]\na = \"double\"\n");
    write(at, "bad.toml", "[kafka]\nevent = \"x\"\n");
    let cases = [
        ("-i none.csv", "none.csv"),
        ("-i t.csv --label no", "no"),
        ("-i t.csv --time no", "--time"),
        ("-i t.csv --entity no", "--entity"),
        ("-i t.csv --id no", "--id"),
        ("-i t.csv -c good.toml --entity hots", "--entity"),
        ("-i truth.csv --label truth", "maybe"),
        ("-i truth.ndjson --label truth", "2"),
        ("-i short.csv", "short.csv"),
        ("-i twice.csv", "two columns"),
        ("-i empty.csv", "empty"),
        ("-i label.csv --label truth", "feature"),
        ("-i t.csv -c none.toml", "none.toml"),
        ("-i t.csv -c bad.toml", "event"),
        ("-i t.csv --label-delay 1", "--label"),
        ("-i t.csv --label truth --label-rate 0.5", "--label-delay"),
        ("-i t.csv --label truth --label-delay 1 --label-rate 1.5", "0 to 1"),
        ("-i t.csv --label truth --label-delay -1", "-1"),
        ("-i t.csv -o no/such/folder.csv", "folder.csv"),
        ("", "--input"),
    ];
    for (arguments, named) in cases {
        let output = larum(at, &format!("replay {arguments}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains(named), "{arguments} does not name {named:?}: {said}");
    }
    let output = larum(at, "replay -i t.csv --label truth");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("rows 2, scored 2"));
}

#[test]
fn the_shop_is_replayed_under_its_configuration() {
    let folder = folder();
    let at = folder.path();
    let config = larum(at, "generate --config");
    write(at, "larum.toml", &config.stdout);
    assert!(larum(at, "generate --truth --events 6000 --seed 2 -o shop.ndjson.gz").status.success());
    let arguments = "-c larum.toml -i shop.ndjson.gz --label anomaly --label-delay 200";
    let (scores, report) = replay(at, arguments);
    assert_eq!(
        scores.lines().next(),
        Some("row,event_id,score,p_value,alarm,model_version,score:regression,score:logistic,score:svm")
    );
    assert_eq!(
        (&report["rows"], &report["scored"], &report["labels_used"]),
        (&json!(6_000), &json!(6_000), &json!(5_799))
    );
    let first = larum::shop::Shop::new(2, larum::shop::START_MS).event(0);
    assert_eq!(lines(&scores)[0].event_id, format!("{:016x}", first.request_id));
    assert!(report["auc"].as_f64().unwrap() > 0.7, "{report:#}");
    assert!(replay(at, arguments).0 == scores);
    assert!(replay(at, &format!("{arguments} --seed 3")).0 != scores, "the seed of the command line comes first");

    // Rows that a service would make dead letters are counted and left out; the others keep their numbers.
    write(
        at,
        "bad.ndjson",
        "{\"request_id\":\"a\",\"ts\":1,\"host\":\"h\"}\n{\"request_id\":\n\n{\"request_id\":\"c\",\"ts\":3,\"host\":\"h\"}\n",
    );
    let output = larum(at, "replay -c larum.toml -i bad.ndjson -o scores.csv --report report.json");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 rows could not be used"));
    let (scores, report) = read_results(at);
    assert_eq!((&report["rows"], &report["scored"]), (&json!(3), &json!(2)));
    let lines = lines(&scores);
    assert_eq!((lines[0].row, &*lines[0].event_id, lines[1].row, &*lines[1].event_id), (1, "a", 3, "c"));

    write(at, "alien.ndjson", "{\"a\":1}\n[]\n");
    let output = larum(at, "replay -c larum.toml -i alien.ndjson");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("2 rows could not be used") && said.contains("no row could be used"), "{said}");
}

#[test]
fn a_reviewer_learns_which_of_two_oddities_matters() {
    let folder = folder();
    // Two groups of forty are equally odd, and one of them is what people look for.
    let mut text = "a,b,truth\n".to_owned();
    for row in 1..=1_000 {
        let (a, b, truth) = match row % 25 {
            0 => (4.0, -4.0, 0),
            1 => (-4.0, 4.0, 1),
            _ => (0.0, 0.0, 0),
        };
        writeln!(text, "{},{},{truth}", a + unit(row, 1), b + unit(row, 2)).unwrap();
    }
    write(folder.path(), "t.csv", &text);
    let config = "[kafka]\nevents = \"rows\"\n[event.fields]\na = \"double\"\nb = \"double\"\n\
        [[models]]\nkind = \"isolation_forest\"\n[[models]]\nkind = \"extra_trees\"\n";
    write(folder.path(), "larum.toml", config);
    let found = |arguments: &str| {
        let (_, report) = replay(folder.path(), &format!("-c larum.toml -i t.csv --label truth {arguments}"));
        (report["labels_used"].as_u64().unwrap(), report["reviewed_anomalies"].as_u64().unwrap(), report)
    };
    let (labels, untaught, _) = found("--feedback 50/all");
    let (_, taught, report) = found("--feedback 50/all --refit 1");
    assert_eq!((labels, report["labels_used"].as_u64()), (50, Some(50)));
    assert!(taught >= 38 && taught > untaught + 5, "{taught} of 40, {untaught} without refits");
    assert!(report["promotions"].as_u64().unwrap() >= 40, "{report}");
    // Of every full hundred rows before the last.
    assert_eq!(found("--feedback 5/100 --refit 5").0, 45);
    let refused = larum(folder.path(), "replay -i t.csv --label truth --feedback 5");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("20/1024"));
}
