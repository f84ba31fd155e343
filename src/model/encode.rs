//! Feature vector -> what models compute on. Hashing is the same everywhere; how rare a category is, each partition learns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Scope;
use super::entity::{EntityMoments, Population};
use crate::features::{Column, ColumnKind, FeatureVector};

/// The bucket of a missing category: it has no weight and moves none.
pub const BUCKET_MISSING: u32 = u32::MAX;

/// How many buckets `column=value` is hashed into, unless [`Hashing::with_buckets`] says otherwise.
pub const BUCKETS: u32 = 1024;

/// Distinct values counted per category column and partition. When there are more, all counts are halved and the rarest forgotten.
pub const CATEGORIES_MAX: usize = 4_096;

/// Values counted per column before all counts are halved: the memory is 100,000 to 200,000 events.
const COUNTED_MAX: u64 = 200_000;

/// One event as the models see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Encoded {
    /// One per numeric column, in the plan's order; then one per category column: its rarity, -ln of the value's smoothed frequency in
    /// this partition; then, where a model's scope is the entity, one per numeric column again: the deviation from what is usual for its
    /// entity. NaN is missing. Only the numbers are there where there is no partition: global models read no others.
    pub values: Vec<f64>,
    /// One per category column: the bucket of `column=value`, or [`BUCKET_MISSING`].
    pub buckets: Vec<u32>,
}

/// The stateless half of the encoding: the same numbers and buckets on every instance and for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hashing {
    /// One per category column: the hash of its name.
    seeds: Vec<u64>,
    buckets: u32,
}

impl Hashing {
    #[must_use]
    pub fn new(columns: &[Column]) -> Self {
        Self::with_buckets(columns, BUCKETS)
    }

    /// # Panics
    /// When `buckets` is 0.
    #[must_use]
    pub fn with_buckets(columns: &[Column], buckets: u32) -> Self {
        assert!(buckets > 0, "a category needs a bucket to fall into");
        let categories = columns.iter().filter(|column| column.kind == ColumnKind::Category);
        Self { seeds: categories.map(|column| xxh3_64_with_seed(column.name.as_bytes(), 0)).collect(), buckets }
    }

    /// The encoding without rarities, for models that belong to no partition.
    ///
    /// # Panics
    /// When `features` has another number of categories than the plan.
    #[must_use]
    pub fn encode(&self, features: &FeatureVector) -> Encoded {
        assert_eq!(features.categories.len(), self.seeds.len(), "features and columns come from one plan");
        let buckets = self.seeds.iter().zip(&features.categories).map(|(seed, value)| match value {
            Some(value) => (xxh3_64_with_seed(value.as_bytes(), *seed) % u64::from(self.buckets)) as u32,
            None => BUCKET_MISSING,
        });
        Encoded { values: features.numbers.to_vec(), buckets: buckets.collect() }
    }
}

/// The encoding of one partition: [`Hashing`], how often each category has come, and what is usual for each number of all entities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    hashing: Hashing,
    frequencies: Vec<Frequencies>,
    /// One per numeric column where a model's scope is the entity, else none.
    populations: Vec<Population>,
}

impl Encoder {
    #[must_use]
    pub fn new(columns: &[Column], scope: Scope) -> Self {
        let hashing = Hashing::new(columns);
        let numbers = columns.iter().filter(|column| column.kind == ColumnKind::Number).count();
        let populations = vec![Population::default(); if scope == Scope::Entity { numbers } else { 0 }];
        Self { frequencies: vec![Frequencies::default(); hashing.seeds.len()], hashing, populations }
    }

    /// An event of an entity that has not been seen yet.
    ///
    /// # Panics
    /// When `features` has another number of categories than the plan.
    #[must_use]
    pub fn encode(&self, features: &FeatureVector) -> Encoded {
        self.encode_of(&EntityMoments::default(), features)
    }

    /// An event of an entity with this history.
    ///
    /// # Panics
    /// When `features` has another number of categories than the plan.
    #[must_use]
    pub fn encode_of(&self, entity: &EntityMoments, features: &FeatureVector) -> Encoded {
        let mut encoded = self.hashing.encode(features);
        encoded.values.extend(
            (self.frequencies.iter().zip(&features.categories))
                .map(|(frequencies, value)| value.as_deref().map_or(f64::NAN, |value| frequencies.rarity(value))),
        );
        let numbers = self.populations.iter().zip(&features.numbers).enumerate();
        encoded.values.extend(numbers.map(|(i, (population, x))| entity.scaled(i, *x, population)));
        encoded
    }

