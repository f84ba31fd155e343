//! What the source and the owners of partitions say to each other.

use super::batch::Batch;
use crossbeam_channel::Sender;
use std::collections::BTreeMap;

/// What an owner is told.
#[derive(Debug)]
pub enum SourceEvent {
    /// The partition is yours; its records come from `offset` on.
    Assigned {
        partition: i32,
        partitions: u32,
        offset: i64,
    },
    Records(Batch),
    /// The partition is no longer yours: commit what you have, forget it.
    Revoked {
        partition: i32,
    },
}

/// What the source asks of the service.
pub trait Handover: Send + Sync + 'static {
    /// The message that an owner's inbox takes.
    type Message: From<SourceEvent> + Send;
    /// Where to read from: the snapshot's offset, or the configured start where nothing is known yet.
    ///
    /// # Errors
    /// When the store does not answer.
    fn position(&self, partition: i32) -> anyhow::Result<Position>;
    /// All partitions of an assignment have their position.
    fn positioned(&self);
    /// The inbox of the partition's owner.
    fn owner(&self, partition: i32) -> usize;
    fn inboxes(&self) -> &[Sender<Self::Message>];
    /// An owner's inbox was full: reading waits for it.
    fn inbox_full(&self);
    /// Records that the broker had deleted before they were read.
    fn lost(&self, partition: i32, records: i64);
    /// Offsets committed to the store since the last call: told to the group, for lag tools only.
    fn committed(&self) -> BTreeMap<i32, i64>;
}

/// Where a partition is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    Offset(i64),
    Beginning,
    End,
    /// The first record at or after this time, in milliseconds since the Unix epoch.
    Time(i64),
}
