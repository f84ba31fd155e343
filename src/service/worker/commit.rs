//! What a worker has reached goes to the committer; newer models are adopted with it.

use super::Worker;
use crate::engine::Partition;
use crate::service::committer::Request;
use crate::service::shared::lock;
use crate::store::{PartitionCommit, Snapshot};
use anyhow::anyhow;
use crossbeam_channel::bounded;

impl Worker<'_> {
    /// Sends what has been reached to the committer. Adopts newer models where there are some: then it waits until that is
    /// stored, for what follows is scored with them, and recovery must know.
    pub(super) fn commit(&mut self, with_snapshot: bool) -> anyhow::Result<()> {
        self.settle()?;
        let shared = self.shared;
        let newest = shared.globals.load_full();
        let mut parts = Vec::new();
        let mut adopting = Vec::new();
        for (&partition, owned) in &mut self.owned {
            shared.metrics.tally(partition, &mut owned.tally, &owned.engine);
            // While the silent run catches up, there is nothing new to say.
            if owned.engine.offset() < owned.scored_through || !owned.adoptions.is_empty() {
                continue;
            }
            let has = owned.engine.globals();
            let adopt = newest.labels_folded != has.labels_folded || (with_snapshot && newest.version != has.version);
            let next_offset = owned.engine.offset();
            if next_offset == owned.committed && !adopt && !with_snapshot {
                continue;
            }
            let rows_last = owned.rows.len(); // as many as that will come again: no growing by copies
            let snapshot = with_snapshot.then(|| snapshot(&mut owned.engine));
            parts.push(PartitionCommit {
                topic: shared.topic.clone(),
                partition,
                expected_offset: Some(owned.committed),
                next_offset,
                rows: std::mem::replace(&mut owned.rows, Vec::with_capacity(rows_last)),
                adoption: adopt.then_some(newest.version),
                snapshot,
            });
            owned.committed = next_offset;
            if adopt {
                adopting.push(partition);
            }
            lock(&shared.status).partitions.insert(partition, next_offset);
        }
        self.rows = 0;
        if parts.is_empty() {
            return Ok(());
        }
        self.send(parts)?;
        if with_snapshot || !adopting.is_empty() {
            self.settle()?;
            let mut adopted = lock(&shared.adopted);
            for (partition, owned) in &mut self.owned {
                let versions = adopted.entry(*partition).or_default();
                if adopting.contains(partition) {
                    owned.engine.adopt(newest.clone());
                    versions.push(newest.clone());
                }
                if with_snapshot && versions.len() > 1 && owned.adoptions.is_empty() {
                    versions.drain(..versions.len() - 1);
                }
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, parts: Vec<PartitionCommit>) -> anyhow::Result<()> {
        let (done, pending) = bounded(1);
        let request = Request { parts, labels: Default::default(), ticket: Some(self.outbox.close()), done };
        self.commits.send(request).map_err(|_| anyhow!("the committer has stopped"))?;
        self.pending = Some(pending);
        Ok(())
    }

    /// Waits for the commit on its way.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        self.shared.wait_stored(&pending)
    }
}

pub(super) fn snapshot(engine: &mut Partition) -> Snapshot {
    let snapshot = engine.snapshot();
    Snapshot {
        offset: snapshot.offset,
        plan_hash: snapshot.plan_hash,
        parts: vec![("engine".into(), snapshot.state)],
        entities: snapshot.entities,
    }
}
