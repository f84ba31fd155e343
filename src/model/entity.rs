//! What is usual for the numbers of one entity: the history that `scope = "entity"` measures an event by.

use serde::{Deserialize, Serialize};

use super::moments::Moments;

/// Events over which an entity's history runs: it has moved on after a lasting change of so many.
const MEMORY: u32 = 1_000;

/// The moments of each numeric feature over the entity's own events; nothing before its first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EntityMoments(Box<[Moments<MEMORY>]>);

impl EntityMoments {
    /// Numeric features that an entity keeps moments of, at most. Each takes 24 bytes: together they stay below 1 KiB.
    pub const NUMBERS_MAX: usize = 40;

    /// Learns an event, held back by the guard or not: where one entity of many changes for good, the partition's other events never show
    /// that it was right. What keeps a burst from being learned is that a value counts for some deviations at most.
    pub fn learn(&mut self, numbers: &[f64]) {
        if self.0.len() != numbers.len() {
            self.0 = vec![Moments::default(); numbers.len()].into();
        }
        self.0.iter_mut().zip(numbers).for_each(|(moments, x)| moments.learn_value(*x));
    }

    /// The deviation of the `i`-th number from what is usual for the entity, in its deviations; while it is young, from what is usual for all.
    pub(super) fn scaled(&self, i: usize, x: f64, all: &Moments) -> f64 {
        // Missing stays missing, so that it is not learned as ordinary.
        if x.is_nan() { x } else { self.0.get(i).copied().unwrap_or_default().shrunk_to(all).scaled(x) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_measured_by_all_while_it_is_young_and_by_itself_later() {
        let mut all = Moments::default();
        (0..1000).for_each(|i| all.learn_value(f64::from(i % 100)));
        let mut entity = EntityMoments::default();
        assert!((entity.scaled(0, 70.0, &all) - all.scaled(70.0)).abs() < 1e-3);
        for i in 0..200 {
            entity.learn(&[10.0 + f64::from(i % 3)]);
        }
        assert!(entity.scaled(0, 11.0, &all).abs() < 0.5, "{}", entity.scaled(0, 11.0, &all));
        assert!(entity.scaled(0, 70.0, &all) > 5.0, "{}", entity.scaled(0, 70.0, &all));
        assert!(entity.scaled(0, f64::NAN, &all).is_nan());
    }

    #[test]
    fn a_lasting_change_is_learned_and_a_short_one_is_not() {
        let (all, mut entity) = (Moments::default(), EntityMoments::default());
        let learn = |entity: &mut EntityMoments, level: f64, events: u32| {
            (0..events).for_each(|i| entity.learn(&[level + f64::from(i % 3)]));
        };
        learn(&mut entity, 10.0, 2_000);
        learn(&mut entity, 50.0, 10);
        assert!(entity.scaled(0, 50.0, &all) > 5.0, "{}", entity.scaled(0, 50.0, &all));
        learn(&mut entity, 50.0, 4_000);
        assert!(entity.scaled(0, 50.0, &all).abs() < 1.5, "{}", entity.scaled(0, 50.0, &all));
    }
}
