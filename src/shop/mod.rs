//! Synthetic traffic of a web shop with known incidents: a pure function of (seed, index), for `demo`, `generate` and tests.

mod event;
mod schedule;

use std::f64::consts::TAU;

pub use event::ShopEvent;
pub use schedule::{Incident, IncidentKind, Oddity, SLOT_MS};

use crate::draw::{Draw, Purpose};

/// A Monday midnight, far enough in the past that no event is from the future.
pub const START_MS: i64 = 1_704_067_200_000;
/// Events per second of event time, over a whole day: 60,000 events are 14 hours.
pub const EVENTS_PER_SECOND: f64 = 1.2;
pub const HOSTS_PER_SERVICE: usize = 5;

/// The configuration for this traffic: topic `requests`, windows per host, three models.
#[must_use]
pub fn larum_toml() -> &'static str {
    include_str!("larum.toml")
}

/// What an ordinary request of a service looks like.
struct Service {
    name: &'static str,
    hosts: [&'static str; HOSTS_PER_SERVICE],
    paths: [&'static str; 2],
    method: &'static str,
    /// Share of all requests.
    weight: f64,
    latency_ms: f64,
    bytes: f64,
    /// Share of answers 304 (unchanged) and 401 (denied).
    unchanged: f64,
    denied: f64,
}

macro_rules! service {
    ($name:literal, $paths:expr, $method:literal, $weight:literal, $latency_ms:literal, $bytes:literal, $unchanged:literal, $denied:literal) => {
        Service {
            name: $name,
            hosts: [
                concat!($name, "-1"),
                concat!($name, "-2"),
                concat!($name, "-3"),
                concat!($name, "-4"),
                concat!($name, "-5"),
            ],
            paths: $paths,
            method: $method,
            weight: $weight,
            latency_ms: $latency_ms,
            bytes: $bytes,
            unchanged: $unchanged,
            denied: $denied,
        }
    };
}

/// Incidents name a service by its place here (`schedule`).
const SERVICES: [Service; 8] = [
    service!("checkout", ["/checkout", "/checkout/address"], "POST", 0.09, 120.0, 2_600.0, 0.0, 0.01),
    service!("search", ["/search", "/suggest"], "GET", 0.21, 65.0, 14_000.0, 0.05, 0.0),
    service!("cart", ["/cart", "/cart/items"], "POST", 0.13, 40.0, 3_200.0, 0.02, 0.0),
    service!("login", ["/login", "/session"], "POST", 0.10, 85.0, 900.0, 0.0, 0.10),
    service!("catalog", ["/product", "/category"], "GET", 0.22, 50.0, 22_000.0, 0.14, 0.0),
    service!("payment", ["/pay", "/pay/confirm"], "POST", 0.06, 210.0, 1_500.0, 0.0, 0.02),
    service!("images", ["/img", "/thumb"], "GET", 0.14, 12.0, 48_000.0, 0.22, 0.0),
    service!("account", ["/account", "/orders"], "GET", 0.05, 75.0, 6_500.0, 0.03, 0.02),
];
const REGIONS: [(&str, f64); 4] = [("eu", 0.46), ("us", 0.33), ("ap", 0.14), ("sa", 0.07)];

const DAY_SECONDS: f64 = 86_400.0;
/// How strongly the day swings: requests come between 1 / (1 + .4) and 1 / (1 - .4) times as often as on average.
const SWING: f64 = 0.4;
/// Puts the quietest moment at five in the morning.
const PHASE: f64 = -0.916;

/// A shop that opened at `start_ms`. Cheap to copy; holds nothing but its seed and its opening time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shop {
    draw: Draw,
    start_ms: i64,
}

impl Shop {
    #[must_use]
    pub fn new(seed: u64, start_ms: i64) -> Self {
        Self { draw: Draw::new(seed), start_ms }
    }

    /// Every event in order; it never ends.
    pub fn events(self) -> impl Iterator<Item = ShopEvent> {
        (0..).map(move |index| self.event(index))
    }

    /// The incident that begins in hour `id` after the opening.
    #[must_use]
    pub fn incident(self, id: u64) -> Incident {
        schedule::incident(self.draw, self.start_ms, id)
    }

    /// The incidents that began before `time_ms`.
    pub fn incidents_until(self, time_ms: i64) -> impl Iterator<Item = Incident> {
        (0..).map(move |id| self.incident(id)).take_while(move |incident| incident.start_ms < time_ms)
    }

