//! The HTTP API against a running service on the embedded broker: every route, its errors, its limits, and its description.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use larum::api::{self, Server};
use larum::cli::args::{LabelArgs, TrainArgs};
use larum::config::Config;
use larum::engine::{Blueprint, EngineLimits};
use larum::kafka::{Client, EmbeddedBroker, Outbox, Produced};
use larum::service::Service;
use larum::telemetry;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

const EVENTS: usize = 240;
const PATIENCE: Duration = Duration::from_secs(40);

const CONFIG: &str = r#"
[kafka]
brokers = "BROKERS"
events = "requests"
start = "earliest"
[event]
id = "request_id"
time = "ts"
entity = "host"
[event.fields]
request_id = "string"
ts = "timestamp"
host = "string"
latency_ms = "double"
path = "string"
region = "string"
[features]
sql = """
SELECT latency_ms, COUNT(*) OVER w AS requests, region FROM events WHERE path <> '/healthz'
WINDOW w AS (PARTITION BY host ORDER BY ts ROWS BETWEEN 1000 PRECEDING AND CURRENT ROW)
"""
[[models]]
name = "regression"
kind = "linear_regression"
[[models]]
name = "logistic"
kind = "logistic_regression"
[[models]]
name = "svm"
kind = "svm"
[store]
url = "sqlite::memory:"
[api]
listen = "127.0.0.1:0"
[limits]
commit_ms = 50
LIMITS
"#;

/// A broker with events, a service that scores them, and its API.
struct Fixture {
    service: Option<Service>,
    server: Option<Server>,
    url: String,
    agent: ureq::Agent,
    start_ms: i64,
    _broker: EmbeddedBroker,
}

struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The code of an error, whose shape is checked.
    fn code(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        let body = self.json();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&body), ["error"]);
        assert_eq!(keys(&body["error"]), ["code", "details", "message"]);
        assert!(body["error"]["message"].as_str().unwrap().len() > 5);
        body["error"]["code"].as_str().unwrap().to_owned()
    }

    fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }
}

fn config(brokers: &str, limits: &str) -> Config {
    let text = CONFIG.replace("BROKERS", brokers).replace("LIMITS", limits);
    Config::parse(Path::new("larum.toml"), &text, &|_| None).unwrap()
}

fn event(i: usize, start_ms: i64) -> Value {
    let time = start_ms + i as i64 * 100;
    json!({"request_id": format!("r-{i}"), "ts": time, "host": format!("h{}", i % 3), "latency_ms": 10.0 + (i % 7) as f64, "path": "/", "region": "eu"})
}

impl Fixture {
    fn start() -> Self {
        Self::with("")
    }

    /// Returns when every event is scored and stored.
    fn with(limits: &str) -> Self {
        let broker = EmbeddedBroker::start().unwrap();
        // The embedded broker takes no requests to create topics.
        for (topic, partitions) in [("", 2), (".scored", 2), (".labels", 1), (".label-log", 1), (".dlq", 1)] {
            broker.create_topic(&format!("requests{topic}"), partitions).unwrap();
        }
        let start_ms = telemetry::now_ms() - 600_000;
        let mut producer = Outbox::open(&Client::new(&broker.brokers(), &Default::default())).unwrap().sender();
        for i in 0..EVENTS {
            let event = event(i, start_ms);
            let key = event["host"].as_str().unwrap();
            let payload = event.to_string();
            let timestamp_ms = event["ts"].as_i64().unwrap();
            let produced = Produced {
                topic: "requests",
                key: Some(key.as_bytes()),
                payload: Some(payload.as_bytes()),
                timestamp_ms,
                headers: None,
            };
            producer.send(produced).unwrap();
        }
        producer.close().wait(|| false).unwrap();
        let config = config(&broker.brokers(), limits);
        let blueprint = Blueprint::new(
            &config.event,
            &config.features.sql,
            config.models.clone(),
            config.decision,
            config.seed,
            EngineLimits::default(),
        );
        let service = Service::start(config, Arc::new(blueprint.unwrap())).unwrap();
        let server = Server::start(service.shared().clone()).unwrap();
        let url = format!("http://{}", server.addr());
        // No idle connection stays open: the limit of connections is tested.
        let agent = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0);
        let agent = agent.timeout_global(Some(PATIENCE)).build().into();
        let fixture = Self { service: Some(service), server: Some(server), url, agent, start_ms, _broker: broker };
        fixture.until("every event is stored", || {
            let page = fixture.get("/v1/predictions?limit=1000").json();
            page["predictions"].as_array().is_some_and(|rows| rows.len() == EVENTS)
        });
        fixture
    }

    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let timer = telemetry::stopwatch();
        let (_silent, pause) = channel::<()>();
        while !is_so() {
            assert!(timer.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; {}", self.get("/v1/models").text);
            assert!(pause.recv_timeout(Duration::from_millis(30)).is_err());
        }
    }

    fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(format!("{}{path}", self.url)).call())
    }

    fn post(&self, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
        answer(self.agent.post(format!("{}{path}", self.url)).content_type(content_type).send(body.as_ref()))
    }

    fn predict(&self, body: &Value) -> Answer {
        self.post("/v1/predict", "application/json", body.to_string())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.server.take());
        if let Some(service) = self.service.take() {
            service.shared().stop();
            let finished = service.finish();
            assert!(std::thread::panicking() || finished.is_ok(), "{finished:?}");
        }
    }
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = result.unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    Answer { status: response.status().as_u16(), headers: response.headers().clone(), text }
}

/// Compares an object with its schema: what is required is there, and nothing else than what is described.
#[track_caller]
fn is_described(object: &Value, schema: &str) {
    let document = serde_json::to_value(api::openapi()).unwrap();
    let schema = &document["components"]["schemas"][schema];
    let described: BTreeSet<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let there: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(there.is_subset(&described), "not described: {:?}", there.difference(&described));
    for required in schema["required"].as_array().unwrap() {
        assert!(there.contains(required.as_str().unwrap()), "missing: {required} in {object}");
    }
}

#[test]
fn the_description_is_what_it_was() {
    let text = api::openapi().to_pretty_json().unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("\"operationId\": ")).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "generated clients need names of their own");
    insta::assert_snapshot!("openapi", text);
}

