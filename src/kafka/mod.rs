//! Everything that speaks to Kafka: the source of events, the outbox, the logs, the topics.

mod batch;
mod client;
mod embedded;
mod handover;
mod log;
mod outbox;
mod rebalance;
mod source;
mod topics;

pub use batch::{Batch, RecordMeta};
pub use client::Client;
pub use embedded::EmbeddedBroker;
pub use handover::{Handover, Position, SourceEvent};
pub use log::{LogReader, LogRecord};
pub use outbox::{Outbox, Produced, Sender, Ticket};
pub use source::Source;
pub use topics::{TopicIssue, Topics};
