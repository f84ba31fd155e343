//! Whether a strange event goes to a person: what stays quiet is asked here, and costs the budget nothing.

use super::partition::Partition;
use crate::event::Event;
use crate::features::FeatureVector;

impl Partition {
    /// Whether the event, out of warm-up, is an alarm. Its scores and what is learned from it do not depend on the answer.
    pub(super) fn alarm(&mut self, event: &Event<'_>, surprise: f64, features: &FeatureVector) -> bool {
        self.state.decider.advance(event.time_ms);
        let strange = self.state.decider.alarms(surprise);
        let alarm = strange && !self.stays_quiet(event, surprise, features);
        self.state.decider.settle(strange, alarm);
        if alarm {
            self.entities.kept_mut(&event.entity).watch.raised(event.time_ms, surprise);
        }
        alarm
    }

    fn stays_quiet(&mut self, event: &Event<'_>, surprise: f64, features: &FeatureVector) -> bool {
        let rules = &self.blueprint.quiet;
        let Some((kept, _)) = self.entities.get(&event.entity) else { return false };
        if rules.is_said(&kept.watch, event.time_ms, surprise) {
            self.counters.alarms_in_open += 1;
            return true;
        }
        let Some(numbers) = rules.without_quieted(&kept.watch, &self.state.levels, &features.numbers) else {
            return false;
        };
        let without = FeatureVector { numbers, categories: features.categories.clone() };
        let strangeness = self.strangeness(&self.state.encoder.encode_of(&kept.moments, &without));
        let without_quieted = self.state.calibration.judge(&strangeness).total.unwrap_or(0.0);
        let quiet = !self.state.decider.alarms(without_quieted);
        self.counters.alarms_quieted += u64::from(quiet);
        quiet
    }
}
