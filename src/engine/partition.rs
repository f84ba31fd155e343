//! One event's way: decode, window, features, strangeness, p-value, alarm; only then does anything learn from it.

use super::blueprint::Blueprint;
use super::entities::Entities;
use super::outcome::{Counters, Outcome, Prediction, Scored, Warmup};
use crate::decision::{self, Calibration, Decider, Levels};
use crate::draw::{Draw, Purpose};
use crate::event::{Event, Record};
use crate::features::FeatureVector;
use crate::learn::Globals;
use crate::model::{Encoded, Encoder, LearnsFrom, Model, Part};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The share of events sent to the label log as background samples.
const BACKGROUND_RATE: f64 = 1.0 / 32.0;
/// At most so many background samples in a second of event time.
const BACKGROUND_PER_SECOND_MAX: u32 = 10;
/// The calibration is computed anew on adoption, but at most once in so many events: it rescores its 4,000 rows.
const RECALIBRATE_EVENTS_MIN: u64 = 200;

/// What a snapshot keeps beside the entities.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) offset: i64,
    pub(super) encoder: Encoder,
    /// The models that learn from every event, in configuration order.
    pub(super) detectors: Vec<Model>,
    pub(super) calibration: Calibration,
    pub(super) decider: Decider,
    /// Of all entities together.
    pub(super) levels: Levels,
    /// Events since the calibration was last computed anew, and whether an adoption waits for it.
    pub(super) since_recalibration: u64,
    pub(super) recalibration_due: bool,
    /// The second of event time that background samples are counted in, and how many it has had.
    pub(super) background_second: i64,
    pub(super) background_sent: u32,
}

/// The engine of one partition.
#[derive(Debug)]
pub struct Partition {
    pub(super) blueprint: Arc<Blueprint>,
    topic: Arc<str>,
    partition: i32,
    draw: Draw,
    parts: Vec<Part>,
    globals: Arc<Globals>,
    pub(super) state: State,
    pub(super) entities: Entities,
    pub counters: Counters,
}

impl Partition {
    /// An engine that has seen nothing and expects `offset` first. `partitions` share the alarm budget equally.
    #[must_use]
    pub fn new(
        blueprint: Arc<Blueprint>,
        topic: &str,
        partition: i32,
        partitions: u32,
        offset: i64,
        globals: Arc<Globals>,
    ) -> Self {
        let draw = Draw::for_partition(blueprint.seed, topic, partition);
        let parts = blueprint.parts();
        // Each draws a sample of its own: their chance errors must not add up.
        let named = blueprint.models.iter().zip(&blueprint.fresh);
        let detectors = named.filter(|(_, model)| model.learns_from() == LearnsFrom::Events);
        let detectors = detectors.map(|(spec, model)| model.clone().seeded(draw.named(&spec.name))).collect();
        Self {
            state: State {
                offset,
                encoder: Encoder::new(blueprint.plan.columns(), blueprint.scope()),
                detectors,
                calibration: Calibration::new(&parts, draw),
                decider: Decider::new(blueprint.decision, partitions),
                levels: Levels::default(),
                since_recalibration: 0,
                // The first models are adopted, too: recovery from the very first offset adopts them again.
                recalibration_due: true,
                background_second: i64::MIN,
                background_sent: 0,
            },
            entities: Entities::new(blueprint.limits.entities_max),
            topic: topic.into(),
            partition,
            draw,
            parts,
            globals,
            blueprint,
            counters: Counters::default(),
        }
    }

