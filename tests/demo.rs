//! `larum demo` from its start to its summary, and `larum generate` into a topic: the binary against the embedded broker.
#![allow(clippy::unwrap_used, reason = "a test's failure is its panic, in helpers too")]

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Duration;

use larum::kafka::{Client, EmbeddedBroker, LogReader};
use larum::shop::{START_MS, Shop};

fn larum(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_larum")).args(line.split(' ')).output().unwrap()
}

/// The numbers of the line that contains `words`, in order.
fn numbers(summary: &str, words: &str) -> Vec<f64> {
    let line = summary.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("no {words:?} in {summary}"));
    let parts = line.split(|c: char| !c.is_ascii_digit() && c != '.');
    parts.filter_map(|part| part.trim_end_matches('.').parse().ok()).collect()
}

#[test]
fn the_demo_ends_by_itself_and_its_summary_adds_up() {
    let output = larum("demo --for 12s --seed 3 --listen 127.0.0.1:0");
    let (summary, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(0), "{summary}\n{errors}");
    println!("{summary}");

    let [consumed, sent] = numbers(&summary, "events sent")[..] else { panic!("{summary}") };
    let [scored, warmup, dead_letters] = numbers(&summary, "scored ")[..] else { panic!("{summary}") };
    assert!(scored > 0.0 && consumed == sent, "all that was sent is scored before the end: {summary}");
    assert_eq!((scored + dead_letters, dead_letters), (consumed, 0.0));

    let [alarms, alarms_true, alarms_false] = numbers(&summary, "raised ")[..] else { panic!("{summary}") };
    assert!(alarms > 0.0 && alarms == alarms_true + alarms_false, "{summary}");
    let [found, incidents] = numbers(&summary, "found ")[..] else { panic!("{summary}") };
    assert!(0.0 < found && found <= incidents, "{summary}");

    let [given, learned, anomalies, normals, version] = numbers(&summary, "given ")[..] else { panic!("{summary}") };
    assert!(0.0 < given && given <= alarms, "only alarms are labelled: {summary}");
    assert_eq!((learned, anomalies + normals), (given, given), "every label was learned");
    assert!(version >= learned, "the label log holds the labels and the background: {summary}");

    // The two halves are all that was scored after the warm-up, and their alarms are all there were.
    let halves = |words| numbers(&summary, words).iter().sum::<f64>();
    assert_eq!(halves("events   "), scored - warmup);
    assert_eq!(halves("alarms   "), alarms);
    assert!(summary.lines().any(|line| line.starts_with("The second half is")), "{summary}");

    let folder = summary.split_whitespace().find(|word| word.contains("larum-demo-")).unwrap();
    assert!(!std::path::Path::new(folder).exists(), "{folder} is still there");
}

#[test]
fn generate_produces_the_traffic_in_order_by_host() {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("requests", 4).unwrap();
    let before = larum::telemetry::now_ms();
    let output =
        larum(&format!("generate --brokers {} --topic requests --events 3000 --seed 5 --truth", broker.brokers()));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());

    let client = Client::new(&broker.brokers(), &BTreeMap::new());
    let mut reader = LogReader::open(&client, "requests", &BTreeMap::new()).unwrap();
    let ends = reader.ends().unwrap();
    assert_eq!((ends.len(), ends.values().sum::<i64>()), (4, 3_000), "acknowledged, so all there: {ends:?}");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while *reader.next() != ends {
        let Some(record) = reader.poll(Duration::from_millis(100)).unwrap() else { continue };
        assert!((before..=larum::telemetry::now_ms()).contains(&record.timestamp_ms), "{}", record.timestamp_ms);
        let host = String::from_utf8(record.key.unwrap()).unwrap();
        found.entry(host).or_default().push(String::from_utf8(record.payload.unwrap()).unwrap());
    }
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in Shop::new(5, START_MS).events().take(3_000) {
        let mut json = Vec::new();
        event.write_json_with_truth(&mut json);
        expected.entry(event.host.to_owned()).or_default().push(String::from_utf8(json).unwrap());
    }
    assert!(found == expected, "the records are not the traffic");
}