#[test]
fn scored_events_are_listed_shown_and_scored_again() {
    let fixture = Fixture::start();
    predictions_are_paged_and_filtered(&fixture);
    one_prediction_is_the_object_on_the_topic(&fixture);
    events_are_scored_on_request(&fixture);
    features_are_scored_on_request(&fixture);
    models_are_described(&fixture);
}

fn predictions_are_paged_and_filtered(fixture: &Fixture) {
    let mut seen = BTreeSet::new();
    let mut times = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let next = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = fixture.get(&format!("/v1/predictions?limit=50{next}")).ok();
        is_described(&page, "Page");
        for row in page["predictions"].as_array().unwrap() {
            is_described(row, "Prediction");
            assert!(seen.insert(row["event_id"].as_str().unwrap().to_owned()), "twice: {row}");
            times.push(row["time"].as_str().unwrap().to_owned());
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), EVENTS);
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first");
    assert_eq!(fixture.get("/v1/predictions").ok()["predictions"].as_array().unwrap().len(), 100);
    let count = |query: &str| {
        fixture.get(&format!("/v1/predictions?limit=1000&{query}")).ok()["predictions"].as_array().unwrap().len()
    };
    assert_eq!(count("entity=h1"), EVENTS / 3);
    assert_eq!(count(&format!("from={}&to={}", fixture.start_ms, fixture.start_ms + 1_000)), 10);
    assert_eq!(count("alarm=true"), 0);
    assert_eq!(count("label=none&alarm=false"), EVENTS);
    for (query, code) in [
        ("limit=0", "invalid_parameter"),
        ("entty=a", "invalid_parameter"),
        ("cursor=x", "invalid_cursor"),
        ("label=odd", "invalid_parameter"),
    ] {
        assert_eq!(fixture.get(&format!("/v1/predictions?{query}")).code(400), code);
    }
}

fn one_prediction_is_the_object_on_the_topic(fixture: &Fixture) {
    let shown = fixture.get("/v1/predictions/r-17").ok();
    is_described(&shown, "Prediction");
    assert_eq!(
        (&shown["event_id"], &shown["entity"], &shown["topic"]),
        (&json!("r-17"), &json!("h2"), &json!("requests"))
    );
    assert_eq!(shown["features"], json!({"latency_ms": 13.0, "requests": 6.0, "region": "eu"}));
    let service = fixture.service.as_ref().unwrap();
    let client = Client::new(&service.shared().config.kafka.brokers, &Default::default());
    let mut topic = larum::kafka::LogReader::open(&client, "requests.scored", &Default::default()).unwrap();
    let on_topic = std::iter::from_fn(|| topic.poll(PATIENCE).unwrap())
        .map(|record| serde_json::from_slice::<Value>(&record.payload.unwrap()).unwrap())
        .find(|prediction| prediction["event_id"] == "r-17");
    assert_eq!(on_topic, Some(shown));
    assert_eq!(fixture.get("/v1/predictions/nobody").code(404), "not_found");
}

fn events_are_scored_on_request(fixture: &Fixture) {
    let bare = event(EVENTS, fixture.start_ms);
    let first = fixture.predict(&bare).ok()["predictions"][0].clone();
    is_described(&first, "Predicted");
    assert!(first.get("probabilities").is_none(), "no label has come yet: {first}");
    assert_eq!((&first["entity"], &first["entity_known"]), (&json!("h0"), &json!(true)));
    // The window holds the 80 events of this host and the one that is asked about; asking moves nothing.
    assert_eq!(first["features"]["requests"], 81.0);
    assert_eq!(fixture.predict(&bare).ok()["predictions"][0], first);
    for body in [json!([bare]), json!({"events": [bare]})] {
        assert_eq!(fixture.predict(&body).ok()["predictions"], json!([first]));
    }
    let mut stranger = bare.clone();
    stranger["host"] = json!("new");
    let filtered = json!({"request_id": "x", "ts": bare["ts"], "host": "h0", "path": "/healthz"});
    let answers =
        fixture.predict(&json!([stranger, {"latency_ms": "fast"}, bare, filtered])).ok()["predictions"].clone();
    assert_eq!((&answers[0]["entity_known"], &answers[0]["partition"]), (&json!(false), &json!(0)));
    assert_eq!(answers[0]["features"]["requests"], 1.0);
    assert_eq!(answers[1]["error"]["code"], "wrong_type");
    assert_eq!(answers[2], first);
    assert_eq!(answers[3]["error"]["code"], "filtered");
    let refused = fixture.predict(&json!([{"latency_ms": "fast"}, 3]));
    assert_eq!(refused.code(422), "nothing_to_score");
    assert_eq!(refused.json()["error"]["details"]["predictions"].as_array().unwrap().len(), 2);
    assert_eq!(fixture.predict(&json!([])).code(422), "empty");
    assert_eq!(fixture.predict(&json!(vec![bare.clone(); 1_001])).code(422), "too_many");
    assert_eq!(fixture.predict(&json!("r-17")).code(422), "not_an_event");
    assert_eq!(fixture.post("/v1/predict", "application/json", "{").code(400), "broken_json");
    assert_eq!(fixture.post("/v1/predict", "text/plain", bare.to_string()).code(415), "unsupported_media_type");
}

fn features_are_scored_on_request(fixture: &Fixture) {
    let features = json!({"latency_ms": 12.0, "requests": 81.0, "region": "eu"});
    let one = fixture.predict(&json!({"features": features})).ok()["predictions"][0].clone();
    is_described(&one, "Predicted");
    assert_eq!((&one["features"], &one["partition"]), (&features, &json!(0)));
    assert!(one.get("entity").is_none());
    let answers = fixture.predict(&json!({"features": [features, {"latncy_ms": 1.0}, {}]})).ok()["predictions"].clone();
    assert_eq!(answers[0], one);
    assert_eq!(answers[1]["error"]["code"], "unknown_feature");
    assert!(answers[1]["error"]["message"].as_str().unwrap().contains("did you mean `latency_ms`?"));
    assert_eq!(answers[2]["features"], json!({"latency_ms": null, "requests": null, "region": null}));
}

