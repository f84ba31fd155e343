//! Records on their way from the poll thread to their owner: many in one buffer.

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, OwnedHeaders};
use std::ops::Range;

/// One record of a batch; its bytes are ranges of `Batch::bytes`.
#[derive(Debug)]
pub struct RecordMeta {
    pub partition: i32,
    pub offset: i64,
    /// Negative when the record has none, as those of the message format before 0.10.
    pub timestamp_ms: i64,
    key: Option<Range<usize>>,
    payload: Option<Range<usize>>,
    pub headers: Option<OwnedHeaders>,
}

/// Records for one owner, in order, in one buffer.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    pub records: Vec<RecordMeta>,
}

impl Batch {
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) {
        let mut copy = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(bytes);
                start..self.bytes.len()
            })
        };
        let (key, payload) = (copy(message.key()), copy(message.payload()));
        self.records.push(RecordMeta {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            key,
            payload,
            headers: message.headers().map(|headers| headers.detach()),
        });
    }

    /// An empty batch with room for as much, so that filling it copies nothing twice.
    pub(super) fn like(&self) -> Self {
        Self { bytes: Vec::with_capacity(self.bytes.len()), records: Vec::with_capacity(self.records.len()) }
    }

    /// Of all keys and payloads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub fn key(&self, record: &RecordMeta) -> Option<&[u8]> {
        record.key.clone().map(|range| &self.bytes[range])
    }

    #[must_use]
    pub fn payload(&self, record: &RecordMeta) -> Option<&[u8]> {
        record.payload.clone().map(|range| &self.bytes[range])
    }
}
