//! The simulated reviewer: looks at every alarm for a second and says over the HTTP API what it was; some he never answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use crossbeam_channel::{Receiver, RecvTimeoutError, after};
use serde::Deserialize;
use ureq::Agent;

use super::follower::Alarm;
use super::{Counts, ended};
use crate::draw::{Draw, Purpose};
use crate::service::Shared;
use crate::telemetry;

/// From an alarm to its label, in the demo's own time. It is about an hour of the shop's.
const DELAY: Duration = Duration::from_secs(1);
/// The share of alarms that nobody answers.
const UNANSWERED: f64 = 0.1;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Verdicts of one request, at most.
const BATCH_MAX: usize = 1_000;
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// How long he tries again where the API is busy: a refit or an upload may take both cores of a machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Answer {
    accepted: u64,
}

pub(super) struct Reviewer {
    shared: Arc<Shared>,
    agent: Agent,
    url: String,
    counts: Arc<Counts>,
    draw: Draw,
}

impl Reviewer {
    pub(super) fn new(shared: &Arc<Shared>, address: SocketAddr, counts: Arc<Counts>, seed: u64) -> Self {
        let agent = Agent::config_builder().http_status_as_error(false).timeout_global(Some(REQUEST_MAX)).build();
        let url = format!("http://{address}/v1/labels");
        Self { shared: shared.clone(), agent: agent.into(), url, counts, draw: Draw::new(seed) }
    }

    /// Labels until `ends` is closed; what he was still looking at then stays without a label.
    pub(super) fn run(self, alarms: &Receiver<Alarm>, ends: &Receiver<()>) -> anyhow::Result<()> {
        let mut desk: VecDeque<Alarm> = VecDeque::new();
        while !ended(ends, Duration::ZERO) {
            match alarms.recv_timeout(LOOK_AGAIN) {
                Ok(alarm) if !self.draw.chance(Purpose::Reviewer, alarm.request_id, UNANSWERED) => {
                    desk.push_back(alarm)
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                // Nobody raises alarms any more; what lies on the desk is still answered.
                Err(RecvTimeoutError::Disconnected) => drop(ends.recv_timeout(LOOK_AGAIN)),
            }
            let due = desk.iter().take(BATCH_MAX).take_while(|alarm| alarm.raised.elapsed() >= DELAY).count();
            // In one request what is due within a moment, not a request each.
            let first_waits = desk.front().map_or(Duration::ZERO, |alarm| alarm.raised.elapsed());
            if due > 0 && (first_waits >= DELAY + LOOK_AGAIN || alarms.is_empty()) {
                self.send(desk.drain(..due))?;
            }
        }
        Ok(())
    }

    fn send(&self, alarms: impl Iterator<Item = Alarm>) -> anyhow::Result<()> {
        let mut body = String::new();
        let mut count = 0;
        for alarm in alarms {
            let label = if alarm.anomaly { "anomaly" } else { "normal" };
            // Ids of this traffic are hexadecimal digits: nothing to escape.
            body += &format!("{{\"event_id\":\"{}\",\"label\":\"{label}\",\"who\":\"reviewer\"}}\n", alarm.event_id);
            count += 1;
        }
        let timer = telemetry::stopwatch();
        let text = loop {
            match self.post(&body) {
                Ok((202, text)) => break text,
                // A service that stops takes no labels any more.
                _ if self.shared.stopping() => return Ok(()),
                // Labels that come twice are learned once.
                Ok((503, _)) | Err(_) if timer.elapsed() < PATIENCE => drop(after(LOOK_AGAIN).recv()),
                Ok((status, text)) => bail!("the API answered {status} to labels: {text}"),
                Err(error) => return Err(error),
            }
        };
        let answer: Answer = serde_json::from_str(&text).context("that is no answer to labels")?;
        ensure!(answer.accepted == count, "the API accepted {} of {count} labels: {text}", answer.accepted);
        self.counts.labels.fetch_add(count, Relaxed);
        Ok(())
    }

    fn post(&self, body: &str) -> anyhow::Result<(u16, String)> {
        let response = self.agent.post(&self.url).content_type("application/x-ndjson").send(body.as_bytes());
        let mut response = response.context("the API took no labels")?;
        let text = response.body_mut().read_to_string().context("the API's answer broke off")?;
        Ok((response.status().as_u16(), text))
    }
}
