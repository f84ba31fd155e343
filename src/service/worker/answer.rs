//! What a worker answers: scores on request, and how far its partitions are.

use super::{Owned, Worker};
use crate::event::Record;
use crate::model::Model;
use crate::service::shared::{Described, DescribedDetector, Predicted, Query};

impl Worker<'_> {
    pub(super) fn predict(&self, queries: &[Query]) -> Vec<Predicted> {
        let Some((&lowest, _)) = self.owned.first_key_value() else { return Vec::new() };
        queries.iter().map(|query| self.predict_one(query, lowest)).collect()
    }

    pub(super) fn describe(&self) -> Vec<Described> {
        self.owned.values().map(describe).collect()
    }

    fn predict_one(&self, query: &Query, lowest: i32) -> Predicted {
        let shared = self.shared;
        let refused = |rejection| Predicted { partition: lowest, last_seen: None, prediction: Err(rejection) };
        match query {
            Query::Features(features) => {
                let prediction = self.owned[&lowest].engine.predict_features(features.clone());
                Predicted { partition: lowest, last_seen: None, prediction: Ok(Some(prediction)) }
            }
            Query::Event(payload) => {
                let timestamp_ms = crate::telemetry::now_ms();
                let record = Record { offset: 0, timestamp_ms, key: None, payload: Some(payload) };
                let event = match shared.blueprint.decoder.decode(&shared.topic, lowest, &record) {
                    Ok(event) => event,
                    Err(rejection) => return refused(rejection),
                };
                let seen = |(&partition, owned): (&i32, &Owned)| {
                    owned.engine.last_seen(&event.entity).map(|seen| (seen, partition))
                };
                let last = self.owned.iter().filter_map(seen).max();
                let partition = last.map_or(lowest, |(_, partition)| partition);
                let prediction = self.owned[&partition].engine.predict(&event);
                Predicted { partition, last_seen: last.map(|(seen, _)| seen), prediction: Ok(prediction) }
            }
        }
    }
}

fn describe(owned: &Owned) -> Described {
    let engine = &owned.engine;
    let detector = |model: &Model| DescribedDetector { progress: model.progress(), parameters: model.parameters() };
    Described {
        partition: engine.partition(),
        offset: engine.offset(),
        model_version: engine.globals().version,
        learners_voting: engine.globals().models.iter().map(Model::votes).collect(),
        detectors: engine.detectors().iter().map(detector).collect(),
    }
}