    /// When the `index`-th event happens, before its disorder. With u = index / rate, t = u + a sin(w u + p) grows
    /// strictly for a w = SWING < 1, and its inverse's slope, the rate, swings with the day: no sum, so any event can be had alone.
    fn clock_ms(self, index: u64) -> (i64, f64) {
        let seconds = index as f64 / EVENTS_PER_SECOND;
        let (amplitude, angle) = (SWING * DAY_SECONDS / TAU, TAU * seconds / DAY_SECONDS + PHASE);
        let time = seconds + amplitude * (libm::sin(angle) - libm::sin(PHASE));
        (self.start_ms + (time * 1_000.0) as i64, 1.0 / (1.0 + SWING * libm::cos(angle)))
    }

    /// The `index`-th event.
    #[must_use]
    pub fn event(self, index: u64) -> ShopEvent {
        let dice = Dice { draw: self.draw, index };
        let (clock_ms, load) = self.clock_ms(index);
        let slot = ((clock_ms - self.start_ms).max(0) / SLOT_MS) as u64;
        let incident = self.incident(slot);
        let incident = (incident.start_ms..incident.end_ms).contains(&clock_ms).then_some(incident);

        let odd = match schedule::oddity(self.draw, self.start_ms, clock_ms) {
            Some((oddity, service, share)) if dice.unit(0) < share => Some((oddity, service)),
            _ if dice.unit(1) < 0.0015 => Some((Oddity::LargeUpload, 7)),
            _ => None,
        };
        // An attack brings requests of its own; every other incident strikes requests that would have come anyway.
        let attack = incident.filter(|incident| {
            incident.kind == IncidentKind::CredentialStuffing && odd.is_none() && dice.unit(2) < 0.045
        });
        let service = match (odd, attack) {
            (Some((_, service)), _) => service,
            (_, Some(attack)) => attack.service,
            _ => dice.weighted(3, SERVICES.iter().map(|service| service.weight)),
        };
        let host = ((dice.unit(4) * HOSTS_PER_SERVICE as f64) as usize).min(HOSTS_PER_SERVICE - 1);
        let mut event = self.ordinary(dice, clock_ms, load, service, host);

        if let Some((oddity, _)) = odd {
            event.oddity = Some(oddity);
            odd_request(&mut event, oddity, dice);
        } else if let Some(incident) =
            attack.or(incident.filter(|incident| strikes(incident, service, host, &event, dice)))
        {
            event.incident = Some((incident.id, incident.kind));
            strike(&mut event, incident.kind, dice);
        }
        event.latency_ms = (event.latency_ms * 100.0).round() / 100.0;
        event.cpu = (event.cpu.clamp(0.01, 1.0) * 1_000.0).round() / 1_000.0;
        event
    }

