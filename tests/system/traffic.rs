//! Seeded requests for the tests to send: the same index is the same event, whatever was sent before it.

use crate::kafka::{Broker, Sender, Sent};

/// The features of the synthetic requests: two windows, a category, and what they have in common with design and docs.
pub(crate) const SQL: &str = "\
SELECT latency_ms,
       LN(bytes + 1)                                   AS log_bytes,
       CASE WHEN status >= 500 THEN 1.0 ELSE 0.0 END   AS failed,
       AVG(latency_ms) OVER last_minute                AS latency_avg,
       COUNT(*)        OVER last_minute                AS requests,
       latency_ms - LAG(latency_ms) OVER by_host       AS latency_step,
       region
FROM events
WINDOW last_minute AS (PARTITION BY host ORDER BY ts RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW),
       by_host     AS (PARTITION BY host ORDER BY ts)
";

pub(crate) const FIELDS: &str = "\
request_id = \"string\"
ts = \"timestamp\"
host = \"string\"
latency_ms = \"double not null\"
bytes = \"bigint\"
status = \"bigint\"
region = \"string\"
";

const HOSTS: u64 = 24;
const STEP_MS: i64 = 20;

/// Where event time begins: a day before the tests do, so that four million events end before now.
pub(crate) fn epoch_ms() -> i64 {
    static START: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *START.get_or_init(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(now.as_millis()).unwrap() - 24 * 3_600_000
    })
}

pub(crate) fn time_ms(index: u64) -> i64 {
    epoch_ms() + i64::try_from(index).unwrap() * STEP_MS
}

pub(crate) fn id(index: u64) -> String {
    format!("r-{index:08}")
}

pub(crate) fn host(index: u64) -> String {
    format!("host-{:02}", random(index, 0) % HOSTS)
}

/// Whether the event is one of the planted anomalies: slow and nearly empty.
pub(crate) fn anomalous(index: u64) -> bool {
    random(index, 1).is_multiple_of(200)
}

/// The event as JSON text.
pub(crate) fn json(index: u64) -> String {
    json_at(index, time_ms(index))
}

pub(crate) fn json_at(index: u64, ts: i64) -> String {
    let unit = |stream| (random(index, stream) >> 11) as f64 / (1_u64 << 53) as f64;
    let load = unit(2) + unit(3) + unit(4);
    let (mut latency, mut bytes) = (20.0 + 15.0 * load + unit(5), 400.0 + 900.0 * load + 60.0 * unit(6));
    if anomalous(index) {
        (latency, bytes) = (latency * 6.0, bytes / 8.0);
    }
    let status = if unit(7) < 0.01 { 503 } else { 200 };
    let region = if unit(8) < 0.7 { "eu" } else { "us" };
    format!(
        r#"{{"request_id":"{}","ts":{ts},"host":"{}","latency_ms":{latency},"bytes":{},"status":{status},"region":"{region}"}}"#,
        id(index),
        host(index),
        bytes.round(),
    )
}

/// The event as a record of a topic with so many partitions: one host, one partition.
pub(crate) fn record(index: u64, partitions: i32) -> Sent {
    Sent {
        partition: i32::try_from(random(index, 0) % HOSTS).unwrap() % partitions,
        timestamp: time_ms(index),
        key: Some(host(index).into_bytes()),
        payload: Some(json(index).into_bytes()),
        headers: vec![
            ("trace".to_owned(), Some(format!("{index:x}").into_bytes())),
            ("raw".to_owned(), Some(vec![0, 255, 7])),
            ("nothing".to_owned(), None),
        ],
    }
}

/// Sends the events of a range to a topic and waits until all are acknowledged.
pub(crate) fn send(broker: &Broker, topic: &str, partitions: i32, range: std::ops::Range<u64>) {
    let mut sender = broker.producer();
    send_with(&mut sender, topic, partitions, range);
    sender.flush();
}

pub(crate) fn send_with(sender: &mut Sender, topic: &str, partitions: i32, range: std::ops::Range<u64>) {
    for index in range {
        sender.send(topic, &record(index, partitions));
    }
}

/// SplitMix64 of an index in one of several independent streams (Steele, Lea, Flood 2014).
pub(crate) fn random(index: u64, stream: u64) -> u64 {
    let mut z = index.wrapping_add(stream << 40).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
