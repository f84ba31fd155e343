//! One request of the shop, and its JSON.

use std::io::Write as _;

use super::schedule::{IncidentKind, Oddity};

/// One request, with what is true about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ShopEvent {
    /// Unique within a seed; written as 16 hexadecimal digits.
    pub request_id: u64,
    /// Event time, milliseconds since the Unix epoch. Now and then up to 20 s behind its neighbours.
    pub time_ms: i64,
    pub host: &'static str,
    pub service: &'static str,
    /// Where the customer is.
    pub region: &'static str,
    pub agent: &'static str,
    pub method: &'static str,
    pub path: &'static str,
    pub status: u16,
    pub latency_ms: f64,
    pub bytes: u64,
    pub queue_depth: u32,
    /// Busy share of the host's processors, in [0, 1].
    pub cpu: f64,
    /// The incident that this event belongs to: its id and kind.
    pub incident: Option<(u64, IncidentKind)>,
    pub oddity: Option<Oddity>,
}

impl ShopEvent {
    #[must_use]
    pub fn is_anomaly(&self) -> bool {
        self.incident.is_some()
    }

    /// One JSON object without the truth and without a line end, about 250 bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(288);
        self.write_json(&mut out);
        out
    }

    /// Appends [`Self::to_json`].
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write_open(out);
        out.push(b'}');
    }

    /// Appends the object with `anomaly` (0 or 1), `incident` and `oddity` (null where there is none).
    pub fn write_json_with_truth(&self, out: &mut Vec<u8>) {
        let quoted = |name: Option<&str>| name.map_or_else(|| "null".to_owned(), |name| format!("\"{name}\""));
        self.write_open(out);
        append(
            out,
            format_args!(
                r#","anomaly":{},"incident":{},"oddity":{}}}"#,
                u8::from(self.is_anomaly()),
                quoted(self.incident.map(|(_, kind)| kind.name())),
                quoted(self.oddity.map(Oddity::name)),
            ),
        );
    }

    /// By hand: no text in here needs escaping, and every number is finite.
    fn write_open(&self, out: &mut Vec<u8>) {
        append(
            out,
            format_args!(
                concat!(
                    r#"{{"request_id":"{:016x}","ts":{},"host":"{}","service":"{}","region":"{}","agent":"{}","#,
                    r#""method":"{}","path":"{}","status":{},"latency_ms":{},"bytes":{},"queue_depth":{},"cpu":{}"#
                ),
                self.request_id,
                self.time_ms,
                self.host,
                self.service,
                self.region,
                self.agent,
                self.method,
                self.path,
                self.status,
                self.latency_ms,
                self.bytes,
                self.queue_depth,
                self.cpu,
            ),
        );
    }
}

fn append(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to a Vec cannot fail");
}
