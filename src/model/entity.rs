//! What is usual for the numbers of one entity: the history that `scope = "entity"` measures an event by.

use serde::{Deserialize, Serialize};

use super::moments::Moments;

/// Events over which an entity's history runs.
const MEMORY: u32 = 1_000;
/// So many events of an entity count as much for its variance as those of all others.
const SHRINKAGE: f64 = 10.0;
/// How many deviations of a value are learned at most: of an ordinary one, and of one that the guard holds back. At three a variance grows by
/// less than one percent an event, so that an incident does not hide itself, and a change that stays is learned within some thousand events.
const CLIP: f64 = 10.0;
const CLIP_HELD_BACK: f64 = 3.0;

/// The moments of each numeric feature over the entity's own events; nothing before its first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EntityMoments(Box<[Moments<MEMORY>]>);

/// The same feature over the events of all entities.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Population {
    all: Moments,
    /// Of the deviations from each entity's own mean.
    within: Moments,
}

impl EntityMoments {
    /// Numeric features that an entity keeps moments of, at most. Each takes 24 bytes: together they stay below 1 KiB.
    pub const NUMBERS_MAX: usize = 40;

    /// The deviation of the `i`-th number from what is usual for the entity, in its deviations.
    pub(super) fn scaled(&self, i: usize, x: f64, population: &Population) -> f64 {
        // Missing stays missing, so that it is not learned as ordinary.
        if x.is_nan() { x } else { population.usual(self.0.get(i).copied().unwrap_or_default()).scaled(x) }
    }

    /// Learns an event, and teaches the population unless the guard has held it back. The entity itself learns from that, too: where one of many
    /// changes for good, the other events never show that it was right.
    pub(super) fn learn(&mut self, numbers: &[f64], population: &mut [Population], held_back: bool) {
        if self.0.len() != numbers.len() {
            self.0 = vec![Moments::default(); numbers.len()].into();
        }
        let present = numbers.iter().zip(&mut self.0).zip(population).filter(|((x, _), _)| !x.is_nan());
        for ((x, own), population) in present {
            let usual = population.usual(*own);
            if !held_back {
                population.learn(*x, own);
            }
            own.learn(usual.clipped_at(*x, if held_back { CLIP_HELD_BACK } else { CLIP }) - own.mean);
        }
    }
}

impl Population {
    /// What to expect of an entity with these moments: the mean and variance of its next value under a normal prior for its mean, over all
    /// entities (empirical Bayes; Efron and Morris 1975). A new entity is measured by all events. The more entities differ from each
    /// other, the sooner one is measured by its own level.
    fn usual(&self, own: Moments<MEMORY>) -> Moments<MEMORY> {
        if self.all.seen == 0.0 {
            return own;
        }
        let (all, n) = (self.all.variance, own.seen.min(f64::from(MEMORY)));
        let within = if self.within.seen > 0.0 { self.within.variance.min(all) } else { all };
        let between = all - within;
        let weight = if between > 0.0 { n * between / (n * between + within) } else { 0.0 };
        let mixed = (n * own.variance + SHRINKAGE * within) / (n + SHRINKAGE);
        Moments {
            seen: own.seen + self.all.seen,
            mean: weight * own.mean + (1.0 - weight) * self.all.mean,
            variance: mixed + (1.0 - weight) * between,
        }
    }

    fn learn(&mut self, x: f64, own: &Moments<MEMORY>) {
        self.all.learn_value(x);
        if own.seen > 0.0 {
            // A mean of n values is off by a variance's n-th part itself.
            self.within.learn_value((x - own.mean) * (own.seen / (own.seen + 1.0)).sqrt());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many entities, each at a level of its own, `apart` from the next and uniform within 1 of it; each has learned so many events.
    fn hosts(count: usize, apart: f64, events: u32) -> (Vec<EntityMoments>, Vec<Population>) {
        let (mut hosts, mut population) = (vec![EntityMoments::default(); count], vec![Population::default()]);
        for i in 0..events {
            for (host, moments) in hosts.iter_mut().enumerate() {
                moments.learn(
                    &[apart * host as f64 + f64::from((7 * i + host as u32) % 11) / 5.0],
                    &mut population,
                    false,
                );
            }
        }
        (hosts, population)
    }

    #[test]
    fn an_entity_is_measured_by_all_while_it_is_new_and_soon_by_itself() {
        let (hosts, population) = hosts(40, 10.0, 200);
        let new = EntityMoments::default();
        assert!(new.scaled(0, 391.0, &population[0]) > 1.0 && new.scaled(0, 201.0, &population[0]).abs() < 0.1);
        let of = |x| hosts[3].scaled(0, x, &population[0]);
        assert!(of(31.0).abs() < 0.2, "{}", of(31.0));
        // Ten deviations of its own, which is nothing among all.
        assert!(of(31.0 + 6.3) > 7.0, "{}", of(31.0 + 6.3));
        assert!(of(f64::NAN).is_nan());
        let mut young = EntityMoments::default();
        let mut population = population;
        (0..5).for_each(|_| young.learn(&[1_000.0], &mut population, false));
        let z = young.scaled(0, 1_000.0, &population[0]);
        assert!(z.abs() < 2.0, "five events say where it is: {z}");
    }

    #[test]
    fn entities_that_are_alike_are_measured_alike() {
        let (hosts, population) = hosts(40, 0.0, 200);
        let (own, all) = (hosts[3].scaled(0, 5.0, &population[0]), population[0].all.scaled(5.0));
        assert!((own - all).abs() < 0.3, "{own} against {all}");
    }

    #[test]
    fn a_burst_stays_strange_and_a_lasting_change_is_learned() {
        let (mut hosts, mut population) = hosts(40, 10.0, 1_000);
        let host = &mut hosts[3];
        let mut learn = |host: &mut EntityMoments, level: f64, events: u32, held_back: bool| {
            let x = |i: u32| level + f64::from(i % 11) / 5.0;
            (0..events).for_each(|i| host.learn(&[x(i)], &mut population, held_back));
            host.scaled(0, 55.0, &population[0])
        };
        let z = learn(host, 54.0, 100, true);
        assert!(z > 10.0, "after a burst of 100: {z}");
        let z = learn(host, 54.0, 3_000, true);
        assert!(z.abs() < 1.5, "and when it stays: {z}");
    }

    #[test]
    fn one_value_does_not_blind_a_history_without_variance() {
        let (mut hosts, mut population) = hosts(40, 10.0, 100);
        let host = &mut hosts[3];
        *host = EntityMoments::default();
        (0..1_000).for_each(|_| host.learn(&[30.0], &mut population, false));
        host.learn(&[1e6], &mut population, true);
        let z = host.scaled(0, 40.0, &population[0]);
        assert!(z > 10.0, "{z}");
    }
}
