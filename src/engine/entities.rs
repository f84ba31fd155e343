//! What a partition keeps of its entities, bounded: the entity not seen for longest goes first.

use crate::decision::Watch;
use crate::features::Windows;
use crate::model::EntityMoments;
use foldhash::fast::FixedState;
use hashlink::LinkedHashMap;
use serde::{Deserialize, Serialize};

/// What is kept of one entity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) windows: Windows,
    pub(super) watch: Watch,
    /// Empty where no model's scope is the entity.
    pub(super) moments: EntityMoments,
}

#[derive(Debug, Default)]
struct Entity {
    kept: Kept,
    last_seen: i64,
    /// Changed since the last snapshot.
    dirty: bool,
}

/// What is kept by entity, in the order in which the entities were last seen.
#[derive(Debug)]
pub(super) struct Entities {
    by_name: LinkedHashMap<Box<str>, Entity, FixedState>,
    dirty: Vec<Box<str>>,
    /// Evicted since the last snapshot, where that snapshot may know them.
    gone: Vec<Box<str>>,
    max: usize,
}

/// One entity of a snapshot: its name, the offset that saw it last, and what is kept of it (`None`: forgotten).
pub(super) type Saved = (Box<str>, i64, Option<Kept>);

impl Entities {
    pub(super) fn new(max: usize) -> Self {
        Self { by_name: LinkedHashMap::with_hasher(FixedState::default()), dirty: Vec::new(), gone: Vec::new(), max }
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<(&Kept, i64)> {
        self.by_name.get(name).map(|entity| (&entity.kept, entity.last_seen))
    }

    /// What is kept of `name`, for the event that has just [touched](Self::touch) it.
    pub(super) fn kept_mut(&mut self, name: &str) -> &mut Kept {
        let entity = self.by_name.get_mut(name).expect("the event has touched its entity");
        assert!(entity.dirty, "what changes is in the next snapshot");
        &mut entity.kept
    }

    /// What is kept of `name`, which is seen at `offset`. True when another entity had to go for it.
    pub(super) fn touch(&mut self, name: &str, offset: i64) -> (&mut Kept, bool) {
        let mut evicted = false;
        if let Some(entity) = self.by_name.to_back(name) {
            entity.last_seen = offset;
            if !entity.dirty {
                entity.dirty = true;
                self.dirty.push(name.into());
            }
        } else {
            if self.by_name.len() >= self.max
                && let Some((oldest, _)) = self.by_name.pop_front()
            {
                self.gone.push(oldest);
                evicted = true;
            }
            self.by_name.insert(name.into(), Entity { kept: Kept::default(), last_seen: offset, dirty: true });
            self.dirty.push(name.into());
        }
        let entity = self.by_name.get_mut(name).expect("it was there or has just been put there");
        (&mut entity.kept, evicted)
    }

    /// What changed since the last call.
    pub(super) fn changes(&mut self) -> Vec<Saved> {
        let mut changes = Vec::with_capacity(self.dirty.len() + self.gone.len());
        for name in self.gone.drain(..) {
            if !self.by_name.contains_key(&name) {
                changes.push((name, 0, None));
            }
        }
        for name in self.dirty.drain(..) {
            if let Some(entity) = self.by_name.get_mut(&name)
                && entity.dirty
            {
                entity.dirty = false;
                changes.push((name, entity.last_seen, Some(entity.kept.clone())));
            }
        }
        changes
    }

    /// Where no snapshot will ask what changed: nothing is remembered of it.
    pub(super) fn forget_changes(&mut self) {
        self.dirty.clear();
        self.gone.clear();
    }

    /// Takes up entities saved earlier; they come in the order in which they were last seen.
    pub(super) fn restore(&mut self, name: Box<str>, last_seen: i64, kept: Kept) {
        self.by_name.insert(name, Entity { kept, last_seen, dirty: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entity_not_seen_for_longest_goes_first_and_the_snapshot_says_so() {
        let mut entities = Entities::new(2);
        assert!(!entities.touch("a", 0).1);
        assert!(!entities.touch("b", 1).1);
        assert_eq!(entities.changes().len(), 2);
        assert!(!entities.touch("a", 2).1);
        assert!(entities.touch("c", 3).1);
        assert!(entities.get("b").is_none() && entities.get("a").is_some());
        let changes: Vec<_> =
            entities.changes().into_iter().map(|(name, seen, kept)| (name, seen, kept.is_some())).collect();
        assert_eq!(changes, [("b".into(), 0, false), ("a".into(), 2, true), ("c".into(), 3, true)]);
        assert!(entities.changes().is_empty());
    }
}
