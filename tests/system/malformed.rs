//! Records that cannot be used: each a dead letter with its bytes untouched and its reason, and no good one is lost beside them.

use std::collections::BTreeMap;

use crate::kafka::{Broker, Received, Sent};
use crate::larum::{Deployment, EVENT_BYTES_MAX, Options};
use crate::{predictions, store, traffic};

/// The ways to be malformed, by the reason that the dead letter must name.
pub(crate) const REASONS: [&str; 8] = [
    "broken_json",
    "wrong_type",
    "missing_field",
    "not_finite",
    "out_of_range",
    "too_large",
    "too_deep",
    "from_the_future",
];

/// Further ways, each beside the eight only in the small test.
const MORE_REASONS: [&str; 7] =
    ["empty", "not_an_object", "bad_time", "broken_json", "missing_field", "wrong_type", "not_finite"];

const PARTITIONS: i32 = 2;

/// The event of this index, spoilt in the given one of `REASONS`.
pub(crate) fn spoil(index: u64, way: usize) -> Vec<u8> {
    let good = traffic::json(index);
    let with_latency = |text: &str| replace(&good, "latency_ms", text);
    match REASONS[way] {
        "broken_json" => good.as_bytes()[..good.len() - 9].to_vec(),
        "wrong_type" => with_latency("\"fast\""),
        "missing_field" => good.replace("latency_ms", "latency").into_bytes(),
        "not_finite" => with_latency("NaN"),
        "out_of_range" => with_latency("1e31"),
        "too_large" => {
            let filler = "x".repeat(EVENT_BYTES_MAX);
            good.replacen('{', &format!("{{\"note\":\"{filler}\","), 1).into_bytes()
        }
        "too_deep" => {
            let (open, close) = ("[".repeat(200), "]".repeat(200));
            good.replacen('{', &format!("{{\"note\":{open}{close},"), 1).into_bytes()
        }
        "from_the_future" => traffic::json_at(index, traffic::time_ms(index) + 3_600_000).into_bytes(),
        reason => unreachable!("no way to be {reason}"),
    }
}

fn spoil_more(index: u64, way: usize) -> Option<Vec<u8>> {
    let good = traffic::json(index);
    match way {
        0 => None,
        1 => Some(format!("[{good}]").into_bytes()),
        2 => Some(replace(&good, "ts", "\"yesterday\"")),
        3 => {
            let mut bytes = good.into_bytes();
            bytes[16] = 0xff; // inside the id: not UTF-8
            Some(bytes)
        }
        4 => Some(good.replace("request_id", "id").into_bytes()),
        5 => Some(replace(&good, "bytes", "12.5")),
        6 => Some(replace(&good, "latency_ms", "1e400")),
        way => unreachable!("no further way {way}"),
    }
}

/// The object with the value of one member replaced.
fn replace(json: &str, name: &str, value: &str) -> Vec<u8> {
    let start = json.find(&format!("\"{name}\":")).unwrap() + name.len() + 3;
    let end = start + json[start..].find([',', '}']).unwrap();
    format!("{}{value}{}", &json[..start], &json[end..]).into_bytes()
}

#[test]
#[ignore = "needs a JVM: tests/system/run"]
fn every_malformed_record_is_a_dead_letter_with_its_bytes() {
    let broker = Broker::start();
    broker.create_topic("requests", PARTITIONS);
    let (mut good, mut bad) = (Vec::new(), BTreeMap::new());
    let mut next = [0_i64; PARTITIONS as usize];
    let mut sender = broker.producer();
    for index in 0..20_000_u64 {
        let mut record = traffic::record(index, PARTITIONS);
        if index % 5 == 4 {
            let way = usize::try_from(index / 5).unwrap() % (REASONS.len() + MORE_REASONS.len());
            let reason = if way < REASONS.len() {
                record.payload = Some(spoil(index, way));
                REASONS[way]
            } else {
                record.payload = spoil_more(index, way - REASONS.len());
                MORE_REASONS[way - REASONS.len()]
            };
            let place = usize::try_from(record.partition).unwrap();
            bad.insert((record.partition, next[place]), (record.clone(), reason));
        } else {
            good.push(traffic::id(index));
        }
        next[usize::try_from(record.partition).unwrap()] += 1;
        sender.send("requests", &record);
    }
    sender.flush();

    let deployment = Deployment::new(&broker, Options::requests("malformed"));
    deployment.run_through(&broker);
    store::assert_ids(&deployment.store(), good.into_iter());
    predictions::assert_agree(&broker, &deployment);
    broker.read(&deployment.topic("dlq"), |letter| {
        let place = place(&letter, "requests");
        let (sent, reason) =
            bad.remove(&place).unwrap_or_else(|| panic!("a dead letter of a good record, or twice: {place:?}"));
        assert_letter(&letter, &sent, reason);
    });
    assert!(bad.is_empty(), "{} malformed records are no dead letters: {:?}", bad.len(), bad.first_key_value());
}

/// Where a dead letter says that it came from: partition and offset.
pub(crate) fn place(letter: &Received, topic: &str) -> (i32, i64) {
    let header = |name: &str| {
        letter.header(&format!("__connect.errors.{name}")).unwrap_or_else(|| panic!("no {name}: {letter:?}"))
    };
    assert_eq!(header("topic"), topic);
    (header("partition").parse().unwrap(), header("offset").parse().unwrap())
}

/// Key, bytes and headers as they were sent; beside them the reason.
pub(crate) fn assert_letter(letter: &Received, sent: &Sent, reason: &str) {
    assert!(letter.payload == sent.payload, "{reason}: the bytes were touched: {letter:?}");
    assert_eq!(letter.key, sent.key, "{reason}: the key");
    let original: Vec<_> = letter.headers.iter().filter(|(name, _)| !name.starts_with("__connect.")).cloned().collect();
    assert_eq!(original, sent.headers, "{reason}: the headers");
    let class = letter.header("__connect.errors.exception.class.name").unwrap_or_default();
    assert!(
        class == reason || class.ends_with(&format!(".{reason}")),
        "{reason}, but the letter says {class}: {letter:?}"
    );
    let message = letter.header("__connect.errors.exception.message").unwrap_or_default();
    assert!(!message.is_empty() && message.len() < 2_000, "{reason}: message {message:?}");
}
