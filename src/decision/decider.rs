//! Which surprises become alarms: a rate, a budget or a threshold, corrected by what was spent. Time is the events' own.

use std::fmt;

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

impl fmt::Display for DecisionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlarmBudget { alarms, per_ms } => {
                write!(f, "{alarms} alarms per {} s of event time", per_ms / 1_000.0)
            }
            Self::FalseAlarmRate(rate) => write!(f, "p-value below {rate}"),
            Self::Threshold(threshold) => write!(f, "score of at least {threshold}"),
        }
    }
}

/// The decision of one partition.
///
/// Four thousand past scores do not resolve the wanted p-value well, and under drift they are those of another time, so rate and budget correct it
/// by their credit: alarms are earned evenly and spent by alarming. A rate multiplies the p-value of its threshold by exp(gain x credit); a
/// budget moves its threshold gently near balance and steeply far from it. Both accounts are bounded: a quiet time saves up no flood of alarms, and
/// after an incident the silence ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decider {
    spec: DecisionSpec,
    partitions: u32,
    /// Alarms earned and not spent; negative when more were raised.
    credit: f64,
    /// Alarms that a budget has earned since the start, up to the largest debt.
    earned: f64,
    /// The newest event time, or an older one when that was wrong.
    now_ms: Option<i64>,
    /// So many events were far behind it since it last moved.
    behind: u32,
    /// The newest time that was found wrong: the way back there earns nothing.
    left_ms: Option<i64>,
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
        Self {
            spec,
            partitions,
            credit: 0.0,
            earned: 0.0,
            now_ms: None,
            behind: 0,
            left_ms: None,
            events: 0.0,
            elapsed_ms: 0.0,
        }
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
        self.advance(time_ms);
        let alarm = self.alarms(surprise);
        self.settle(alarm, alarm);
        alarm
    }

    /// The next event is at `time_ms`: earns what has become due. Then [`alarms`](Self::alarms) answers for it, and
    /// [`settle`](Self::settle) closes it.
    pub fn advance(&mut self, time_ms: i64) {
        if let DecisionSpec::AlarmBudget { alarms, per_ms } = self.spec {
            let (passed_ms, paused) = self.pass(time_ms);
            let earned = alarms / per_ms / f64::from(self.partitions) * passed_ms;
            // That nothing came for a night is no reason to alarm at the first event of the morning.
            let most = if paused { self.credit.max(1.0) } else { BUDGET_CREDIT_MAX };
            self.credit = (self.credit + earned).clamp(-BUDGET_DEBT_MAX, most);
            self.earned = (self.earned + earned).min(BUDGET_DEBT_MAX);
        }
    }

    /// Whether this surprise is strange enough at the moment.
    #[must_use]
    pub fn alarms(&self, surprise: f64) -> bool {
        match self.spec {
            DecisionSpec::Threshold(threshold) => score(surprise) >= threshold,
            DecisionSpec::FalseAlarmRate(rate) => {
                let correction = (GAIN * self.credit).clamp(-CORRECTION_MAX, CORRECTION_MAX);
                surprise > -libm::log10(rate) - correction * std::f64::consts::LOG10_E
            }
            DecisionSpec::AlarmBudget { alarms, per_ms } => {
                // Nothing is known of the rate of events before time has passed.
                if self.elapsed_ms <= 0.0 {
                    return false;
                }
                let per_event = alarms / per_ms / f64::from(self.partitions) * self.elapsed_ms / self.events;
                // However strange an incident is: what is not earned within the largest debt is not spent. At first that is one alarm, for
                // then much is new that is not strange.
                surprise > self.budget_threshold(per_event.min(1.0)) && self.credit > 1.0 - self.earned.max(1.0)
            }
        }
    }

    /// The event was `strange` enough, and has `raised` an alarm unless something kept it quiet. A quieted one costs a budget nothing. A false
    /// alarm rate it does cost: that is a promise about p-values, and other events must not alarm in its place.
    pub fn settle(&mut self, strange: bool, raised: bool) {
        let one = |is: bool| f64::from(u8::from(is));
        match self.spec {
            DecisionSpec::Threshold(_) => {}
            DecisionSpec::FalseAlarmRate(rate) => {
                self.credit = (self.credit + rate - one(strange)).clamp(-CREDIT_MAX, CREDIT_MAX);
            }
            DecisionSpec::AlarmBudget { .. } => self.credit -= one(raised),
        }
    }

    /// The surprise to exceed, when the share `p` of the events is to alarm.
    ///
    /// Within one alarm of balance it moves gently, so that the strangest events are chosen. In deeper debt it rises steeply: the last of the
    /// debt is for what is stranger by orders of magnitude. With more than one alarm overdue it falls to nothing, for then p-values are of another
    /// time, and no multiple of p is sure to find an event.
    fn budget_threshold(&self, p: f64) -> f64 {
        let nominal = -libm::log10(p);
        let gentle = BUDGET_GAIN * std::f64::consts::LOG10_E;
        if self.credit > 1.0 {
            (nominal - gentle).max(0.0) * (BUDGET_CREDIT_MAX - self.credit) / (BUDGET_CREDIT_MAX - 1.0)
        } else {
            let debt = (-1.0 - self.credit).max(0.0);
            nominal - gentle * self.credit + (BUDGET_DEBT_GAIN - BUDGET_GAIN) * std::f64::consts::LOG10_E * debt
        }
    }

    /// Counts an event in; how much later it is than the newest so far, and whether that was a pause. The rate of events is that between
    /// pauses: after a night without events the first ones are not rare.
    ///
    /// An event from far in the future, by a clock that is wrong, must not silence the budget until then: when many are far behind it, time goes on
    /// from them. The way back to where it was is no pause: what passed until then has been earned before.
    fn pass(&mut self, time_ms: i64) -> (f64, bool) {
        let now_ms = self.now_ms.unwrap_or(time_ms);
        let passed_ms = time_ms.saturating_sub(now_ms) as f64;
        self.behind = if passed_ms > 0.0 { 0 } else { self.behind + u32::from(passed_ms < -BEHIND_MS) };
        let turns_back = self.behind >= BEHIND_EVENTS;
        if turns_back {
            (self.behind, self.left_ms) = (0, self.left_ms.max(Some(now_ms)));
        }
        self.now_ms = Some(if turns_back { time_ms } else { now_ms.max(time_ms) });
        let usual_ms = if self.events > 0.0 { self.elapsed_ms / self.events } else { 0.0 };
        let paused = passed_ms > (PAUSE_SPACINGS * usual_ms).max(PAUSE_MS_MIN);
        if let Some(left_ms) = self.left_ms.filter(|left_ms| paused && now_ms < *left_ms) {
            let beyond_ms = time_ms.saturating_sub(left_ms) as f64;
            if beyond_ms >= -BEHIND_MS {
                self.count(usual_ms);
                return (beyond_ms.max(0.0), false);
            }
        }
        let passed_ms = passed_ms.max(0.0);
        self.count(if paused { usual_ms } else { passed_ms });
        (passed_ms, paused)
    }

    fn count(&mut self, passed_ms: f64) {
        let fade = libm::exp(-passed_ms / RATE_MEMORY_MS);
        self.events = self.events * fade + 1.0;
        self.elapsed_ms = self.elapsed_ms * fade + RATE_MEMORY_MS * (1.0 - fade);
    }
}