    /// Whether an entity's history is read.
    #[must_use]
    pub fn reads_entities(&self) -> bool {
        !self.populations.is_empty()
    }

    /// Learns the history of the entity of an event that has been scored, `held_back` by the guard or not.
    pub fn learn_entity(&mut self, entity: &mut EntityMoments, features: &FeatureVector, held_back: bool) {
        entity.learn(&features.numbers, &mut self.populations, held_back);
    }

    /// Counts the categories of an event that has been scored. True when a column had more than `categories_max`, so that the
    /// rarest were forgotten.
    pub fn learn(&mut self, features: &FeatureVector, categories_max: usize) -> bool {
        let mut forgotten = false;
        for (frequencies, value) in self.frequencies.iter_mut().zip(&features.categories) {
            if let Some(value) = value {
                forgotten |= frequencies.learn(value, categories_max);
            }
        }
        forgotten
    }
}

/// Counts by the hash of the value: 16 bytes each, however long the text is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Frequencies {
    total: u64,
    counts: BTreeMap<u64, u64>,
}

impl Frequencies {
    /// -ln of (count + 1) / (total + distinct + 1): every value, the unseen one too, is seen once more than it was.
    fn rarity(&self, value: &str) -> f64 {
        let count = self.counts.get(&hash(value)).copied().unwrap_or(0);
        let all = self.total + self.counts.len() as u64 + 1;
        libm::log(all as f64 / (count + 1) as f64)
    }

    fn learn(&mut self, value: &str, categories_max: usize) -> bool {
        *self.counts.entry(hash(value)).or_insert(0) += 1;
        self.total += 1;
        let full = self.counts.len() > categories_max;
        while self.total > COUNTED_MAX || self.counts.len() > categories_max {
            self.counts.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
            self.total = self.counts.values().sum();
        }
        full
    }
}

fn hash(value: &str) -> u64 {
    xxh3_64_with_seed(value.as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        vec![
            column("region", ColumnKind::Category),
            column("ms", ColumnKind::Number),
            column("verb", ColumnKind::Category),
        ]
    }

    fn event(ms: f64, region: &str, verb: Option<&str>) -> FeatureVector {
        FeatureVector { numbers: [ms].into(), categories: [Some(region.into()), verb.map(Into::into)].into() }
    }

    #[test]
    fn a_rare_value_is_rarer_and_a_missing_one_is_missing() {
        let mut encoder = Encoder::new(&columns(), Scope::Partition);
        for i in 0..1000 {
            encoder.learn(&event(1.0, if i % 100 == 0 { "south" } else { "north" }, None), CATEGORIES_MAX);
        }
        let rarity = |region| encoder.encode(&event(1.0, region, None)).values[1];
        assert!(rarity("north") < 0.02 && (rarity("south") - 4.51).abs() < 0.01 && rarity("west") > 6.9);
        let missing = encoder.encode(&event(1.0, "north", None));
        assert!(missing.values[2].is_nan() && missing.buckets[1] == BUCKET_MISSING);
    }

    #[test]
    fn buckets_need_no_partition_and_tell_columns_apart() {
        let (hashing, encoder) = (Hashing::new(&columns()), Encoder::new(&columns(), Scope::Partition));
        let features = event(1.0, "get", Some("get"));
        assert_eq!(hashing.encode(&features).buckets, encoder.encode(&features).buckets);
        assert_ne!(hashing.encode(&features).buckets[0], hashing.encode(&features).buckets[1]);
        assert!(hashing.encode(&features).buckets.iter().all(|bucket| *bucket < BUCKETS));
    }

    #[test]
    fn counting_is_bounded_in_values_and_in_memory() {
        let mut encoder = Encoder::new(&columns(), Scope::Partition);
        for i in 0..300_000 {
            let value = if i % 2 == 0 { "often".to_owned() } else { i.to_string() };
            encoder.learn(&event(1.0, &value, Some("get")), CATEGORIES_MAX);
        }
        assert!(encoder.frequencies.iter().all(|f| f.counts.len() <= CATEGORIES_MAX && f.total <= COUNTED_MAX));
        assert!(encoder.encode(&event(1.0, "often", None)).values[1] < 1.0);
    }
}
