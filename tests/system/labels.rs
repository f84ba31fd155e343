//! Labels over HTTP: into the label log, into the models, and no further when they come twice.

use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kafka::Broker;
use crate::larum::{Deployment, Options, Service};
use crate::process::wait_for;
use crate::{store, traffic};

const EVENTS: u64 = 12_000;
const PARTITIONS: i32 = 2;

fn verdict(index: u64) -> &'static str {
    if traffic::anomalous(index) { "anomaly" } else { "normal" }
}

/// The true labels of the anomalies of a range and of as many normal events, as a JSON array.
pub(crate) fn send_truth(service: &Service, range: Range<u64>) -> usize {
    let anomalies = range.clone().filter(|index| traffic::anomalous(*index));
    let normals = range.filter(|index| !traffic::anomalous(*index)).step_by(200);
    let labels: Vec<Value> = anomalies
        .chain(normals)
        .map(|index| json!({"event_id": traffic::id(index), "label": verdict(index), "who": "truth"}))
        .collect();
    accept(service, "application/json", &Value::from(labels.clone()).to_string(), labels.len());
    labels.len()
}

/// Posts labels, all of which must be accepted.
fn accept(service: &Service, content_type: &str, body: &str, lines: usize) {
    let (status, answer) = service.post("/v1/labels", content_type, body);
    assert_eq!(status, 202, "{content_type}: {answer}");
    let states = states(&answer);
    assert_eq!(states, vec!["accepted"; lines], "{content_type}: {answer}");
}

/// What the answer says of each line: `accepted` or `rejected`.
fn states(answer: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let lines = answer["lines"].as_array().unwrap_or_else(|| panic!("no results: {answer}"));
    lines.iter().map(|line| line["status"].as_str().unwrap_or_default().to_owned()).collect()
}

/// How many labels the models have learned from, and the label-log offset up to which they have.
fn learned(service: &Service, model: &str) -> (u64, i64) {
    let model = service.get_json(&format!("/v1/models/{model}"));
    let count = |class: &str| model["labels"][class].as_u64().unwrap_or_else(|| panic!("no labels: {model}"));
    let labels = count("anomalies") + count("normals");
    (labels, model["version"].as_i64().unwrap_or_else(|| panic!("no version: {model}")))
}

fn wait_learned(service: &mut Service, model: &str, labels: u64) -> i64 {
    wait_for(&format!("{model} to learn {labels} labels"), Duration::from_secs(30), || {
        service.must_run();
        let (seen, version) = learned(service, model);
        assert!(seen <= labels, "{model} has learned {seen} labels of {labels}");
        (seen == labels).then_some(version)
    })
}

#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn labels_reach_the_models_once() {
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    traffic::send(&broker, "requests", PARTITIONS, 0..EVENTS);
    let deployment = Deployment::new(&broker, Options::requests("labels").with_label_learners());
    let mut service = deployment.start();
    service.wait_through(&broker, "requests");
    assert_eq!(learned(&service, "logistic_regression").0, 0);

    // A JSON array, NDJSON and CSV.
    let first = send_truth(&service, 0..4_000) as u64;
    let version = wait_learned(&mut service, "logistic_regression", first);
    let ndjson: String = (4_000..4_010)
        .map(|index| json!({"event_id": traffic::id(index), "label": verdict(index)}).to_string() + "\n")
        .collect();
    accept(&service, "application/x-ndjson", &ndjson, 10);
    let csv: String = (4_010..4_020)
        .map(|index| format!("{},{},ann,\"seen, and checked\"\n", traffic::id(index), verdict(index)))
        .collect();
    accept(&service, "text/csv", &format!("event_id,label,who,note\n{csv}"), 10);
    let later = wait_learned(&mut service, "logistic_regression", first + 20);
    assert!(later > version, "the version went from {version} to {later}");
    assert_eq!(wait_learned(&mut service, "svm", first + 20), later, "one label log, one version");

    duplicates_change_nothing(&mut service, &deployment, first + 20, later);
    a_correction_replaces(&mut service, &deployment);
    bad_lines_are_rejected(&service);
    an_early_label_waits_for_its_event(&mut service, &broker);
    the_next_events_are_scored_by_the_label_learners(&mut service, &broker, &deployment);
    service.stop();
}

