//! From the events topic to the store, the predictions topic and the API.

use crate::kafka::Broker;
use crate::larum::{Deployment, Options};
use crate::{predictions, store, traffic};

const EVENTS: u64 = 20_000;
const PARTITIONS: i32 = 4;

#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn an_event_is_scored_stored_and_sent_on() {
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    traffic::send(&broker, "requests", PARTITIONS, 0..EVENTS);

    let deployment = Deployment::new(&broker, Options::requests("flow"));
    let mut service = deployment.start();
    service.wait_through(&broker, "requests");
    check_api(&service, EVENTS);
    service.stop();

    store::assert_ids(&deployment.store(), (0..EVENTS).map(traffic::id));
    for (place, row) in store::scored(&deployment.store()) {
        let index: u64 = row.event_id[2..].parse().unwrap();
        assert_eq!(place.0, traffic::record(index, PARTITIONS).partition);
        assert_eq!((row.entity, row.time), (traffic::host(index), traffic::time_ms(index)));
        assert!((0.0..1.0).contains(&row.score) && 0.0 < row.p_value && row.p_value <= 1.0, "{}", row.event_id);
    }
    assert_eq!(predictions::assert_agree(&broker, &deployment), 0, "an uninterrupted run sends nothing twice");
    check_headers(&broker, &deployment);
    check_ranking(&deployment);
    assert!(broker.read_all(&deployment.topic("dlq")).is_empty(), "dead letters of good records");
}

/// The API answers from the same rows.
fn check_api(service: &crate::larum::Service, events: u64) {
    let one = service.get_json(&format!("/v1/predictions/{}", traffic::id(events / 2)));
    assert_eq!(one["event_id"], traffic::id(events / 2).as_str());
    assert_eq!(one["entity"], traffic::host(events / 2).as_str());
    assert!(one["features"]["latency_avg"].is_number(), "{one}");
    let (status, body) = service.get("/v1/predictions/no-such-event").unwrap();
    assert_eq!(status, 404, "{body}");
    assert!(body.contains("\"code\""), "the error envelope: {body}");
    let page = service.get_json("/v1/predictions?limit=7");
    let rows = page.as_object().unwrap().values().find_map(|value| value.as_array()).expect("a page of rows");
    assert_eq!(rows.len(), 7);
    assert_eq!(service.get("/livez").unwrap().0, 200);
    let (status, metrics) = service.get("/metrics").unwrap();
    assert!(status == 200 && metrics.contains("larum_"), "{metrics}");
}

/// The input's headers are carried over: names, order and bytes.
fn check_headers(broker: &Broker, deployment: &Deployment) {
    predictions::copies(broker, &deployment.topic("scored"), |record, json| {
        let index: u64 = json["event_id"].as_str().unwrap()[2..].parse().unwrap();
        let sent = traffic::record(index, PARTITIONS).headers;
        let carried: Vec<_> = record.headers.iter().filter(|header| sent.contains(header)).cloned().collect();
        assert_eq!(carried, sent, "the headers of {json}");
    });
}

/// The planted anomalies score higher: the area under the ROC curve of the second half, when the models are warm.
fn check_ranking(deployment: &Deployment) {
    let mut rows: Vec<(f64, bool)> = Vec::new();
    for row in store::scored(&deployment.store()).into_values() {
        let index: u64 = row.event_id[2..].parse().unwrap();
        if index >= EVENTS / 2 {
            rows.push((row.score, traffic::anomalous(index)));
        }
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))); // of equal scores the anomaly first: ties count against it
    let (mut below, mut area) = (0_u64, 0_u64);
    for (_, anomaly) in &rows {
        if *anomaly {
            area += below;
        } else {
            below += 1;
        }
    }
    let anomalies = rows.len() as u64 - below;
    assert!(anomalies > 20, "{anomalies} anomalies prove nothing");
    let auc = area as f64 / (anomalies * below) as f64;
    assert!(auc > 0.95, "AUC {auc} on anomalies of six times the latency");
}