    /// A request on an ordinary day: latency follows the queue, queue and processor follow the load.
    fn ordinary(self, dice: Dice, clock_ms: i64, load: f64, service: usize, host: usize) -> ShopEvent {
        let Service { name, hosts, paths, method, latency_ms, bytes, unchanged, denied, .. } = &SERVICES[service];
        let number = (service * HOSTS_PER_SERVICE + host) as f64;
        // Each host breathes in its own rhythm, of 20 to 50 minutes, and is a little faster or slower than its neighbours.
        let minutes = (clock_ms - self.start_ms) as f64 / 60_000.0;
        let breath = 0.15 * libm::sin(TAU * minutes / (20.0 + 0.75 * number) + number);
        let pressure = load * (1.0 + breath) * (0.88 + 0.06 * host as f64);
        let queue = (2.5 * pressure * pressure * libm::exp(0.4 * dice.normal(5))).round();
        let hiccup = if dice.unit(6) < 0.02 { 2.5 } else { 1.0 };
        let status = match dice.unit(7) {
            u if u < *unchanged => 304,
            u if u < unchanged + denied => 401,
            u if u < unchanged + denied + 0.015 => 404,
            u if u > 0.998 => 500,
            _ => 200,
        };
        let (scale, spread) = if status == 200 { (*bytes, 0.6) } else { (300.0, 0.25) };
        let late_ms = if dice.unit(8) < 0.01 { 20_000.0 * dice.unit(9) } else { 1_500.0 * dice.unit(9) };
        ShopEvent {
            request_id: dice.bits(10),
            time_ms: clock_ms - late_ms as i64,
            host: hosts[host],
            service: name,
            region: REGIONS[dice.weighted(11, REGIONS.iter().map(|(_, weight)| *weight))].0,
            agent: if dice.unit(12) < 0.62 { "browser" } else { "app" },
            method,
            path: paths[usize::from(dice.unit(13) < 0.4)],
            status,
            latency_ms: latency_ms * hiccup * libm::exp(0.3 * libm::log1p(queue) + 0.3 * dice.normal(14)),
            bytes: (scale * libm::exp(spread * dice.normal(15))) as u64,
            queue_depth: queue as u32,
            cpu: 0.08 + 0.2 * pressure + 0.012 * queue + 0.03 * dice.normal(16),
            incident: None,
            oddity: None,
        }
    }
}

/// Whether a running incident strikes this ordinary request.
fn strikes(incident: &Incident, service: usize, host: usize, event: &ShopEvent, dice: Dice) -> bool {
    let here = service == incident.service && incident.host.is_none_or(|only| only == host);
    here && match incident.kind {
        IncidentKind::SlowDependency => dice.unit(17) < 0.33,
        IncidentKind::ErrorBurst => dice.unit(17) < 0.7,
        IncidentKind::TinyResponses => event.status == 200 && dice.unit(17) < 0.33,
        IncidentKind::Saturation => true,
        IncidentKind::CredentialStuffing => false,
    }
}

fn strike(event: &mut ShopEvent, kind: IncidentKind, dice: Dice) {
    match kind {
        IncidentKind::SlowDependency => event.latency_ms *= 4.0,
        IncidentKind::ErrorBurst => {
            event.status = if dice.unit(18) < 0.5 { 500 } else { 503 };
            event.bytes = 180 + (dice.unit(19) * 60.0) as u64;
            event.latency_ms *= 0.6;
        }
        IncidentKind::TinyResponses => event.bytes = 120 + event.bytes / 60,
        IncidentKind::Saturation => {
            event.queue_depth = event.queue_depth * 4 + 50 + (dice.unit(18) * 30.0) as u32;
            event.cpu += 0.35;
            event.latency_ms *= 1.8;
        }
        IncidentKind::CredentialStuffing => {
            event.region = "sa";
            event.agent = "browser";
            event.path = "/login";
            event.status = 401;
            event.bytes = 260 + (dice.unit(18) * 80.0) as u64;
        }
    }
}

fn odd_request(event: &mut ShopEvent, oddity: Oddity, dice: Dice) {
    match oddity {
        Oddity::NightlyBatch => {
            event.agent = "batch";
            event.path = "/export";
            event.status = 200;
            event.bytes = 2_000_000 + (dice.unit(18) * 3_000_000.0) as u64;
            event.latency_ms *= 12.0;
        }
        Oddity::Crawler => {
            event.agent = "bot";
            event.status = if dice.unit(18) < 0.3 { 404 } else { 200 };
            event.bytes = event.bytes * 6 + 40_000;
            event.latency_ms *= 2.0;
        }
        Oddity::Deploy => {
            event.agent = "probe";
            event.path = "/ready";
            event.method = "GET";
            event.status = if dice.unit(18) < 0.6 { 503 } else { 200 };
            event.bytes = 90;
            event.cpu += 0.4;
            event.latency_ms *= 2.5;
        }
        Oddity::LargeUpload => {
            event.path = "/account/photo";
            event.method = "POST";
            event.status = 200;
            event.bytes = 600_000 + (dice.unit(18) * 4_000_000.0) as u64;
            event.latency_ms *= 6.0;
        }
    }
}

/// The draws of one event: 32 channels, each with a meaning of its own.
#[derive(Debug, Clone, Copy)]
struct Dice {
    draw: Draw,
    index: u64,
}

impl Dice {
    fn bits(self, channel: u64) -> u64 {
        self.draw.bits(Purpose::Traffic, (self.index << 5) | channel)
    }

    fn unit(self, channel: u64) -> f64 {
        self.draw.unit(Purpose::Traffic, (self.index << 5) | channel)
    }

    /// Nearly normal: the sum of four uniform numbers (Irwin and Hall), scaled to variance 1; within +-3.5.
    fn normal(self, channel: u64) -> f64 {
        let bits = self.bits(channel);
        let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
        (sum as f64 / 65_535.0 - 2.0) * 3f64.sqrt()
    }

    fn weighted(self, channel: u64, weights: impl ExactSizeIterator<Item = f64>) -> usize {
        let last = weights.len() - 1;
        let mut left = self.unit(channel);
        weights
            .enumerate()
            .find_map(|(i, weight)| {
                left -= weight;
                (left < 0.0).then_some(i)
            })
            .unwrap_or(last)
    }
}

#[cfg(test)]
mod tests;