/// The same labels again reach no model; a label of another event, sent after them, shows that they have been dealt with.
fn duplicates_change_nothing(service: &mut Service, deployment: &Deployment, labels: u64, version: i64) {
    let before = rows(deployment);
    send_truth(service, 0..4_000);
    accept(service, "application/json", &json!([{"event_id": traffic::id(4_020), "label": "normal"}]).to_string(), 1);
    let after = wait_learned(service, "logistic_regression", labels + 1);
    assert!(after > version);
    assert_eq!(rows(deployment), before + 1, "labels in the store");
}

fn rows(deployment: &Deployment) -> i64 {
    store::number(&deployment.store(), "SELECT COUNT(*) FROM labels")
}

/// The later label of an event is its label; it is still one label.
fn a_correction_replaces(service: &mut Service, deployment: &Deployment) {
    let (labels, version) = learned(service, "logistic_regression");
    let id = traffic::id(4_020);
    accept(service, "application/json", &json!([{"event_id": id, "label": "anomaly", "who": "bob"}]).to_string(), 1);
    wait_for("the corrected label", Duration::from_secs(30), || {
        let prediction = service.get_json(&format!("/v1/predictions/{id}"));
        prediction["label"].to_string().contains("anomaly").then_some(())
    });
    wait_for("the model to learn the correction", Duration::from_secs(30), || {
        (learned(service, "logistic_regression").1 > version).then_some(())
    });
    assert_eq!(learned(service, "logistic_regression").0, labels, "a correction is not one label more");
    let sql = format!("SELECT COUNT(*) FROM labels WHERE event_id = '{id}' AND label = 'anomaly'");
    assert_eq!(store::number(&deployment.store(), &sql), 1);
}

/// An answer per line: one bad line spoils no other, and says why.
fn bad_lines_are_rejected(service: &Service) {
    let lines = format!(
        "{}\n{}\nnot json\n{}\n",
        json!({"event_id": traffic::id(4_020), "label": "anomaly"}),
        json!({"event_id": traffic::id(4_021), "label": "perhaps"}),
        json!({"label": "normal"}),
    );
    let (status, answer) = service.post("/v1/labels", "application/x-ndjson", &lines);
    assert_eq!(status, 202, "{answer}");
    assert_eq!(states(&answer), ["accepted", "rejected", "rejected", "rejected"], "{answer}");
    let (status, answer) = service.post("/v1/labels", "application/json", "[{");
    assert_eq!(status, 400, "{answer}");
}

/// A label that comes before its event is joined when the event comes.
fn an_early_label_waits_for_its_event(service: &mut Service, broker: &Broker) {
    let (labels, _) = learned(service, "logistic_regression");
    accept(service, "application/json", &json!([{"event_id": traffic::id(EVENTS), "label": "normal"}]).to_string(), 1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(learned(service, "logistic_regression").0, labels, "a label without its event teaches nothing");
    traffic::send(broker, "requests", PARTITIONS, EVENTS..EVENTS + 1);
    wait_learned(service, "logistic_regression", labels + 1);
}

/// What comes after is scored with a later version, by every model.
fn the_next_events_are_scored_by_the_label_learners(service: &mut Service, broker: &Broker, deployment: &Deployment) {
    traffic::send(broker, "requests", PARTITIONS, EVENTS + 1..EVENTS + 4_000);
    service.wait_through(broker, "requests");
    let last = service.get_json(&format!("/v1/predictions/{}", traffic::id(EVENTS + 3_999)));
    for model in ["linear_regression", "logistic_regression", "svm"] {
        assert!(last["scores"][model].is_number(), "{model}: {last}");
    }
    let rows = store::scored(&deployment.store());
    let version = |id: &str| rows.values().find(|row| row.event_id == id).unwrap().model_version;
    assert!(version(&traffic::id(EVENTS + 3_999)) > version(&traffic::id(EVENTS - 1)));
}
