//! Refits: what was promoted scores after a kill, with the same parameters, and so does what was rolled back to.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kafka::Broker;
use crate::larum::{Deployment, Options, Service};
use crate::process::wait_for;
use crate::traffic;

const EVENTS: u64 = 12_000;
const PARTITIONS: i32 = 2;
const TREES: &str = "extra_trees";
const LEARNERS: [&str; 3] = ["logistic_regression", "svm", TREES];

/// The true labels of all anomalies and of some normals, in the order of the events.
fn send_labels(service: &Service) -> u64 {
    let labels: Vec<Value> = (0..EVENTS)
        .filter(|index| traffic::anomalous(*index) || index % 50 == 0)
        .map(|index| (index, if traffic::anomalous(index) { "anomaly" } else { "normal" }))
        .map(|(index, label)| json!({"event_id": traffic::id(index), "label": label}))
        .collect();
    let (status, answer) = service.post("/v1/labels", "application/json", &Value::from(labels.clone()).to_string());
    assert_eq!(status, 202, "{answer}");
    labels.len() as u64
}

fn wait_learned(service: &mut Service, labels: u64) {
    wait_for("the labels to be learned", Duration::from_secs(60), || {
        service.must_run();
        let model = service.get_json(&format!("/v1/models/{TREES}"));
        let count = |class: &str| model["labels"][class].as_u64().unwrap();
        (count("anomalies") + count("normals") == labels).then_some(())
    });
}

/// What must be the same after a restart: versions with their figures, and parameters of those that score.
fn state(service: &Service) -> Vec<Value> {
    let of = |name: &str| {
        let model = service.get_json(&format!("/v1/models/{name}"));
        let kept = ["version", "labels", "ready", "parameters"].map(|key| model[key].clone());
        let versions = service.get_json(&format!("/v1/models/{name}/versions"));
        json!([kept, versions])
    };
    LEARNERS.iter().map(|name| of(name)).collect()
}

/// The state once the label log is read to its end.
fn settled(service: &mut Service, broker: &Broker, log: &str) -> Vec<Value> {
    wait_for("the label log to be read", Duration::from_secs(60), || {
        service.must_run();
        let version = service.get_json(&format!("/v1/models/{TREES}"))["version"].clone();
        (version == broker.ends(log)[&0]).then_some(())
    });
    state(service)
}

fn active(service: &Service) -> i64 {
    let answer = service.get_json(&format!("/v1/models/{TREES}/versions"));
    let mut versions = answer["versions"].as_array().unwrap().iter();
    versions.find(|version| version["active"] == true).unwrap()["version"].as_i64().unwrap()
}

#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn a_promoted_version_and_a_rollback_survive_a_kill() {
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    traffic::send(&broker, "requests", PARTITIONS, 0..EVENTS);
    let mut options = Options::requests("refits").with_label_learners();
    options.models.push(TREES);
    let deployment = Deployment::new(&broker, options);
    let log = deployment.topic("label-log");
    let mut service = deployment.start();
    service.wait_through(&broker, "requests");
    let labels = send_labels(&service);
    wait_learned(&mut service, labels);

    let output = deployment.command("models").args(["-u", &service.url(), "retrain", TREES]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("it takes over"), "{said}");
    println!("{said}");
    let promoted = active(&service);
    assert!(promoted > 0);
    let before = settled(&mut service, &broker, &log);
    service.kill();
    let mut service = deployment.start();
    assert_eq!(settled(&mut service, &broker, &log), before);

    // It scores what comes now, and so it does after a kill in which the partitions had adopted it.
    traffic::send(&broker, "requests", PARTITIONS, EVENTS..EVENTS + 1_000);
    wait_for("the promotion to be adopted", Duration::from_secs(60), || {
        let model = service.get_json(&format!("/v1/models/{TREES}"));
        let mut partitions = model["partitions"].as_array().unwrap().iter();
        partitions.all(|partition| partition["model_version"].as_i64().unwrap() > promoted).then_some(())
    });
    traffic::send(&broker, "requests", PARTITIONS, EVENTS + 1_000..EVENTS + 2_000);
    service.wait_through(&broker, "requests");
    let last = service.get_json(&format!("/v1/predictions/{}", traffic::id(EVENTS + 1_999)));
    assert!(last["scores"][TREES].as_f64().unwrap() > 0.0, "{last}");
    service.kill();
    let mut service = deployment.start();
    assert_eq!(active(&service), promoted);

    let (status, answer) = service.post(&format!("/v1/models/{TREES}/rollback"), "application/json", "");
    assert_eq!(status, 202, "{answer}");
    wait_for("the rollback", Duration::from_secs(30), || (active(&service) == 0).then_some(()));
    let before = settled(&mut service, &broker, &log);
    service.kill();
    let mut service = deployment.start();
    assert_eq!(settled(&mut service, &broker, &log), before);
    assert_eq!(active(&service), 0);
    service.stop();
}
