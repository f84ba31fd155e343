//! What the traffic promises: the same bytes, the truth's shares, every kind early, times that hardly go back.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SHOP: fn(u64) -> Shop = |seed| Shop::new(seed, START_MS);

fn bytes_of(seed: u64, n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    SHOP(seed).events().take(n).for_each(|event| event.write_json_with_truth(&mut out));
    out
}

#[test]
fn same_seed_same_bytes() {
    assert_eq!(bytes_of(1, 2_000), bytes_of(1, 2_000));
    assert_ne!(bytes_of(1, 2_000), bytes_of(2, 2_000));
    // Golden: the traffic is part of what a replay must reproduce on every machine.
    assert_eq!(xxhash_rust::xxh3::xxh3_64(&bytes_of(1, 20_000)), GOLDEN);
}

const GOLDEN: u64 = 17_657_046_474_810_037_683;

#[test]
fn an_event_is_valid_json_and_keeps_its_truth_to_itself() {
    for index in [0, 7, 50_000] {
        let event = SHOP(1).event(index);
        let json: serde_json::Value = serde_json::from_slice(&event.to_json()).unwrap();
        assert_eq!(json["latency_ms"], event.latency_ms);
        assert_eq!(json["request_id"], format!("{:016x}", event.request_id));
        assert!(json.get("anomaly").is_none() && json.get("incident").is_none() && json.get("oddity").is_none());
        let mut with_truth = Vec::new();
        event.write_json_with_truth(&mut with_truth);
        let json: serde_json::Value = serde_json::from_slice(&with_truth).unwrap();
        assert_eq!(json["anomaly"], u8::from(event.is_anomaly()));
    }
}

#[test]
fn shares_of_the_truth() {
    for seed in 1..=3 {
        let n = 250_000;
        let (mut kinds, mut oddities) = (BTreeMap::new(), BTreeMap::new());
        for event in SHOP(seed).events().take(n) {
            assert!(event.incident.is_none() || event.oddity.is_none());
            if let Some((_, kind)) = event.incident {
                *kinds.entry(kind).or_insert(0) += 1;
            }
            if let Some(oddity) = event.oddity {
                *oddities.entry(oddity).or_insert(0) += 1;
            }
        }
        let share = |counts: &[i32]| f64::from(counts.iter().sum::<i32>()) / n as f64;
        let anomalies = share(&kinds.values().copied().collect::<Vec<_>>());
        let odd = share(&oddities.values().copied().collect::<Vec<_>>());
        println!("seed {seed}: anomalies {anomalies:.4} {kinds:?}, oddities {odd:.4} {oddities:?}");
        assert!((0.005..=0.0105).contains(&anomalies), "seed {seed}: {anomalies} {kinds:?}");
        assert!((0.005..=0.0105).contains(&odd), "seed {seed}: {odd} {oddities:?}");
        assert_eq!((kinds.len(), oddities.len()), (5, 4));
        assert!(kinds.values().all(|&count| f64::from(count) > 0.03 * anomalies * n as f64), "{kinds:?}");
    }
}

#[test]
fn every_kind_of_incident_is_early() {
    for seed in 1..=20 {
        let kinds: BTreeSet<_> = SHOP(seed).events().take(60_000).filter_map(|event| event.incident).collect();
        let kinds: BTreeSet<_> = kinds.into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds.len(), 5, "seed {seed}: {kinds:?}");
    }
}

#[test]
fn incidents_hold_what_they_say() {
    let shop = SHOP(1);
    let events: Vec<_> = shop.events().take(60_000).collect();
    let incidents: Vec<_> = shop.incidents_until(events[59_999].time_ms).collect();
    assert!((12..=20).contains(&incidents.len()), "{}", incidents.len());
    for event in &events {
        let Some((id, kind)) = event.incident else { continue };
        let incident = incidents[id as usize];
        assert_eq!(incident.kind, kind);
        assert!((incident.start_ms - 20_000..incident.end_ms).contains(&event.time_ms));
        assert_eq!(event.service, SERVICES[incident.service].name);
        if let Some(host) = incident.host {
            assert_eq!(event.host, SERVICES[incident.service].hosts[host]);
        }
    }
}

#[test]
fn times_grow_but_for_a_little_disorder() {
    let (mut newest, mut behind, mut late) = (i64::MIN, 0, 0);
    for event in SHOP(1).events().take(100_000) {
        if event.time_ms < newest {
            behind += 1;
            late = late.max(newest - event.time_ms);
        }
        newest = newest.max(event.time_ms);
    }
    assert!(behind > 1_000, "no disorder to speak of: {behind}");
    assert!(late < 30_000, "later than half of the default lateness: {late} ms");
}

#[test]
fn ids_and_hosts() {
    let events: Vec<_> = SHOP(1).events().take(100_000).collect();
    assert_eq!(events.iter().map(|event| event.request_id).collect::<BTreeSet<_>>().len(), events.len());
    assert_eq!(events.iter().map(|event| event.host).collect::<BTreeSet<_>>().len(), 40);
}

#[test]
fn the_day_has_a_rhythm() {
    let mut hours = [0; 24];
    for event in SHOP(1).events().take(207_360) {
        hours[((event.time_ms / 3_600_000) % 24) as usize] += 1;
    }
    let (least, most) = (hours.iter().min().unwrap(), hours.iter().max().unwrap());
    assert!(most > &(2 * least), "{hours:?}");
    assert!(hours[4] + hours[5] < hours[16] + hours[17], "{hours:?}");
}
