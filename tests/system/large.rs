//! The same promises at size, run with `LARUM_SYSTEM_LARGE=1`.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use crate::kafka::{Broker, Sent};
use crate::larum::{Deployment, Options, Service};
use crate::malformed::{REASONS, assert_letter, place, spoil};
use crate::{crash, predictions, store, traffic};

const PARTITIONS: i32 = 4;

/// The http stream (UCI KDD 1999: 567,498 rows of three numbers and a label), a row per line of JSON.
fn http() -> Vec<String> {
    let path = std::env::var_os("LARUM_HTTP_CSV").expect("LARUM_HTTP_CSV names the http stream (CSV or .csv.gz)");
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reader: Box<dyn Read> = if path.to_string_lossy().ends_with(".gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut csv = csv::Reader::from_reader(reader);
    assert_eq!(csv.headers().unwrap().iter().collect::<Vec<_>>(), ["f0", "f1", "f2", "label"], "{}", path.display());
    let event = |(row, cells): (usize, csv::Result<csv::StringRecord>)| {
        let cells = cells.unwrap();
        let ts = traffic::epoch_ms() + 30 * i64::try_from(row).unwrap();
        format!(r#"{{"id":"{}","ts":{ts},"f0":{},"f1":{},"f2":{}}}"#, http_id(row), &cells[0], &cells[1], &cells[2])
    };
    csv.records().enumerate().map(event).collect()
}

fn http_id(row: usize) -> String {
    format!("http-{row:06}")
}

fn http_options(name: &str) -> Options {
    Options {
        event: "id = \"id\"\ntime = \"ts\"",
        fields: "id = \"string\"\nts = \"timestamp\"\nf0 = \"double\"\nf1 = \"double\"\nf2 = \"double\"\n",
        sql: "SELECT f0, f1, f2 FROM events\n",
        ..Options::requests(name)
    }
}

#[test]
#[ignore = "needs a JVM and the http stream: LARUM_SYSTEM_LARGE=1 tests/system/run"]
fn http_survives_three_kills_bit_by_bit() {
    let events = http();
    let rows = events.len();
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    let sending = crash::trickle(broker.producer(), rows as u64, 20_000, move |sender, index| {
        let payload = Some(events[usize::try_from(index).unwrap()].clone().into_bytes());
        let partition = i32::try_from(index % 4).unwrap();
        // The Kafka timestamp keeps up with the event time, or the later events would be from the future.
        let timestamp = traffic::epoch_ms() + 30 * i64::try_from(index).unwrap();
        sender.send("requests", &Sent { partition, timestamp, payload, ..Sent::default() });
    });
    let killed = Deployment::new(&broker, http_options("killed"));
    crash::interrupt(&killed, rows as u64, Service::kill);
    sending.join().unwrap();
    killed.run_through(&broker);
    let straight = Deployment::new(&broker, http_options("straight"));
    let begin = Instant::now();
    straight.run_through(&broker);
    println!("{rows} events, start and stop included: {:.1} s", begin.elapsed().as_secs_f64());

    store::assert_ids(&killed.store(), (0..rows).map(http_id));
    let copies = predictions::assert_agree(&broker, &killed);
    println!("{copies} predictions came twice over three kills");
    store::assert_same(&killed.store(), &straight.store());
}

#[test]
#[ignore = "needs a JVM: LARUM_SYSTEM_LARGE=1 tests/system/run"]
fn a_million_records_half_of_them_malformed() {
    const RECORDS: u64 = 1_000_000;
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    let mut sender = broker.producer();
    let mut next = [0_i64; PARTITIONS as usize];
    let mut bad: BTreeMap<(i32, i64), u64> = BTreeMap::new();
    for index in 0..RECORDS {
        let record = spoilt(index);
        let offset = &mut next[usize::try_from(record.partition).unwrap()];
        if index % 2 == 1 {
            bad.insert((record.partition, *offset), index);
        }
        *offset += 1;
        sender.send("requests", &record);
    }
    sender.flush();

    let deployment = Deployment::new(&broker, Options::requests("million"));
    let mut service = deployment.start();
    let memory = watch_memory(&deployment, &mut service, RECORDS);
    service.stop();
    println!("resident MiB over the run: {memory:?}");
    let (early, late) = memory.split_at(memory.len() / 4);
    let (early, late) = (largest(early), largest(late));
    assert!(late * 4 <= early * 5 + 64, "memory grows: {early} MiB in the first quarter, {late} MiB later");

    store::assert_ids(&deployment.store(), (0..RECORDS).step_by(2).map(traffic::id));
    let copies = predictions::copies(&broker, &deployment.topic("scored"), |_, json| {
        let index: u64 = json["event_id"].as_str().unwrap()[2..].parse().unwrap();
        assert!(index.is_multiple_of(2) && index < RECORDS, "a prediction of a malformed record: {json}");
    });
    assert_eq!(copies.len() as u64, RECORDS / 2, "predictions of good records");
    broker.read(&deployment.topic("dlq"), |letter| {
        let place = place(&letter, "requests");
        let index = bad.remove(&place).unwrap_or_else(|| panic!("a dead letter of a good record, or twice: {place:?}"));
        assert_letter(&letter, &spoilt(index), REASONS[way(index)]);
    });
    assert!(bad.is_empty(), "{} malformed records are no dead letters", bad.len());
}

fn way(index: u64) -> usize {
    usize::try_from(index / 2).unwrap() % REASONS.len()
}

/// Every second record is malformed, in each of the ways in turn.
fn spoilt(index: u64) -> Sent {
    let mut record = traffic::record(index, PARTITIONS);
    if index % 2 == 1 {
        record.payload = Some(spoil(index, way(index)));
    }
    record
}

/// What the second half of a long run may need beyond the first: a queue that happens to be fuller, no more.
const GROWTH_MAX: f64 = 1.05;

#[test]
#[ignore = "needs a JVM: LARUM_SYSTEM_LARGE=1 tests/system/run"]
fn memory_levels_off_over_three_million_records() {
    const RECORDS: u64 = 3_000_000;
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    // About what the machine of a test can send and score at a time: the queues are neither empty nor always full.
    let sending = crash::trickle(broker.producer(), RECORDS, 30_000, |sender, index| {
        sender.send("requests", &spoilt(index));
    });
    let deployment = Deployment::new(&broker, Options::requests("long"));
    let mut service = deployment.start();
    let memory = watch_memory(&deployment, &mut service, RECORDS);
    sending.join().unwrap();
    service.stop();
    assert!(memory.len() >= 40, "{} samples show nothing", memory.len());
    let (first, second) = memory.split_at(memory.len() / 2);
    for (name, half) in [("first", first), ("second", second)] {
        println!("resident in the {name} half: median {} MiB, at most {} MiB", median(half), largest(half));
    }
    let bound = |mib: u64| (mib as f64 * GROWTH_MAX) as u64;
    assert!(largest(second) <= bound(largest(first)), "memory grows: {memory:?} MiB");
    assert!(median(second) <= bound(median(first)), "memory grows: {memory:?} MiB");
}

/// Resident memory in MiB, sampled while the service works through so many records, from a tenth of them on: before, it fills its
/// queues and its first segment of the store.
fn watch_memory(deployment: &Deployment, service: &mut Service, records: u64) -> Vec<u64> {
    let records = i64::try_from(records).unwrap();
    service.wait_records("requests", records / 10);
    let deadline = Instant::now() + Duration::from_secs(600);
    let mut samples = Vec::new();
    loop {
        service.must_run();
        samples.push(service.resident_kib() / 1024);
        let reached: i64 = store::scored_through(&deployment.store(), "requests").values().sum();
        if reached >= records {
            break;
        }
        assert!(Instant::now() < deadline, "only {reached} of {records} records within ten minutes");
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!(samples.len() >= 8, "{} samples show nothing", samples.len());
    samples
}

fn largest(samples: &[u64]) -> u64 {
    samples.iter().copied().max().expect("samples")
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