    /// The offset expected next.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.state.offset
    }

    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    #[must_use]
    pub fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    /// The adopted models.
    #[must_use]
    pub fn globals(&self) -> &Arc<Globals> {
        &self.globals
    }

    /// The models that learn from every event, in configuration order.
    #[must_use]
    pub fn detectors(&self) -> &[Model] {
        &self.state.detectors
    }

    #[must_use]
    pub fn entities(&self) -> usize {
        self.entities.len()
    }

    /// The offset that saw `entity` last, if it is known here.
    #[must_use]
    pub fn last_seen(&self, entity: &str) -> Option<i64> {
        self.entities.get(entity).map(|(_, offset)| offset)
    }

    /// How far this partition is from its first alarm; `None` once it may raise them.
    #[must_use]
    pub fn warmup(&self) -> Option<Warmup> {
        let calibration = self.state.calibration.progress();
        if calibration.ready() {
            return None;
        }
        let (mut seen, mut needed) = (calibration.seen, calibration.needed);
        if let Some(slowest) = self.state.detectors.iter().map(Model::progress).max_by_key(|p| p.needed) {
            seen += slowest.seen.min(slowest.needed);
            needed += slowest.needed;
        }
        Some(Warmup { seen, needed })
    }

    /// Scores with `globals` from the next event on. The caller has made that known where recovery will find it.
    pub fn adopt(&mut self, globals: Arc<Globals>) {
        if self.globals.versions != globals.versions {
            // Another form says things on another scale: its p-values must not come from the earlier one's.
            self.state.since_recalibration = RECALIBRATE_EVENTS_MIN;
        }
        self.globals = globals;
        self.state.recalibration_due = true;
    }

    /// Takes in the next record. Records arrive in offset order; offsets may have holes.
    pub fn handle(&mut self, record: &Record<'_>) -> Outcome {
        assert!(record.offset >= self.state.offset, "records of a partition come in offset order");
        let blueprint = self.blueprint.clone();
        match blueprint.decoder.decode(&self.topic, self.partition, record) {
            Ok(event) => self.handle_event(record.offset, &event),
            Err(rejection) => {
                self.state.offset = record.offset + 1;
                Outcome::Rejected(rejection)
            }
        }
    }

    /// Takes in the next event, decoded elsewhere by the blueprint's decoder.
    pub fn handle_event(&mut self, offset: i64, event: &Event<'_>) -> Outcome {
        self.state.offset = offset + 1;
        let blueprint = self.blueprint.clone();
        if !blueprint.plan.selects(event) {
            return Outcome::Filtered;
        }
        if self.state.recalibration_due && self.state.since_recalibration >= RECALIBRATE_EVENTS_MIN {
            self.recalibrate();
        }
        self.state.since_recalibration += 1;

        let (kept, evicted) = self.entities.touch(&event.entity, offset);
        let observed = blueprint.plan.observe(event, &mut kept.windows, &blueprint.windows);
        self.counters.entities_evicted += u64::from(evicted);
        self.counters.late += u64::from(observed.late);
        self.counters.window_rows_merged += u64::from(observed.rows_merged);

        let x = self.state.encoder.encode_of(&kept.moments, &observed.vector);
        let strangeness = self.strangeness(&x);
        let judgement = self.state.calibration.judge(&strangeness);
        let warmup = self.warmup();
        let surprise = judgement.total.unwrap_or(0.0);
        let alarm = warmup.is_none() && self.alarm(event, surprise, &observed.vector);
        let probabilities = self.probabilities(&x);
        let contributions = alarm.then(|| self.contributions(&x, &judgement.parts));
        let scores = judgement.parts.iter().map(|part| part.map_or(0.0, decision::score)).collect();

        // From here on the event is scored: now the state may learn from it.
        let index = offset.unsigned_abs();
        self.state.calibration.learn(index, &x, &strangeness, &judgement);
        let lesson = decision::lesson(judgement.unsupervised, self.draw, index);
        if let Some(lesson) = lesson {
            for detector in &mut self.state.detectors {
                detector.learn(&x, lesson);
            }
            let forgotten = self.state.encoder.learn(&observed.vector, blueprint.limits.categories_max);
            self.counters.categories_forgotten += u64::from(forgotten);
            if blueprint.quiet.has_features() {
                let watch = &mut self.entities.kept_mut(&event.entity).watch;
                blueprint.quiet.learn(watch, &mut self.state.levels, &observed.vector.numbers);
            }
        } else {
            self.counters.held_back += 1;
        }
        if self.state.encoder.reads_entities() {
            let moments = &mut self.entities.kept_mut(&event.entity).moments;
            self.state.encoder.learn_entity(moments, &observed.vector, lesson.is_none());
        }
        let background = self.sample_background(index, event.time_ms);

        Outcome::Scored(Box::new(Scored {
            offset,
            event_id: event.id.clone().into_owned(),
            time_ms: event.time_ms,
            entity: event.entity.clone().into_owned(),
            alarm,
            prediction: Prediction {
                surprise,
                warmup,
                model_version: self.globals.version,
                scores,
                probabilities,
                features: observed.vector,
                contributions,
            },
            background,
        }))
    }

    /// Scores an event without learning and without moving a window. `None`: the query's WHERE leaves it out.
    #[must_use]
    pub fn predict(&self, event: &Event<'_>) -> Option<Prediction> {
        if !self.blueprint.plan.selects(event) {
            return None;
        }
        let kept = self.entities.get(&event.entity).map(|(kept, _)| kept);
        let features = self.blueprint.plan.peek(event, kept.map(|kept| &kept.windows), &self.blueprint.windows);
        let x = match kept {
            Some(kept) => self.state.encoder.encode_of(&kept.moments, &features),
            None => self.state.encoder.encode(&features),
        };
        Some(self.predict_encoded(features, &x))
    }

    /// Scores a feature vector given by its values, as of an entity that has not been seen yet.
    #[must_use]
    pub fn predict_features(&self, features: FeatureVector) -> Prediction {
        let x = self.state.encoder.encode(&features);
        self.predict_encoded(features, &x)
    }

    fn predict_encoded(&self, features: FeatureVector, x: &Encoded) -> Prediction {
        let judgement = self.state.calibration.judge(&self.strangeness(x));
        let warmup = self.warmup();
        Prediction {
            surprise: judgement.total.unwrap_or(0.0),
            warmup,
            model_version: self.globals.version,
            scores: judgement.parts.iter().map(|part| part.map_or(0.0, decision::score)).collect(),
            probabilities: self.probabilities(x),
            contributions: Some(self.contributions(x, &judgement.parts)),
            features,
        }
    }

    /// The models in configuration order: each is this partition's own or one of the adopted.
    fn models(&self) -> impl Iterator<Item = &Model> {
        models(&self.parts, &self.state.detectors, &self.globals.models)
    }

    pub(super) fn strangeness(&self, x: &Encoded) -> Vec<Option<f64>> {
        strangeness(self.models(), x)
    }

    fn probabilities(&self, x: &Encoded) -> Vec<Option<f64>> {
        self.models().map(|model| model.probability(x)).collect()
    }

    /// Contributions of the columns to the strangeness of the model with the largest surprise.
    fn contributions(&self, x: &Encoded, parts: &[Option<f64>]) -> Vec<(usize, f64)> {
        let loudest = self.models().zip(parts).filter_map(|(model, part)| part.map(|part| (model, part)));
        let loudest = loudest.max_by(|a, b| a.1.total_cmp(&b.1));
        loudest.map_or_else(Vec::new, |(model, _)| model.contributions(x))
    }

    /// New strangeness for every row of the calibration, by the adopted models.
    pub(super) fn recalibrate(&mut self) {
        let Globals { shares, models, .. } = &*self.globals;
        self.state.calibration.adopt(shares, |x| strangeness(models.iter(), x));
        self.state.recalibration_due = false;
        self.state.since_recalibration = 0;
    }

    fn sample_background(&mut self, index: u64, time_ms: i64) -> bool {
        let second = time_ms.div_euclid(1_000);
        if second > self.state.background_second {
            self.state.background_second = second;
            self.state.background_sent = 0;
        }
        // Where no model learns from labels, nobody needs the samples.
        let chosen = self.parts.iter().any(|part| part.learns_from == LearnsFrom::Labels)
            && self.state.background_sent < BACKGROUND_PER_SECOND_MAX
            && self.draw.chance(Purpose::Background, index, BACKGROUND_RATE);
        self.state.background_sent += u32::from(chosen);
        chosen
    }
}

fn models<'a>(parts: &[Part], detectors: &'a [Model], globals: &'a [Model]) -> impl Iterator<Item = &'a Model> {
    let (mut detectors, mut globals) = (detectors.iter(), globals.iter());
    parts.iter().map(move |part| {
        let model = match part.learns_from {
            LearnsFrom::Events => detectors.next(),
            LearnsFrom::Labels => globals.next(),
        };
        model.expect("every part has its model: both lists were built from the same configuration")
    })
}

fn strangeness<'a>(models: impl Iterator<Item = &'a Model>, x: &Encoded) -> Vec<Option<f64>> {
    models.map(|model| model.votes().then(|| model.strangeness(x))).collect()
}
