//! The shop's requests, paced, onto the events topic. What is true of each goes to the follower alone.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::{Counts, ended};
use crate::kafka::{self, Client, Outbox, Produced};
use crate::service::Shared;
use crate::shop::{START_MS, Shop};
use crate::telemetry;

/// Events a second: two cores run all of the demo at this pace and have some time left for whoever looks around.
const EVENTS_PER_SECOND: f64 = 4_000.0;
const STEP: Duration = Duration::from_millis(20);
/// Events sent and not scored, at most: far fewer than the 5 MiB a partition that the embedded broker keeps.
const BACKLOG_MAX: u64 = 16_000;

/// What is true of one event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truth {
    pub(super) request_id: u64,
    /// Its place in the traffic, from 0.
    pub(super) index: u64,
    pub(super) incident: Option<u64>,
}

pub(super) struct Traffic {
    sender: kafka::Sender,
    shared: Arc<Shared>,
    counts: Arc<Counts>,
    truth: Sender<Truth>,
    seed: u64,
}

impl Traffic {
    pub(super) fn open(
        client: &Client,
        shared: &Arc<Shared>,
        counts: Arc<Counts>,
        truth: Sender<Truth>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        Ok(Self { sender: Outbox::open(client)?.sender(), shared: shared.clone(), counts, truth, seed })
    }

    /// Sends until `ends` is closed, and waits for Kafka to have it all.
    pub(super) fn run(mut self, ends: &Receiver<()>) -> anyhow::Result<()> {
        let topic = self.shared.config.kafka.events.clone();
        let mut events = Shop::new(self.seed, START_MS).events().zip(0..);
        let mut line = Vec::with_capacity(512);
        let (mut sent, mut due) = (0, 0.0);
        let mut last = telemetry::stopwatch();
        while !ended(ends, STEP) {
            let now = telemetry::stopwatch();
            due += (now - last).as_secs_f64() * EVENTS_PER_SECOND;
            last = now;
            let through = self.shared.metrics.scored() + self.shared.metrics.dead_letters();
            // A machine that cannot keep up sets the pace: what was not sent in time is not made up for.
            let room = BACKLOG_MAX.saturating_sub(sent - through.min(sent)) as f64;
            due = due.min(room);
            let timestamp_ms = telemetry::now_ms();
            for (event, index) in events.by_ref().take(due as usize) {
                line.clear();
                event.write_json(&mut line);
                let incident = event.incident.map(|(id, _)| id);
                // Before the event, so that the follower never has a score without its truth; it may have ended already.
                self.truth.send(Truth { request_id: event.request_id, index, incident }).ok();
                self.sender.send(Produced {
                    topic: &topic,
                    key: Some(event.host.as_bytes()),
                    payload: Some(&line),
                    timestamp_ms,
                    headers: None,
                })?;
                sent += 1;
                due -= 1.0;
            }
            self.counts.sent.store(sent, Relaxed);
        }
        self.sender.close().wait(|| self.shared.given_up())
    }
}
