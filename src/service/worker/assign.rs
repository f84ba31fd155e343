//! A partition comes to its worker, recovered or new, and goes again.

use super::commit::snapshot;
use super::{Owned, Worker};
use crate::draw::Draw;
use crate::engine::Partition;
use crate::service::shared::lock;
use crate::store::{PartitionCommit, Recovered};
use crate::telemetry::Tally;
use anyhow::Context;
use std::collections::VecDeque;

impl Worker<'_> {
    pub(super) fn assigned(&mut self, partition: i32, partitions: u32, offset: i64) -> anyhow::Result<()> {
        let shared = self.shared;
        let plan_hash = shared.blueprint.state_hash();
        let recovered = shared.store.read(|reader| reader.load(&shared.topic, partition, plan_hash))?;
        let keep = Draw::for_partition(shared.config.seed, &shared.topic, partition);
        let blueprint = shared.blueprint.clone();
        let owned = match recovered {
            Some(Recovered { snapshot_offset: Some(snapshot_offset), scored_through, parts, entities, adoptions }) => {
                let state = parts.into_iter().next().map(|(_, bytes)| bytes).unwrap_or_default();
                let mut adoptions = adoptions
                    .into_iter()
                    .map(|(from, version)| Ok((from, shared.version(partition, version)?)))
                    .collect::<anyhow::Result<VecDeque<_>>>()?;
                let first = adoptions
                    .front()
                    .with_context(|| format!("partition {partition} has a snapshot but no adoption"))?;
                let globals = first.1.clone();
                // An adoption below the snapshot's offset is part of its state; one at the offset comes right after it.
                if first.0 < snapshot_offset {
                    adoptions.pop_front();
                }
                let engine =
                    Partition::restore(blueprint, &shared.topic, partition, partitions, globals, &state, entities)?;
                tracing::info!(partition, snapshot_offset, scored_through, "partition state restored");
                Owned {
                    engine,
                    keep,
                    committed: scored_through,
                    scored_through,
                    adoptions,
                    rows: Vec::new(),
                    tally: Tally::default(),
                }
            }
            other => {
                let known = other.map(|recovered| recovered.scored_through);
                let offset = known.map_or(offset, |through| through.max(offset));
                if known.is_some() {
                    tracing::warn!(
                        partition,
                        offset,
                        "the feature query, the models or the shape of the state have changed: windows and detectors warm up anew"
                    );
                }
                let globals = shared.globals.load_full();
                let engine = Partition::new(blueprint, &shared.topic, partition, partitions, offset, globals.clone());
                let mut owned = Owned {
                    engine,
                    keep,
                    committed: offset,
                    scored_through: offset,
                    adoptions: VecDeque::new(),
                    rows: Vec::new(),
                    tally: Tally::default(),
                };
                // The start itself is committed, or a crash before the first snapshot would start from elsewhere.
                let part = PartitionCommit {
                    topic: shared.topic.clone(),
                    partition,
                    expected_offset: known,
                    next_offset: offset,
                    rows: Vec::new(),
                    adoption: Some(globals.version),
                    snapshot: Some(snapshot(&mut owned.engine)),
                };
                lock(&shared.adopted).insert(partition, vec![globals]);
                self.send(vec![part])?;
                self.settle()?;
                owned
            }
        };
        self.owned.insert(partition, owned);
        let mut status = lock(&shared.status);
        status.partitions.insert(partition, offset);
        status.assigned_once = true;
        Ok(())
    }

    pub(super) fn revoked(&mut self, partition: i32) -> anyhow::Result<()> {
        self.commit(true)?;
        self.settle()?;
        self.owned.remove(&partition);
        lock(&self.shared.status).partitions.remove(&partition);
        Ok(())
    }
}
