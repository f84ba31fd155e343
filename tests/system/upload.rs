//! Files of labelled events: learned before the first event, once however often they are sent, and through a kill in their middle.

use std::io::Write;
use std::ops::Range;
use std::time::Duration;

use crate::kafka::Broker;
use crate::larum::{Deployment, Options, Service};
use crate::process::wait_for;
use crate::{store, traffic};

const PARTITIONS: i32 = 2;
/// Rows of a small file and of one that takes seconds, far from the events that are sent.
const FEW: Range<u64> = 1_000_000..1_020_000;
const MANY: Range<u64> = 2_000_000..2_300_000;

/// Labelled events as NDJSON; every tenth has no truth.
fn write_cases(deployment: &Deployment, name: &str, rows: Range<u64>) {
    let file = std::fs::File::create(deployment.path(name)).unwrap();
    let mut file = std::io::BufWriter::new(file);
    for index in rows {
        let event = traffic::json(index);
        let truth = match index % 10 {
            9 => "null",
            _ if traffic::anomalous(index) => "1",
            _ => "0",
        };
        writeln!(file, "{},\"label\":{truth}}}", event.strip_suffix('}').unwrap()).unwrap();
    }
    file.flush().unwrap();
}

/// Anomalies and normals that the models should have learned of these rows.
fn truth(rows: Range<u64>) -> (u64, u64) {
    let labelled = rows.filter(|index| index % 10 != 9);
    let (anomalies, all) = labelled.fold((0, 0), |(a, all), index| (a + u64::from(traffic::anomalous(index)), all + 1));
    (anomalies, all - anomalies)
}

/// Anomalies and normals learned, by each model that learns from labels; all must say the same, and be ready.
fn learned(service: &Service) -> (u64, u64) {
    let answer = service.get_json("/v1/models");
    let models = answer["models"].as_array().unwrap().iter().filter(|model| model["learns_from"] == "labels");
    let counts: Vec<(u64, u64)> = models
        .map(|model| {
            assert_eq!(model["ready"], true, "{model}");
            let count = |class: &str| model["labels"][class].as_u64().unwrap();
            (count("anomalies"), count("normals"))
        })
        .collect();
    assert!(counts.len() == 2 && counts[0] == counts[1], "{answer}");
    counts[0]
}

fn wait_learned(service: &mut Service, expected: (u64, u64)) {
    wait_for(&format!("{expected:?} to be learned"), Duration::from_secs(60), || {
        service.must_run();
        let now = learned(service);
        assert!(now.0 <= expected.0 && now.1 <= expected.1, "{now:?} of {expected:?}: a row was learned twice");
        (now == expected).then_some(())
    });
}

/// Runs `larum train` to its end; one row in ten is refused, so it fails and says what was accepted.
#[track_caller]
fn train(deployment: &Deployment, arguments: &[&str], expected: &str) {
    let output = deployment.command("train").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(expected), "{said}; expected: {expected}");
}

#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn an_upload_is_learned_before_the_first_event_and_each_row_once() {
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    let deployment = Deployment::new(&broker, Options::requests("taught").with_label_learners());
    let log = deployment.topic("label-log");
    write_cases(&deployment, "few.ndjson", FEW);
    write_cases(&deployment, "many.ndjson", MANY);
    let plus = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);

    // No service runs: topics are made, and the log has every row with a truth.
    train(
        &deployment,
        &["-c", "larum.toml", "few.ndjson"],
        "18000 rows accepted (0 of them before), 0 left out by the query, 2000 refused",
    );
    assert_eq!(broker.ends(&log)[&0], 18_000);
    let mut service = deployment.start();
    assert_eq!(learned(&service), truth(FEW), "learned when the service says that it is ready");
    assert_eq!(store::scored_through(&deployment.store(), "requests").values().sum::<i64>(), 0, "no event yet");

    // The same file again, both ways.
    train(&deployment, &["-c", "larum.toml", "few.ndjson"], "18000 rows accepted (18000 of them before)");
    train(&deployment, &["-u", &service.url(), "few.ndjson"], "18000 rows accepted (18000 of them before)");
    assert_eq!(broker.ends(&log)[&0], 18_000);
    assert_eq!(learned(&service), truth(FEW));
    traffic::send(&broker, "requests", PARTITIONS, 0..3_000);
    service.wait_through(&broker, "requests");

    // Killed in the middle of a large one.
    let url = service.url();
    let mut sending = deployment.command("train").args(["-u", &url, "many.ndjson"]).spawn().unwrap();
    wait_for("the middle of the task", Duration::from_secs(60), || {
        let tasks = service.get_json("/v1/tasks");
        let progress = &tasks["tasks"][0]["progress"];
        let (done, total) = (progress["done"].as_u64()?, progress["total"].as_u64()?);
        assert!(tasks["tasks"][0]["state"] != "done" || total < 10_000_000, "it was too quick: {tasks}");
        (total > 10_000_000 && done > total / 5).then_some(())
    });
    service.kill();
    assert_eq!(sending.wait().unwrap().code(), Some(1));
    let mut service = deployment.start();
    let between = learned(&service);
    println!("killed after {} of {} examples", between.1 - truth(FEW).1, truth(MANY).1);
    assert!(between.1 > truth(FEW).1 && between.1 < truth(FEW).1 + truth(MANY).1, "{between:?} is not in the middle");
    train(&deployment, &["-u", &url, "many.ndjson"], "270000 rows accepted");
    wait_learned(&mut service, plus(truth(FEW), truth(MANY)));
    // Every record once more in the log would change nothing either: a new key is what makes new rows.
    train(&deployment, &["-u", &url, "few.ndjson", "--key", "another"], "18000 rows accepted (0 of them before)");
    wait_learned(&mut service, plus(plus(truth(FEW), truth(FEW)), truth(MANY)));
    service.stop();
}
