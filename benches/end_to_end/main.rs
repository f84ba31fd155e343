//! The service on a real Kafka against a bare librdkafka loop on the same broker in the same run: rates, ratios, CPU, memory.
//!
//! `benches/end_to_end/run` fetches the broker and runs this. With `--test` it relays a few events over the embedded broker.
#![allow(clippy::unwrap_used, reason = "a bench's failure is its panic")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock and watches other processes")]

#[allow(dead_code, reason = "the system tests use the rest of it")]
#[path = "../../tests/system/kafka.rs"]
mod kafka;
#[path = "../../tests/system/process.rs"]
mod process;
mod relay;
mod service;
#[path = "../workload/mod.rs"]
mod workload;

use larum::kafka::EmbeddedBroker;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use std::time::Instant;

pub(crate) const PARTITIONS: i32 = 4;
pub(crate) const EVENTS_TOPIC: &str = "requests";

/// What one run of one contestant came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Events per second.
    pub(crate) rate: f64,
    /// CPU seconds per million events, of the process that did the work.
    pub(crate) cpu_seconds: f64,
    /// The largest resident memory; of the service only.
    pub(crate) peak_mib: Option<u64>,
}

/// How the service is configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) keep: f64,
    pub(crate) models: Models,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Models {
    /// The six that larum has by default.
    Default,
    /// Of the detectors only the fastest.
    Regression,
}

struct Options {
    events: u64,
    rounds: usize,
    test: bool,
    settings: Vec<Setting>,
}

fn options() -> Options {
    let all = |keep| [Models::Default, Models::Regression].map(|models| Setting { keep, models });
    let settings = [1.0, 0.01].into_iter().flat_map(all).collect();
    let mut options = Options { events: 2_000_000, rounds: 3, test: false, settings };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--events" => options.events = value().parse().expect("--events takes a number"),
            "--rounds" => options.rounds = value().parse().expect("--rounds takes a number"),
            "--keep" => {
                let keep: f64 = value().parse().expect("--keep takes a share");
                options.settings = all(keep).into();
            }
            "--test" => options.test = true,
            "--bench" => {} // cargo adds it
            other => panic!("unknown argument {other}; there are --events N, --rounds N, --keep SHARE, --test"),
        }
    }
    options
}

fn main() {
    let options = options();
    if options.test {
        let broker = EmbeddedBroker::start().unwrap();
        broker.create_topic(EVENTS_TOPIC, PARTITIONS).unwrap();
        // The embedded broker answers no request to create a topic.
        let create = |topic: &str, partitions| broker.create_topic(topic, partitions).unwrap();
        let outputs = |name: &str| {
            create(&format!("{name}.scored"), PARTITIONS);
            ["labels", "label-log", "dlq"].into_iter().for_each(|topic| create(&format!("{name}.{topic}"), 1));
        };
        let options = Options { events: 2_000, rounds: 1, ..options };
        compare(&broker.brokers(), &options, |topic| create(topic, PARTITIONS), outputs);
        return;
    }
    let broker = kafka::Broker::start();
    broker.create_topic(EVENTS_TOPIC, PARTITIONS);
    let address = broker.address();
    compare(&address, &options, |topic| create(&address, topic), |name| create(&address, &format!("{name}.scored")));
}

/// Runs the contestants in turn, so that what changes on the machine meets all of them. `relayed` makes the topic of the bare loop,
/// `outputs` those of a service of that name which the broker should not make its own way.
fn compare(brokers: &str, options: &Options, relayed: impl Fn(&str), outputs: impl Fn(&str)) {
    let begin = Instant::now();
    let bytes = relay::fill(brokers, options.events);
    let million = options.events as f64 / 1e6;
    println!("{million} M events of {bytes} bytes produced in {:.1} s", begin.elapsed().as_secs_f64());
    let mut loops = Vec::new();
    let mut services: Vec<Vec<Measured>> = vec![Vec::new(); options.settings.len()];
    for run in 0..options.rounds {
        let topic = format!("relayed-{run}");
        relayed(&topic);
        let measured = relay::relay(brokers, &topic, options.events);
        print("bare loop", measured);
        loops.push(measured);
        if !options.test {
            delete(brokers, &[&topic]);
        }
        for (setting, results) in options.settings.iter().zip(&mut services) {
            let name = format!("keep-{}-{:?}-{run}", setting.keep, setting.models).to_lowercase();
            outputs(&name);
            let measured = service::run(brokers, &name, *setting, options.events);
            print(&setting.to_string(), measured);
            results.push(measured);
            if !options.test {
                delete(brokers, &[&format!("{name}.scored"), &format!("{name}.label-log")]);
            }
        }
    }
    let bare = median(&loops);
    println!("\nmedians of {} rounds, {million} M events each", options.rounds);
    print("bare loop", bare);
    for (setting, results) in options.settings.iter().zip(&services) {
        let service = median(results);
        print(&setting.to_string(), service);
        println!("{:32} {:.2} of the bare loop's rate", "", service.rate / bare.rate);
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let models = if self.models == Models::Default { "" } else { ", regression only" };
        write!(f, "larum, keep = {}{models}", self.keep)
    }
}

fn print(name: &str, measured: Measured) {
    let Measured { rate, cpu_seconds, peak_mib } = measured;
    let peak = peak_mib.map_or_else(String::new, |mib| format!(", at most {mib} MiB"));
    println!("{name:32} {:.3} M/s, {cpu_seconds:.2} CPU seconds per million events{peak}", rate / 1e6);
}

fn median(runs: &[Measured]) -> Measured {
    let of = |value: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Measured {
        rate: of(|run| run.rate),
        cpu_seconds: of(|run| run.cpu_seconds),
        peak_mib: runs.iter().filter_map(|run| run.peak_mib).max(),
    }
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

/// A topic whose files go soon after it: a run leaves a gigabyte behind.
fn create(brokers: &str, topic: &str) {
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1)).set("file.delete.delay.ms", "500");
    let results = block_on(admin(brokers).create_topics([&new], &AdminOptions::new())).unwrap();
    assert!(results.iter().all(Result::is_ok), "creating {topic}: {results:?}");
}

fn delete(brokers: &str, topics: &[&str]) {
    let results = block_on(admin(brokers).delete_topics(topics, &AdminOptions::new())).unwrap();
    assert!(results.iter().all(Result::is_ok), "deleting {topics:?}: {results:?}");
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
