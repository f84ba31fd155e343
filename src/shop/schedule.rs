//! What happens in the shop and when: incidents (anomalies) and oddities (rare, harmless), each a pure function of the seed.

use crate::draw::{Draw, Purpose};

/// One incident begins in each slot, so a listener can say how many there should have been.
pub const SLOT_MS: i64 = 3_600_000;
const MINUTE_MS: f64 = 60_000.0;
const DAY_MS: i64 = 86_400_000;

/// What goes wrong. Five slots in a row see all five, in an order of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IncidentKind {
    /// Latency quadruples although nothing queues: only the two together give it away.
    SlowDependency,
    /// One host answers 500 and 503.
    ErrorBurst,
    /// Answers of status 200 that are nearly empty; an unchanged page (304) is as small and harmless.
    TinyResponses,
    /// One host's queue and processor fill up.
    Saturation,
    /// Failed logins from one region: each by itself is ordinary.
    CredentialStuffing,
}

impl IncidentKind {
    pub const ALL: [Self; 5] =
        [Self::SlowDependency, Self::ErrorBurst, Self::TinyResponses, Self::Saturation, Self::CredentialStuffing];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowDependency => "slow_dependency",
            Self::ErrorBurst => "error_burst",
            Self::TinyResponses => "tiny_responses",
            Self::Saturation => "saturation",
            Self::CredentialStuffing => "credential_stuffing",
        }
    }
}

/// What is rare and nobody wants to be called for. A detector raises it at first; labels teach it not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Oddity {
    /// From 02:00 to 02:40 every night: huge, slow exports.
    NightlyBatch,
    /// A crawler: large pages, many of them missing.
    Crawler,
    /// A rolling deployment: busy hosts that answer probes with 503.
    Deploy,
    /// A customer sends something large, at any time.
    LargeUpload,
}

impl Oddity {
    pub const ALL: [Self; 4] = [Self::NightlyBatch, Self::Crawler, Self::Deploy, Self::LargeUpload];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NightlyBatch => "nightly_batch",
            Self::Crawler => "crawler",
            Self::Deploy => "deploy",
            Self::LargeUpload => "large_upload",
        }
    }
}

/// One incident. Times are event time, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incident {
    /// The slot it begins in, from 0.
    pub id: u64,
    pub kind: IncidentKind,
    /// The service it strikes, by its place in `SERVICES`.
    pub service: usize,
    /// The host of that service, where it strikes one alone.
    pub host: Option<usize>,
    pub start_ms: i64,
    pub end_ms: i64,
}

/// The incident of slot `id` of a shop that opened at `start_ms`.
pub(super) fn incident(draw: Draw, start_ms: i64, id: u64) -> Incident {
    let unit = |channel: u64| draw.unit(Purpose::Traffic, channel_of(id, channel));
    let kind = order(draw, id / 5)[(id % 5) as usize];
    let pick = |n: usize, channel: u64| ((unit(channel) * n as f64) as usize).min(n - 1);
    let (services, one_host, minutes): (&[usize], bool, f64) = match kind {
        IncidentKind::SlowDependency => (&[0, 1, 2, 4, 5], false, 12.0),
        IncidentKind::ErrorBurst => (&[0, 1, 2, 4, 5, 6, 7], true, 20.0),
        IncidentKind::TinyResponses => (&[1, 4, 6], false, 12.0),
        IncidentKind::Saturation => (&[0, 1, 2, 3, 4, 5, 6, 7], true, 20.0),
        IncidentKind::CredentialStuffing => (&[3], false, 12.0),
    };
    let begin = start_ms + id as i64 * SLOT_MS + ((5.0 + 20.0 * unit(0)) * MINUTE_MS) as i64;
    Incident {
        id,
        kind,
        service: services[pick(services.len(), 1)],
        host: one_host.then(|| pick(super::HOSTS_PER_SERVICE, 2)),
        start_ms: begin,
        end_ms: begin + (minutes * (0.8 + 0.4 * unit(3)) * MINUTE_MS) as i64,
    }
}

/// The five kinds, shuffled (Fisher and Yates) for one round of five slots.
fn order(draw: Draw, round: u64) -> [IncidentKind; 5] {
    let mut kinds = IncidentKind::ALL;
    for i in (1..kinds.len()).rev() {
        let j = (draw.unit(Purpose::Traffic, channel_of(round, 8 + i as u64)) * (i + 1) as f64) as usize;
        kinds.swap(i, j.min(i));
    }
    kinds
}

/// Draws of the schedule: odd multiples of a block that no event reaches before 2^59 of them.
fn channel_of(slot: u64, channel: u64) -> u64 {
    (1 << 63) | (slot << 5) | channel
}

/// Which oddity may show itself at this time, on which service, and in what share of all events.
pub(super) fn oddity(draw: Draw, start_ms: i64, time_ms: i64) -> Option<(Oddity, usize, f64)> {
    let slot = (time_ms - start_ms).max(0) / SLOT_MS;
    let minute = ((time_ms - start_ms) - slot * SLOT_MS) as f64 / MINUTE_MS;
    let unit = |channel: u64| draw.unit(Purpose::Traffic, channel_of(slot as u64, channel));
    let of_day = time_ms.rem_euclid(DAY_MS);
    if (2 * SLOT_MS..2 * SLOT_MS + 40 * 60_000).contains(&of_day) {
        return Some((Oddity::NightlyBatch, 4, 0.08));
    }
    let within = |from: f64, minutes: f64| from <= minute && minute < from + minutes;
    if unit(16) < 0.5 && within(35.0 * unit(17), 15.0) {
        return Some((Oddity::Crawler, 1, 0.03));
    }
    if unit(18) < 0.4 && within(35.0 + 15.0 * unit(19), 6.0) {
        return Some((Oddity::Deploy, ((unit(20) * 8.0) as usize).min(7), 0.06));
    }
    None
}