/// Of a rate: one alarm too many lowers the p-value of the threshold by 40 %. When the bias of p-values moves tenfold (a new reservoir of
/// 1,000 at p = .001), the account moves by ln 10 / gain = 5 alarms; with a gain of .2 it was 12, too many for a tenth of a million events.
const GAIN: f64 = 0.5;

/// A false alarm rate is a promise about p-values, so its correction is limited: to a factor of 64 (ln 64). At .001, by a
/// reservoir of 1,000, the uncorrected rate is off by up to 5 for long, and more for short; a limit of 2 left tenths of a
/// million events 50 % off.
const CORRECTION_MAX: f64 = 6.0 * std::f64::consts::LN_2;

/// A little more than what reaches the largest correction; after an incident, so many alarms are earned back.
const CREDIT_MAX: f64 = 10.0;

/// What a budget's account may move by bounds how far off any stretch of a stream can be: five alarms in all, so that a tenth with
/// ten to spend is within two of it unless the account goes from end to end. With 20 and 10 (and [`GAIN`] throughout), tenths of the KDD 1999
/// streams had none to 2.4 times their alarms. A debt of 3 leaves one for an incident even when chance has just spent two.
const BUDGET_CREDIT_MAX: f64 = 2.0;
const BUDGET_DEBT_MAX: f64 = 3.0;

/// Per alarm of credit, near balance and in debt. With a gain of 1 a sudden fall of all surprises left a tenth with 7 of its 10 alarms,
/// with 1.5 at least 8. Higher ones choose worse: on stationary events half of the alarms lie below .58, .62 and .71 times the nominal p-value
/// at a gain of 1, 1.5 and 2, and .5 would be best.
const BUDGET_GAIN: f64 = 1.5;
const BUDGET_DEBT_GAIN: f64 = 3.0;

/// A pause is longer than both: batches that come every hour are no pauses, nor is the way from one rare event to the next.
const PAUSE_SPACINGS: f64 = 100.0;
const PAUSE_MS_MIN: f64 = RATE_MEMORY_MS;

/// So many events, all of them so far behind the newest time, say that it was wrong. Fewer are events that come late.
const BEHIND_EVENTS: u32 = 100;
const BEHIND_MS: f64 = RATE_MEMORY_MS;

/// The rate of events is that of about the last hour.
const RATE_MEMORY_MS: f64 = 3_600_000.0;
