//! The one workload of the benches: 269 to 279 bytes of JSON an event, 1,000 entities, 10 features with 3 windows.
#![allow(dead_code, reason = "each bench uses its part of it")]

use larum::event::{EventSpec, Field};

pub(crate) const ENTITIES: usize = 1_000;
/// Event time between two events.
pub(crate) const STEP_MS: i64 = 20;
/// Where event time begins, for benches that compare runs.
pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;

/// Name and type of the fields that are declared; events have four more.
pub(crate) const FIELDS: [(&str, &str); 8] = [
    ("request_id", "string"),
    ("ts", "timestamp"),
    ("host", "string"),
    ("path", "string"),
    ("status", "bigint"),
    ("latency_ms", "double"),
    ("bytes", "bigint"),
    ("region", "string"),
];

pub(crate) const SQL: &str = "
SELECT latency_ms,
       LN(bytes + 1)                                 AS log_bytes,
       CASE WHEN status >= 500 THEN 1.0 ELSE 0.0 END AS failed,
       AVG(latency_ms) OVER last_5m                  AS latency_avg_5m,
       STDDEV_POP(latency_ms) OVER last_5m           AS latency_deviation_5m,
       COUNT(*) OVER last_5m                         AS requests_5m,
       MAX(bytes) OVER last_20                       AS bytes_max_20,
       SUM(bytes) OVER last_20                       AS bytes_20,
       latency_ms - LAG(latency_ms) OVER by_host     AS latency_step,
       region
FROM events
WHERE path <> '/healthz'
WINDOW last_5m AS (PARTITION BY host ORDER BY ts RANGE BETWEEN INTERVAL '5' MINUTE PRECEDING AND CURRENT ROW),
       last_20 AS (PARTITION BY host ORDER BY ts ROWS 19 PRECEDING),
       by_host AS (PARTITION BY host ORDER BY ts)";

pub(crate) fn spec() -> EventSpec {
    EventSpec {
        id: Some("request_id".into()),
        time: Some("ts".into()),
        entity: Some("host".into()),
        fields: FIELDS.iter().map(|(n, t)| Field::parse(n, t).expect("the bench's own types")).collect(),
        lateness_ms: 60_000,
        bytes_max: 1 << 20,
        depth_max: 32,
    }
}

fn noise(index: u64) -> u64 {
    index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33
}

/// Which of the [`ENTITIES`] event `index` is of.
pub(crate) fn entity(index: u64) -> u64 {
    noise(index) % ENTITIES as u64
}

pub(crate) fn time_ms(index: u64, epoch_ms: i64) -> i64 {
    epoch_ms + index as i64 * STEP_MS
}

/// Event `index`, which is a function of its arguments alone.
pub(crate) fn event(index: u64, epoch_ms: i64) -> String {
    let noise = noise(index);
    format!(
        r#"{{"request_id":"{noise:011x}-{index:08}","ts":{},"host":"web-{:04}.shop.example.net","method":"GET","path":"/products/{}","status":{},"latency_ms":{}.{},"bytes":{},"region":"eu-west-{}","user_agent":"curl/8","cached":{},"session":"{noise:032x}"}}"#,
        time_ms(index, epoch_ms),
        entity(index),
        noise % 977,
        if noise.is_multiple_of(50) { 503 } else { 200 },
        noise % 400,
        noise % 89,
        noise % 65_521,
        noise % 3,
        noise.is_multiple_of(2),
    )
}

/// The first `count` events, kept for the rest of the process; says how long they are.
pub(crate) fn payloads(count: usize) -> Vec<&'static str> {
    let payloads: Vec<&'static str> = (0..count as u64).map(|index| &*event(index, EPOCH_MS).leak()).collect();
    let bytes = payloads.iter().map(|payload| payload.len());
    println!("events of {:?} to {:?} bytes", bytes.clone().min(), bytes.max());
    payloads
}
