//! A partition's state as bytes and back: what a restart continues from, bit for bit.

use super::blueprint::Blueprint;
use super::partition::{Partition, State};
use crate::learn::Globals;
use std::sync::Arc;

/// Changes with every change of the state's shape. It is part of [`Blueprint::state_hash`], so that the state of another version is
/// not found and warms up anew.
pub(super) const FORMAT: u8 = 10;

/// What changed since the last snapshot, at `offset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The first offset that the state has not seen.
    pub offset: i64,
    /// [`Blueprint::state_hash`]: another one's state cannot be restored.
    pub plan_hash: u64,
    /// Everything but the entities.
    pub state: Vec<u8>,
    /// Name, offset that saw it last, what is kept of it; without that the entity is forgotten.
    pub entities: Vec<(String, i64, Option<Vec<u8>>)>,
}

/// A saved state that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the saved state of partition {partition} is not readable ({what}); restore the store from a backup or let the partition warm up anew by deleting its state"
)]
pub struct RestoreError {
    partition: i32,
    what: String,
}

impl Partition {
    /// The state as it is, as the changes since the last call.
    pub fn snapshot(&mut self) -> Snapshot {
        let encode =
            |kept| postcard::to_stdvec(&kept).expect("an entity is plain numbers: writing them to memory cannot fail");
        let mut state = vec![FORMAT];
        state.extend(
            postcard::to_stdvec(&self.state).expect("the state is plain data: writing it to memory cannot fail"),
        );
        Snapshot {
            offset: self.offset(),
            plan_hash: self.blueprint().state_hash(),
            state,
            entities: self
                .entities
                .changes()
                .into_iter()
                .map(|(name, seen, kept)| (name.into_string(), seen, kept.map(encode)))
                .collect(),
        }
    }

    /// An engine that continues where a snapshot of the same blueprint stopped; `entities` in the order last seen.
    ///
    /// # Errors
    /// When the bytes are no state of this version.
    #[allow(clippy::too_many_arguments, reason = "what `new` takes and the two parts of a snapshot")]
    pub fn restore(
        blueprint: Arc<Blueprint>,
        topic: &str,
        partition: i32,
        partitions: u32,
        globals: Arc<Globals>,
        state: &[u8],
        entities: impl IntoIterator<Item = (String, i64, Vec<u8>)>,
    ) -> Result<Self, RestoreError> {
        let error = |what: String| RestoreError { partition, what };
        let Some((&FORMAT, state)) = state.split_first() else {
            return Err(error("it is of another format version".into()));
        };
        let state: State = postcard::from_bytes(state).map_err(|e| error(e.to_string()))?;
        let mut engine = Self::new(blueprint, topic, partition, partitions, state.offset, globals);
        engine.state = state;
        engine.state.decider.reconfigure(engine.blueprint().decision, partitions);
        for (name, seen, kept) in entities {
            let kept = postcard::from_bytes(&kept).map_err(|e| error(format!("entity {name:?}: {e}")))?;
            engine.entities.restore(name.into_boxed_str(), seen, kept);
        }
        Ok(engine)
    }
}