fn models_are_described(fixture: &Fixture) {
    let models = fixture.get("/v1/models").ok();
    is_described(&models, "Models");
    let summary: Vec<_> = models["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (&m["name"], &m["kind"], &m["learns_from"]))
        .map(|m| json!(m))
        .collect();
    assert_eq!(
        summary,
        [
            json!(["regression", "linear_regression", "events"]),
            json!(["logistic", "logistic_regression", "labels"]),
            json!(["svm", "svm", "labels"])
        ]
    );
    let regression = fixture.get("/v1/models/regression").ok();
    is_described(&regression, "Model");
    let partitions = regression["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 2);
    let mut seen = 0;
    for partition in partitions {
        is_described(partition, "ModelPartition");
        seen += partition["offset"].as_u64().unwrap();
        assert!(partition["seen"].as_u64().unwrap() <= partition["offset"].as_u64().unwrap());
    }
    assert_eq!(seen, EVENTS as u64);
    let busy = partitions.iter().find(|partition| partition["offset"] != 0).unwrap();
    let mean = busy["parameters"]["latency_ms.mean"].as_f64().unwrap();
    assert!((12.0..14.0).contains(&mean), "{mean}");
    let logistic = fixture.get("/v1/models/logistic").ok();
    assert_eq!((&logistic["ready"], &logistic["labels"]), (&json!(false), &json!({"anomalies": 0, "normals": 0})));
    assert!(logistic["parameters"].get("latency_ms").is_some(), "{logistic}");
    assert_eq!(fixture.get("/v1/models/nobody").code(404), "not_found");
}

#[test]
fn labels_in_all_three_formats_reach_the_models() {
    let fixture = Fixture::start();
    let version = |name: &str| fixture.get(&format!("/v1/models/{name}")).ok()["version"].as_i64().unwrap();
    let before = version("logistic");

    let json_body = json!([
        {"event_id": "r-1", "label": "anomaly", "who": "ann", "note": "a query gone wild", "at": "2026-01-31T08:00:00Z"},
        {"event_id": "later", "label": "normal"},
        {"event_id": "r-2", "label": "odd"},
    ]);
    let answer = fixture.post("/v1/labels", "application/json", json_body.to_string());
    assert_eq!(answer.status, 202, "{}", answer.text);
    let upload = answer.json();
    is_described(&upload, "Upload");
    assert_eq!((&upload["accepted"], &upload["rejected"]), (&json!(2), &json!(1)));
    assert_eq!(upload["lines"][0], json!({"line": 1, "event_id": "r-1", "status": "accepted", "event": "known"}));
    assert_eq!(
        upload["lines"][1],
        json!({"line": 2, "event_id": "later", "status": "accepted", "event": "not yet seen"})
    );
    assert_eq!((&upload["lines"][2]["status"], &upload["lines"][2]["line"]), (&json!("rejected"), &json!(3)));
    assert!(upload["lines"][2]["reason"].as_str().unwrap().contains("`anomaly` or `normal`"), "{upload}");
    upload["lines"].as_array().unwrap().iter().for_each(|line| is_described(line, "LineAnswer"));

    let ndjson = "{\"event_id\":\"r-3\",\"label\":\"normal\"}\n\n{\"event_id\":\"r-4\",\"label\":\"normal\"}\n";
    assert_eq!(fixture.post("/v1/labels", "application/x-ndjson", ndjson).json()["lines"][1]["line"], 3);
    let csv = "event_id,label,who\nr-5,normal,bob\nr-6,anomaly,\n";
    assert_eq!(fixture.post("/v1/labels", "text/csv; charset=utf-8", csv).json()["accepted"], 2);

    let learned = |name: &str| fixture.get(&format!("/v1/models/{name}")).ok();
    for name in ["logistic", "svm"] {
        fixture.until("the labels are learned and adopted", || {
            let model = learned(name);
            let adopted = model["partitions"].as_array().unwrap().iter().all(|partition| partition["ready"] == true);
            model["labels"] == json!({"anomalies": 2, "normals": 3}) && model["ready"] == true && adopted
        });
    }
    assert!(version("logistic") > before);
    // A probability by each model that votes, on request; before the labels there was none.
    let judged = fixture.predict(&event(EVENTS, fixture.start_ms)).ok()["predictions"][0].clone();
    is_described(&judged, "Predicted");
    let probabilities = judged["probabilities"].as_object().unwrap();
    assert_eq!(probabilities.keys().collect::<Vec<_>>(), ["logistic", "svm"]);
    assert!(probabilities.values().all(|p| p.as_f64().is_some_and(|p| 0.0 < p && p < 1.0)), "{judged}");
    let parameters = learned("logistic")["parameters"].clone();
    assert_ne!(parameters["latency_ms"], 0.0, "{parameters}");

    // A later label corrects; the same one again changes nothing.
    assert_eq!(fixture.post("/v1/labels", "text/csv", "event_id,label\nr-6,normal\n").status, 202);
    assert_eq!(fixture.post("/v1/labels", "text/csv", "event_id,label\nr-6,normal\n").status, 202);
    fixture.until("the correction is learned", || learned("svm")["labels"] == json!({"anomalies": 1, "normals": 4}));

    let shown = fixture.get("/v1/predictions/r-1").ok();
    let label = json!({"event_id": "r-1", "label": "anomaly", "who": "ann", "note": "a query gone wild", "at": "2026-01-31T08:00:00.000Z"});
    assert_eq!(shown["label"], label);
    is_described(&shown["label"], "LabelRecord");
    let listed = |query: &str| {
        fixture.get(&format!("/v1/predictions?limit=1000&{query}")).ok()["predictions"].as_array().unwrap().len()
    };
    assert_eq!((listed("label=anomaly"), listed("label=normal"), listed("label=none")), (1, 4, EVENTS - 5));

    let refused = fixture.post("/v1/labels", "text/csv", "event_id,label\na,odd\n");
    assert_eq!(refused.code(422), "no_labels");
    assert_eq!(refused.json()["error"]["details"]["lines"][0]["line"], 2);
    assert_eq!(fixture.post("/v1/labels", "application/json", "").code(422), "empty");
    assert_eq!(fixture.post("/v1/labels", "text/plain", "r-1").code(415), "unsupported_media_type");
    files_of_labels_are_uploaded(&fixture);
}

fn files_of_labels_are_uploaded(fixture: &Fixture) {
    let folder = tempfile::tempdir().unwrap();
    let upload = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        larum::cli::label::run(LabelArgs { url: fixture.url.clone(), file, format: None })
    };
    let labelled = || fixture.get("/v1/models/svm").ok()["labels"]["normals"].as_u64().unwrap();
    // More than one piece: most of them speak of events that never come.
    let mut csv = String::from("event_id,label,note\n");
    for i in 0..2_500 {
        csv.push_str(&format!("r-{},normal,\"two\nlines\"\n", 100 + i));
    }
    upload("labels.csv", &csv).unwrap();
    let expected = 4 + (EVENTS - 100) as u64;
    fixture.until("the uploaded labels are learned", || labelled() == expected);
    upload("labels.json", "[{\"event_id\":\"r-50\",\"label\":\"normal\"}]").unwrap();
    let error =
        upload("labels.ndjson", "{\"event_id\":\"r-51\",\"label\":\"normal\"}\n{\"event_id\":\"r-52\"}\n").unwrap_err();
    assert_eq!(error.to_string(), "1 of 2 labels were rejected");
    fixture.until("what was right in both files is learned", || labelled() == expected + 2);
    let wrong = larum::cli::label::run(LabelArgs {
        url: format!("{}/v1", fixture.url),
        file: folder.path().join("labels.csv"),
        format: None,
    });
    assert!(format!("{:#}", wrong.unwrap_err()).contains("answered 404"));
}

/// Rows of two hosts with their truth; `/healthz` is left out by the query.
fn cases(rows: std::ops::Range<usize>, start_ms: i64) -> String {
    let mut csv = String::from("ts,host,latency_ms,path,region,label\n");
    for i in rows {
        let (slow, time) = (i % 5 == 0, start_ms + i as i64 * 1_000);
        let (latency, path) =
            (if slow { 90.0 } else { 10.0 + (i % 7) as f64 }, if i % 10 == 9 { "/healthz" } else { "/" });
        csv.push_str(&format!("{time},h{},{latency},{path},eu,{}\n", i % 2, u8::from(slow)));
    }
    csv
}

impl Fixture {
    /// Uploads and answers the task as it ended.
    fn train(&self, query: &str, content_type: &str, body: impl AsRef<[u8]>) -> Value {
        let taken = self.post(&format!("/v1/training-data{query}"), content_type, body);
        assert_eq!(taken.status, 202, "{}", taken.text);
        is_described(&taken.json(), "Task");
        let location = taken.headers["location"].to_str().unwrap().to_owned();
        assert_eq!(location, format!("/v1/tasks/{}", taken.json()["id"].as_str().unwrap()));
        self.until("the task ends", || {
            !["queued", "running"].contains(&self.get(&location).ok()["state"].as_str().unwrap())
        });
        let task = self.get(&location).ok();
        is_described(&task, "Task");
        is_described(&task["result"], "Uploaded");
        assert_eq!(task["kind"], "training_data");
        task
    }

    fn label_log_end(&self) -> i64 {
        let client = Client::new(&self.service.as_ref().unwrap().shared().config.kafka.brokers, &Default::default());
        let log = larum::kafka::LogReader::open(&client, "requests.label-log", &Default::default()).unwrap();
        log.ends().unwrap()[&0]
    }

    fn labels(&self) -> (u64, u64) {
        let labels = self.get("/v1/models/logistic").ok()["labels"].clone();
        (labels["anomalies"].as_u64().unwrap(), labels["normals"].as_u64().unwrap())
    }
}

#[test]
fn training_data_teaches_once() {
    let fixture = Fixture::start();
    let csv = cases(0..200, fixture.start_ms);
    let first = fixture.train("", "text/csv", &csv);
    let result = &first["result"];
    assert_eq!((&first["state"], &first["error"]), (&json!("done"), &Value::Null));
    assert_eq!(first["progress"], json!({"done": csv.len(), "total": csv.len()}));
    let counts = |result: &Value| {
        ["rows", "accepted", "already", "filtered", "refused"].map(|name| result[name].as_u64().unwrap())
    };
    assert_eq!(counts(result), [200, 180, 0, 20, 0]);
    assert!(result["key"].as_str().unwrap().starts_with("xxh3-"), "{result}");
    fixture.until("the examples are learned", || fixture.labels() == (40, 140));
    assert_eq!(fixture.get("/v1/models/logistic").ok()["ready"], true);

    // The same again, however it comes, is the same again: nothing is written, once the trainer knows the rows.
    let end = fixture.label_log_end();
    let again = fixture.train("", "text/csv; charset=utf-8", &csv);
    assert_eq!((counts(&again["result"]), &again["result"]["key"]), ([200, 180, 180, 20, 0], &result["key"]));
    assert_eq!(fixture.label_log_end(), end);

    // Under a key of its own: first the half, then all of it, gzipped.
    let half = fixture.train("?key=k%20ey&label=label", "text/csv", cases(0..100, fixture.start_ms));
    assert_eq!((counts(&half["result"]), &half["result"]["key"]), ([100, 90, 0, 10, 0], &json!("k ey")));
    fixture.until("the half is learned", || fixture.labels() == (60, 210));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(csv.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let whole = fixture.train("?key=k%20ey", "application/gzip", &gzip);
    assert_eq!(counts(&whole["result"]), [200, 180, 90, 20, 0]);
    fixture.until("the other half is learned", || fixture.labels() == (80, 280));
    assert_eq!(fixture.label_log_end(), end + 180);

    // Labels of scored events are counted beside them.
    assert_eq!(fixture.post("/v1/labels", "text/csv", "event_id,label\nr-6,normal\n").status, 202);
    fixture.until("the label is learned", || fixture.labels() == (80, 281));

    let tasks = fixture.get("/v1/tasks").ok();
    is_described(&tasks, "TaskList");
    let listed: Vec<_> = tasks["tasks"].as_array().unwrap().iter().map(|task| task["id"].clone()).collect();
    assert_eq!(listed, [&whole, &half, &again, &first].map(|task| task["id"].clone()));
    assert!(tasks["tasks"].as_array().unwrap().iter().all(|task| task.get("result").is_none()));
    let unknown = fixture.get("/v1/tasks/1-1");
    assert!(unknown.text.contains("tasks end with the process"), "{}", unknown.text);
    assert_eq!(unknown.code(404), "not_found");
    // What has ended stays as it is.
    let path = format!("/v1/tasks/{}", first["id"].as_str().unwrap());
    let ended = answer(fixture.agent.delete(format!("{}{path}", fixture.url)).call()).ok();
    assert_eq!(ended, first);
}

#[test]
fn a_row_that_cannot_be_used_is_named_and_ends_nothing() {
    let fixture = Fixture::with("upload_bytes = 100000\nevent_bytes = 2000");
    let (at, long) = (fixture.start_ms, "y".repeat(3_000));
    let csv = format!(
        "when,machine,latency_ms,path,fraud\n{at},a,1,/,1\n{at},a,2,/\n{at},a,fast,/,1\n{at},a,3,/,\n{at},a,4,/,maybe\n{at},a,1e31,/,0\n{at},a,inf,/,0\n\
         ,a,5,/,0\n{at},a,6,{long},0\n\n{at},a,7,/,normal\n"
    );
    let task = fixture.train("?label=fraud&time=when&entity=machine", "text/csv", &csv);
    let result = &task["result"];
    assert_eq!((&task["state"], &result["accepted"], &result["refused"]), (&json!("done"), &json!(2), &json!(8)));
    let refused: Vec<(u64, &str)> = result["refused_lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["line"].as_u64().unwrap(), line["reason"].as_str().unwrap()))
        .collect();
    let expected = [
        (3, "4 cells where the header has 5"),
        (4, "is no number"),
        (5, "no truth"),
        (6, "neither 0 nor 1"),
        (7, "at most 1e30"),
        (8, "finite number is expected"),
        (9, "absent or null"),
        (10, "longer than 2000 bytes"),
    ];
    assert_eq!(refused.len(), expected.len(), "{refused:?}");
    for ((line, reason), (expected_line, part)) in refused.iter().zip(expected) {
        assert!(*line == expected_line && reason.contains(part), "line {line}: {reason}; expected {part}");
    }
    let ndjson = format!(
        "{{\"ts\":{at},\"host\":\"a\",\"latency_ms\":9,\"path\":\"/\",\"label\":true}}\n{{\"ts\":\n[]\n\
         {{\"at\":{at},\"host\":\"a\",\"latency_ms\":9,\"path\":\"/\",\"label\":\"normal\"}}\n"
    );
    let task = fixture.train("", "application/x-ndjson", &ndjson);
    let lines: Vec<&Value> =
        task["result"]["refused_lines"].as_array().unwrap().iter().map(|line| &line["line"]).collect();
    assert_eq!((&task["result"]["accepted"], lines), (&json!(1), vec![&json!(2), &json!(3), &json!(4)]), "{task}");

    // What is no training data as a whole is refused at once.
    for (query, content_type, body, status, code) in [
        ("", "text/csv", "ts,host,latency_ms\n1,a,2\n", 422, "not_training_data"),
        ("?time=when", "text/csv", "ts,label\n1,a\n", 422, "not_training_data"),
        ("", "text/csv", "", 422, "not_training_data"),
        ("", "application/json", "[]", 415, "unsupported_media_type"),
        ("?keys=a", "text/csv", "label\n1\n", 400, "invalid_parameter"),
        ("?key=", "text/csv", "label\n1\n", 400, "invalid_parameter"),
        ("", "text/csv", &format!("label\n{}", "1\n".repeat(60_000)), 413, "body_too_large"),
    ] {
        let refused = fixture.post(&format!("/v1/training-data{query}"), content_type, body);
        assert_eq!(refused.code(status), code, "{query} {}", refused.text);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.csv");
    std::fs::write(&file, format!("label\n{}", "1\n".repeat(60_000))).unwrap();
    let (url, config, label) = (Some(fixture.url.clone()), "larum.toml".into(), "label".into());
    let args = TrainArgs { file, url, config, key: None, label, time: None, entity: None, id: None };
    let too_large = format!("{:#}", larum::cli::train::run(args).unwrap_err());
    assert!(too_large.contains("answered 413: the file is larger than 100000 bytes"), "{too_large}");
    // A file that breaks off in its middle fails; what came before is told.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(cases(0..50_000, at).as_bytes()).unwrap();
    let mut gzip = gzip.finish().unwrap();
    gzip.truncate(gzip.len().min(100_000) / 2);
    let broken = fixture.train("", "application/gzip", &gzip);
    assert_eq!(broken["state"], "failed");
    assert!(
        broken["error"].as_str().unwrap().len() > 5 && broken["result"]["rows"].as_u64().unwrap() > 100,
        "{broken}"
    );
    let metrics = fixture.get("/metrics").text;
    for line in [
        "larum_limit_hits_total{limit=\"upload_bytes\"} 2",
        "larum_examples_total{outcome=\"already\"} 0",
        "larum_tasks{state=\"done\"} 2",
        "larum_tasks{state=\"failed\"} 1",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}: {metrics}");
    }
    assert!(metrics.contains("larum_examples_total{outcome=\"refused\"} 11\n"), "{metrics}");
}

#[test]
fn a_file_may_come_slowly_and_a_task_be_cancelled() {
    let fixture = Fixture::with("request_ms = 1000");
    let start = |path: &str, length: usize| {
        let mut stream = fixture.connect();
        let head = "HTTP/1.1\r\nhost: x\r\ncontent-type: text/csv\r\nconnection: close";
        write!(stream, "POST {path} {head}\r\ncontent-length: {length}\r\n\r\n").unwrap();
        stream
    };
    let (_silent, pause) = channel::<()>();
    let rest = |ms: u64| assert!(pause.recv_timeout(Duration::from_millis(ms)).is_err());
    // Each piece within the time that a whole request has, all of them not.
    let text = cases(0..5, fixture.start_ms);
    let mut slow = start("/v1/training-data?key=slow", text.len());
    for piece in text.as_bytes().chunks(text.len().div_ceil(4)) {
        rest(500);
        slow.write_all(piece).unwrap();
    }
    assert!(first_line(&mut slow).contains("202"));
    // Two that do not come are two turns taken; they end by themselves.
    let mut stuck = [start("/v1/training-data", 10), start("/v1/training-data", 10)];
    rest(200);
    assert_eq!(fixture.post("/v1/training-data", "text/csv", "label\n1\n").code(503), "busy");
    stuck.iter_mut().for_each(|stream| assert!(first_line(stream).contains("408")));

    // One that runs, or waits behind one that does.
    // The query leaves all of it out: the embedded broker holds no such log.
    let large = cases(0..300_000, fixture.start_ms).replace(",/,", ",/healthz,");
    let ids: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|key| {
            let taken = fixture.post(&format!("/v1/training-data?key={key}"), "text/csv", &large);
            assert_eq!(taken.status, 202, "{}", taken.text);
            taken.json()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let shown = |id: &str| fixture.get(&format!("/v1/tasks/{id}")).ok();
    let cancel = |id: &str| answer(fixture.agent.delete(format!("{}/v1/tasks/{id}", fixture.url)).call());
    let waiting = cancel(&ids[2]).ok();
    assert_eq!(waiting["state"], "cancelled", "{waiting}");
    assert!(waiting["started"].is_null() && waiting["error"].as_str().unwrap().contains("before it began"));
    fixture.until("a task runs", || ids.iter().any(|id| shown(id)["state"] == "running"));
    let running = ids.iter().find(|id| shown(id)["state"] == "running").unwrap();
    cancel(running).ok();
    fixture.until("it has ended", || !shown(running)["ended"].is_null());
    let ended = shown(running);
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert!(ended["result"]["rows"].as_u64().unwrap() < 300_000, "{ended}");
    assert!(ended["error"].as_str().unwrap().contains("stays"), "{ended}");
    ids.iter().for_each(|id| drop(cancel(id)));
    assert_eq!(cancel("none").code(404), "not_found");
}

#[test]
fn files_of_training_data_are_sent_or_written_without_a_service() {
    let fixture = Fixture::start();
    let folder = tempfile::tempdir().unwrap();
    let brokers = &fixture.service.as_ref().unwrap().shared().config.kafka.brokers;
    let config = folder.path().join("larum.toml");
    std::fs::write(&config, CONFIG.replace("BROKERS", brokers).replace("LIMITS", "")).unwrap();
    let train = |url: Option<&str>, name: &str, text: &[u8], key: Option<&str>| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let key = key.map(|key| larum::service::UploadKey::parse(key).unwrap());
        let (url, config) = (url.map(str::to_owned), config.clone());
        let args = TrainArgs { file, url, config, key, label: "label".into(), time: None, entity: None, id: None };
        larum::cli::train::run(args)
    };
    let csv = cases(0..100, fixture.start_ms);
    train(None, "cases.csv", csv.as_bytes(), None).unwrap();
    fixture.until("the examples are learned", || fixture.labels() == (20, 70));
    let end = fixture.label_log_end();
    // The same file has the same key, wherever it is sent from, and nothing of it is written again.
    train(None, "copy.csv", csv.as_bytes(), None).unwrap();
    train(Some(&fixture.url), "sent.csv", csv.as_bytes(), None).unwrap();
    assert_eq!((fixture.label_log_end(), fixture.labels()), (end, (20, 70)));
    train(Some(&format!("{}/", fixture.url)), "other.csv", csv.as_bytes(), Some("other")).unwrap();
    fixture.until("another key is learned", || fixture.labels() == (40, 140));

    let broken = format!("{csv}1,2\n{},h1,5,/,eu,1\n", fixture.start_ms + 1_000_000);
    for (url, key, labels) in [(None, "c", (61, 210)), (Some(fixture.url.as_str()), "d", (82, 280))] {
        let error = train(url, "broken.csv", broken.as_bytes(), Some(key)).unwrap_err();
        assert!(error.to_string().starts_with("1 of 102 rows were refused"), "{error}");
        fixture.until("the other rows are learned", || fixture.labels() == labels);
    }
    let unlabelled = train(Some(&fixture.url), "x.csv", b"ts,host\n1,a\n", None).unwrap_err();
    assert!(format!("{unlabelled:#}").contains("answered 422") && format!("{unlabelled:#}").contains("\"label\""));
    let unlabelled = train(None, "x.csv", b"ts,host\n1,a\n", None).unwrap_err();
    assert_eq!(larum::cli::exit_code(&unlabelled), 2, "{unlabelled:#}");
    assert!(train(None, "x.csv", b"ts,host,label\n", None).unwrap_err().to_string().contains("no row"));
    let absent = train(Some("http://127.0.0.1:1"), "x.csv", csv.as_bytes(), None).unwrap_err();
    assert!(format!("{absent:#}").starts_with("no answer from http://127.0.0.1:1/v1/training-data"), "{absent:#}");
}

/// A model that votes only once it is refitted: whatever a refit makes of it is better than nothing.
const TREES: &str = "[[models]]\nname = \"trees\"\nkind = \"extra_trees\"\n";

impl Fixture {
    /// Asks for a refit and answers the task as it ended.
    fn retrain(&self, model: &str, query: &str) -> Value {
        let taken = self.post(&format!("/v1/models/{model}/retrain{query}"), "application/json", "");
        assert_eq!(taken.status, 202, "{}", taken.text);
        let location = taken.headers["location"].to_str().unwrap().to_owned();
        self.until("the refit ends", || {
            !["queued", "running"].contains(&self.get(&location).ok()["state"].as_str().unwrap())
        });
        let task = self.get(&location).ok();
        is_described(&task, "Task");
        assert_eq!(task["kind"], "retrain");
        task
    }

    /// Its versions, the newest first, and the one that scores.
    fn versions(&self, model: &str) -> (Vec<i64>, i64) {
        let answer = self.get(&format!("/v1/models/{model}/versions")).ok();
        is_described(&answer, "ModelVersions");
        let versions = answer["versions"].as_array().unwrap();
        versions.iter().for_each(|version| is_described(version, "ModelVersion"));
        let active = versions.iter().filter(|version| version["active"] == true);
        let active: Vec<i64> = active.map(|version| version["version"].as_i64().unwrap()).collect();
        assert_eq!(active.len(), 1, "{answer}");
        (versions.iter().map(|version| version["version"].as_i64().unwrap()).collect(), active[0])
    }

    fn activate(&self, path: &str, body: &str) -> Value {
        let answer = self.post(&format!("/v1/models/trees/{path}"), "application/json", body);
        assert_eq!(answer.status, 202, "{}", answer.text);
        is_described(&answer.json(), "Activated");
        let version = answer.json()["version"].as_i64().unwrap();
        self.until("the version scores", || self.versions("trees").1 == version);
        answer.json()
    }
}

#[test]
fn a_refit_takes_over_when_it_is_better_and_can_be_taken_back() {
    let fixture = Fixture::with(TREES);
    let learned = |labels| fixture.until("the examples are learned", || fixture.labels() == labels);
    let failed = fixture.retrain("trees", "");
    assert_eq!((&failed["state"], failed.get("result")), (&json!("failed"), None), "{failed}");
    assert!(
        failed["error"].as_str().unwrap().contains("\"trees\" was not refitted: there are too few labels"),
        "{failed}"
    );

    fixture.train("", "text/csv", cases(0..300, fixture.start_ms));
    learned((60, 210));
    assert_eq!(fixture.get("/v1/models/trees/export").code(409), "not_fitted");
    let looked = fixture.retrain("trees", "?dry_run=true");
    let result = &looked["result"];
    is_described(result, "Retrained");
    assert_eq!((&looked["state"], &looked["progress"]), (&json!("done"), &json!({"done": 1000, "total": 1000})));
    assert_eq!(
        (&result["promoted"], &result["dry_run"], &result["version"]),
        (&json!(false), &json!(true), &Value::Null)
    );
    assert!(result["why"].as_str().unwrap().ends_with("it would take over, but this is a dry run"), "{result}");
    assert_eq!(result["labels"], json!({"fitted": 216, "held_out_anomalies": 12, "held_out_normals": 42}));
    assert!(result["log_loss_change"]["high"].as_f64().unwrap() < 0.0, "{result}");
    assert!(result["challenger"]["log_loss"].as_f64() < result["champion"]["log_loss"].as_f64(), "{result}");
    assert_eq!(result["alarms"]["rows"], EVENTS, "{result}");
    assert_eq!(fixture.versions("trees"), (vec![0], 0));

    let promoted = fixture.retrain("trees", "");
    assert_eq!((&promoted["result"]["promoted"], &promoted["error"]), (&json!(true), &Value::Null), "{promoted}");
    let version = promoted["result"]["version"].as_i64().unwrap();
    assert_eq!(fixture.versions("trees"), (vec![version, 0], version));
    let newest = fixture.get("/v1/models/trees/versions").ok()["versions"][0].clone();
    assert_eq!((&newest["labels"], &newest["log_loss"]), (&json!(0), &Value::Null));
    assert!(newest["promoted_at"].is_string(), "{newest}");
    fixture.until("it is adopted", || fixture.get("/v1/models/trees").ok()["ready"] == true);
    the_model_is_exported(&fixture);

    // Both go on learning, and say how well they do.
    fixture.train("", "text/csv", cases(300..400, fixture.start_ms));
    learned((80, 280));
    let newest = fixture.get("/v1/models/trees/versions").ok()["versions"][0].clone();
    assert_eq!(newest["labels"], 90);
    assert!(newest["log_loss"].as_f64().is_some_and(|loss| loss < 0.2), "{newest}");

    assert_eq!(fixture.activate("rollback", ""), json!({"model": "trees", "version": 0, "before": version}));
    fixture
        .until("the online one, which says nothing, scores", || fixture.get("/v1/models/trees").ok()["ready"] == false);
    assert_eq!(fixture.post("/v1/models/trees/rollback", "application/json", "").code(409), "no_earlier_version");
    assert_eq!(fixture.activate("promote", &json!({ "version": version }).to_string())["before"], 0);
    assert_eq!(fixture.activate("rollback", "{\"version\": 0}")["before"], version);
    assert_eq!(fixture.versions("trees"), (vec![version, 0], 0));
    what_is_no_refit_is_refused(&fixture, version);
    models_are_asked_for_on_the_command_line(&fixture, version);
    let metrics = fixture.get("/metrics").text;
    for line in [
        "larum_refits_total{outcome=\"failed\"} 1",
        "larum_refits_total{outcome=\"dry_run\"} 2",
        "larum_refits_total{outcome=\"promoted\"} 1",
        "larum_promotions_total 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

fn the_model_is_exported(fixture: &Fixture) {
    let exported = fixture.get("/v1/models/trees/export");
    assert_eq!(exported.headers["content-disposition"], "attachment; filename=\"trees.json\"");
    assert_eq!(exported.headers["content-type"], "application/json");
    let names = &fixture.service.as_ref().unwrap().shared().names;
    let (kind, fitted) = larum::wire::artifact_from_json(names, exported.text.as_bytes()).unwrap();
    assert_eq!(kind, "extra_trees");
    assert_eq!(larum::wire::artifact_to_json(names, &kind, &fitted).unwrap(), exported.text.as_bytes());
    for name in ["logistic", "svm"] {
        let exported = fixture.get(&format!("/v1/models/{name}/export"));
        larum::wire::artifact_from_json(names, exported.text.as_bytes()).unwrap();
    }
}

fn what_is_no_refit_is_refused(fixture: &Fixture, version: i64) {
    let post = |path: &str, body: &str| fixture.post(&format!("/v1/models/{path}"), "application/json", body);
    let unknown = post("trees/promote", "{\"version\": 5}");
    assert_eq!(unknown.json()["error"]["details"], json!({ "versions": [version, 0] }));
    assert_eq!(unknown.code(404), "not_found");
    for path in ["regression/retrain", "regression/rollback"] {
        assert_eq!(post(path, "").code(409), "learns_from_events", "{path}");
    }
    for path in ["regression/versions", "regression/export"] {
        assert_eq!(fixture.get(&format!("/v1/models/{path}")).code(409), "learns_from_events", "{path}");
    }
    assert_eq!(post("nobody/retrain", "").code(404), "not_found");
    assert_eq!(post("trees/retrain?dry=true", "").code(400), "invalid_parameter");
    assert_eq!(post("trees/promote", "{").code(400), "not_json");
    assert_eq!(post("trees/promote", "{}").code(422), "no_version");
    let untyped = fixture.post("/v1/models/trees/promote", "text/plain", "1");
    assert_eq!(untyped.code(415), "unsupported_media_type");
}

fn models_are_asked_for_on_the_command_line(fixture: &Fixture, version: i64) {
    let folder = tempfile::tempdir().unwrap();
    let larum = |arguments: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_larum"))
            .current_dir(folder.path())
            .args(["models", "-u", &fixture.url])
            .args(arguments.split(' '))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let says = |arguments: &str, code: i32, parts: &[&str]| {
        let (ended, said) = larum(arguments);
        assert_eq!(ended, Some(code), "{arguments}: {said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{arguments}: {said}; expected: {part}"));
    };
    says("list", 0, &["MODEL", "trees       extra_trees"]);
    says("show logistic", 0, &["logistic (logistic_regression), learns from labels, ready", "latency_ms", "PARTITION"]);
    says("show regression", 0, &["latency_ms.mean"]);
    says("versions trees", 0, &["LOG LOSS", &version.to_string(), "online, never refitted"]);
    says("promote trees 3", 1, &["answered 404: version 3 of \"trees\" is not kept"]);
    says(&format!("promote trees {version}"), 0, &[&format!("version {version} of trees scores now; before it was 0")]);
    says("rollback trees", 0, &["version 0 of trees scores now"]);
    says(&format!("promote trees {version}"), 0, &[]);
    says("retrain trees --dry-run", 0, &["average precision", "higher is better", "with 95 %"]);
    says("retrain regression", 1, &["answered 409", "learns from every event"]);
    says("export trees -o trees.json", 0, &[]);
    let exported = std::fs::read(folder.path().join("trees.json")).unwrap();
    assert_eq!(exported, fixture.get("/v1/models/trees/export").text.as_bytes());
    says("export nobody", 1, &["there is no model"]);
    says("export no/body", 2, &["is no name of a model"]);
}

#[test]
fn refits_come_by_themselves() {
    let fixture = Fixture::with(&format!("{TREES}[learning]\nrefit = \"250 labels\"\n"));
    fixture.train("", "text/csv", cases(0..270, fixture.start_ms));
    fixture.until("the examples are learned", || fixture.labels() == (54, 189));
    let refits = || {
        let tasks = fixture.get("/v1/tasks").ok();
        let all = tasks["tasks"].as_array().unwrap().iter().filter(|task| task["kind"] == "retrain");
        all.filter(|task| task["state"] == "done").count()
    };
    assert_eq!(refits(), 0);
    fixture.train("?key=more", "text/csv", cases(270..300, fixture.start_ms));
    fixture.until("every label learner is refitted", || refits() == 3);
    let (versions, active) = fixture.versions("trees");
    assert_eq!((versions.len(), versions[0]), (2, active));
}

#[test]
fn errors_have_one_shape_and_health_is_told() {
    let fixture = Fixture::start();
    assert_eq!(fixture.get("/livez").ok(), json!({"status": "live"}));
    assert_eq!(fixture.get("/readyz").ok(), json!({"status": "ready"}));
    let metrics = fixture.get("/metrics");
    assert_eq!(metrics.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(metrics.text.contains(&format!("larum_events_total{{outcome=\"scored\"}} {EVENTS}\n")), "{}", metrics.text);
    assert!(metrics.text.ends_with("# EOF\n"));
    let document = fixture.get("/openapi.json").ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    // Every path that is described is there: at the least it does not answer 404 to another method.
    for (path, _) in document["paths"].as_object().unwrap().iter().filter(|(_, methods)| methods["delete"].is_null()) {
        let answer = answer(fixture.agent.delete(format!("{}{}", fixture.url, path.replace(['{', '}'], ""))).call());
        assert_eq!(answer.code(405), "method_not_allowed");
        assert!(!answer.headers["allow"].is_empty());
    }
    assert_eq!(fixture.get("/").code(404), "not_found");
    assert_eq!(fixture.get("/v1/predictions/%ff").code(400), "bad_request");
    assert_eq!(fixture.get("/v1/models/%ff").code(400), "bad_request");

    let service = fixture.service.as_ref().unwrap();
    service.shared().stop();
    // The listener ends with the service; until it has noticed, it says so.
    let stopping = fixture.agent.get(format!("{}/readyz", fixture.url)).call();
    if let Ok(response) = stopping {
        assert_eq!(response.status().as_u16(), 503);
    }
    fixture.until_closed();
}

impl Fixture {
    fn until_closed(&self) {
        let timer = telemetry::stopwatch();
        let (_silent, pause) = channel::<()>();
        while TcpStream::connect(self.url.trim_start_matches("http://")).is_ok() {
            assert!(timer.elapsed() < PATIENCE, "it still listens");
            assert!(pause.recv_timeout(Duration::from_millis(30)).is_err());
        }
    }
}

#[test]
fn limits_hold() {
    let fixture = Fixture::with("body_bytes = 2000\nrequest_ms = 600\nconnections = 4");
    // Bodies: announced or not.
    let large = vec![b' '; 3_000];
    assert_eq!(fixture.post("/v1/predict", "application/json", &large).code(413), "body_too_large");
    let mut stream = fixture.connect();
    let head = "POST /v1/labels HTTP/1.1\r\nhost: x\r\ncontent-type: text/csv\r\ntransfer-encoding: chunked\r\n\r\n";
    write!(stream, "{head}bb8\r\n{}\r\n0\r\n\r\n", " ".repeat(3_000)).unwrap();
    assert!(first_line(&mut stream).contains("413"));
    // A body that does not come.
    let mut stream = fixture.connect();
    write!(stream, "POST /v1/labels HTTP/1.1\r\nhost: x\r\ncontent-type: text/csv\r\ncontent-length: 10\r\n\r\nevent")
        .unwrap();
    assert!(first_line(&mut stream).contains("408"));
    drop(stream);
    // Headers that do not come: the connection is closed, and was counted while it was open.
    let timer = telemetry::stopwatch();
    let mut silent: Vec<TcpStream> = (0..4).map(|_| fixture.connect()).collect();
    for stream in &mut silent {
        write!(stream, "GET /livez HTTP/1.1\r\nhost:").unwrap();
    }
    let mut fifth = fixture.connect();
    write!(fifth, "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    assert!(first_line(&mut fifth).contains("200"));
    let waited = timer.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
    // Each was counted by its name.
    let metrics = fixture.get("/metrics").text;
    for hit in ["body_bytes\"} 2", "request_ms\"} 1", "connections\"} "] {
        assert!(metrics.contains(&format!("larum_limit_hits_total{{limit=\"{hit}")), "{hit}: {metrics}");
    }
}

fn first_line(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 64];
    let read = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..read]).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn only_loopback_is_listened_on() {
    let fixture = Fixture::start();
    let shared = fixture.service.as_ref().unwrap().shared().clone();
    let taken = Server::serve(shared.clone(), std::net::TcpListener::bind("0.0.0.0:0").unwrap()).unwrap_err();
    assert!(taken.to_string().contains("loopback only"), "{taken}");
    let second = Server::serve(shared, std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let addr = second.addr();
    assert!(TcpStream::connect(addr).is_ok());
    second.stop();
    assert!(TcpStream::connect(addr).is_err(), "stopped means closed");
}
