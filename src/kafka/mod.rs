//! Everything that speaks to Kafka: the source of events, the outbox, the logs, the topics.

mod client;
mod embedded;
mod log;
mod outbox;
mod source;
mod topics;

pub use client::Client;
pub use embedded::EmbeddedBroker;
pub use log::{LogReader, LogRecord};
pub use outbox::{Outbox, Produced, Sender, Ticket};
pub use source::{Batch, Handover, Position, RecordMeta, Source, SourceEvent};
pub use topics::{TopicIssue, Topics};
