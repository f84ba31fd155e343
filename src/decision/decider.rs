//! Which surprises become alarms: a rate, a budget or a threshold, corrected by what was spent. Time is the events' own.

use serde::{Deserialize, Serialize};

use super::score;

/// When a scored event becomes an alarm: the `[decision]` table of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum DecisionSpec {
    /// So many alarms per so much event time, over all partitions.
    AlarmBudget { alarms: f64, per_ms: f64 },
    /// The share of ordinary events that may alarm.
    FalseAlarmRate(f64),
    /// A score, in (0, 1).
    Threshold(f64),
}

/// The decision of one partition.
///
/// A thousand past scores do not resolve the wanted p-value well, so rate and budget correct it: the p-value of the threshold is
/// multiplied by exp(gain x (earned - spent)), where alarms are earned evenly and spent by alarming. Both accounts are bounded: a quiet time saves
/// up no flood of alarms, and after an incident the silence ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decider {
    spec: DecisionSpec,
    partitions: u32,
    /// Alarms earned and not spent; negative when more were raised.
    credit: f64,
    /// The newest event time.
    now_ms: Option<i64>,
    /// Events and milliseconds so far, both fading by [`RATE_MEMORY_MS`].
    events: f64,
    elapsed_ms: f64,
}

impl Decider {
    /// `partitions` share a budget equally.
    ///
    /// # Panics
    /// When `partitions` is 0.
    #[must_use]
    pub fn new(spec: DecisionSpec, partitions: u32) -> Self {
        assert!(partitions > 0, "a decider belongs to a partition");
        Self { spec, partitions, credit: 0.0, now_ms: None, events: 0.0, elapsed_ms: 0.0 }
    }

    /// Goes on under another configuration, with the accounts as they are.
    ///
    /// # Panics
    /// When `partitions` is 0.
    pub fn reconfigure(&mut self, spec: DecisionSpec, partitions: u32) {
        assert!(partitions > 0, "a decider belongs to a partition");
        (self.spec, self.partitions) = (spec, partitions);
    }

    /// Whether the event at `time_ms` with this surprise (-log10 p) is an alarm.
    pub fn decide(&mut self, time_ms: i64, surprise: f64) -> bool {
        match self.spec {
            DecisionSpec::Threshold(threshold) => score(surprise) >= threshold,
            DecisionSpec::FalseAlarmRate(rate) => {
                let correction = (GAIN * self.credit).clamp(-CORRECTION_MAX, CORRECTION_MAX);
                let alarm = surprise > -libm::log10(rate) - correction * std::f64::consts::LOG10_E;
                self.credit = (self.credit + rate - f64::from(u8::from(alarm))).clamp(-CREDIT_MAX, CREDIT_MAX);
                alarm
            }
            DecisionSpec::AlarmBudget { alarms, per_ms } => {
                let share_per_ms = alarms / per_ms / f64::from(self.partitions);
                let passed_ms = self.pass(time_ms);
                self.credit = (self.credit + share_per_ms * passed_ms).min(BUDGET_CREDIT_MAX);
                // Nothing is known of the rate of events before time has passed.
                if self.elapsed_ms <= 0.0 {
                    return false;
                }
                let p = (share_per_ms * self.elapsed_ms / self.events).min(1.0);
                let threshold = -libm::log10(p) - GAIN * self.credit * std::f64::consts::LOG10_E;
                // However strange an incident is: what is not earned within the largest debt is not spent.
                let alarm = surprise > threshold && self.credit > 1.0 - BUDGET_DEBT_MAX;
                self.credit -= f64::from(u8::from(alarm));
                alarm
            }
        }
    }

    /// Counts an event in; how much later it is than the newest so far.
    fn pass(&mut self, time_ms: i64) -> f64 {
        let passed_ms = self.now_ms.map_or(0.0, |now_ms| time_ms.saturating_sub(now_ms).max(0) as f64);
        self.now_ms = Some(self.now_ms.map_or(time_ms, |now_ms| now_ms.max(time_ms)));
        let fade = libm::exp(-passed_ms / RATE_MEMORY_MS);
        self.events = self.events * fade + 1.0;
        self.elapsed_ms = self.elapsed_ms * fade + RATE_MEMORY_MS * (1.0 - fade);
        passed_ms
    }
}

/// One alarm too many lowers the p-value of the threshold by 40 %. When the bias of p-values moves tenfold (a new reservoir at
/// p = .001), the account moves by ln 10 / gain = 5 alarms; with a gain of .2 it was 12, too many for a tenth of a million events.
const GAIN: f64 = 0.5;

/// A false alarm rate is a promise about p-values, so its correction is limited: to a factor of 64 (ln 64). At .001, which rests on
/// the 20 largest of 1,000 scores, the uncorrected rate is off by up to 5 for long, and more for short; a limit of 2 left tenths of a
/// million events 50 % off.
const CORRECTION_MAX: f64 = 6.0 * std::f64::consts::LN_2;

/// A little more than what reaches the largest correction; after an incident, so many alarms are earned back.
const CREDIT_MAX: f64 = 10.0;

/// A budget has to hold whatever p-values are: its correction goes from e^5 down to e^-10, and where that is not enough, to silence.
const BUDGET_CREDIT_MAX: f64 = 10.0;
const BUDGET_DEBT_MAX: f64 = 20.0;

/// The rate of events is that of about the last hour.
const RATE_MEMORY_MS: f64 = 3_600_000.0;
