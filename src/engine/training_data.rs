//! The features of labelled events that never went through Kafka: windows of their own, in the order of their file.

use super::blueprint::Blueprint;
use super::entities::Entities;
use crate::event::Event;
use crate::features::FeatureVector;
use std::sync::Arc;

/// One file of events on its way to features. It learns and scores nothing.
#[derive(Debug)]
pub struct TrainingData {
    blueprint: Arc<Blueprint>,
    entities: Entities,
    events: i64,
}

impl TrainingData {
    /// As before the first event: no entity is known.
    #[must_use]
    pub fn new(blueprint: Arc<Blueprint>) -> Self {
        let entities = Entities::new(blueprint.limits.entities_max);
        Self { blueprint, entities, events: 0 }
    }

    /// The features of the next event, the same as in a partition that sees this file alone. `None`: the query's WHERE leaves it out.
    pub fn features(&mut self, event: &Event<'_>) -> Option<FeatureVector> {
        if !self.blueprint.plan.selects(event) {
            return None;
        }
        let (kept, _) = self.entities.touch(&event.entity, self.events);
        self.events += 1;
        let observed = self.blueprint.plan.observe(event, &mut kept.windows, &self.blueprint.windows);
        self.entities.forget_changes();
        Some(observed.vector)
    }
}
