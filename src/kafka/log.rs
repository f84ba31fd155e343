//! Reads one topic from given offsets, without a group: how the joiner follows the labels and the trainer the label log.

use super::client::{Client, Logging};
use anyhow::{Context, bail};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;

const METADATA_TIMEOUT: Duration = Duration::from_secs(20);

impl ConsumerContext for Logging {}

/// One record of a log, with its bytes copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
}

/// A reader of all partitions of one topic.
pub struct LogReader {
    consumer: BaseConsumer<Logging>,
    topic: String,
    next: BTreeMap<i32, i64>,
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").field("topic", &self.topic).field("next", &self.next).finish_non_exhaustive()
    }
}

impl LogReader {
    /// Reads each partition from its offset in `from`, or from its beginning.
    ///
    /// # Errors
    /// When the topic cannot be reached, or has forgotten what `from` still needs.
    pub fn open(client: &Client, topic: &str, from: &BTreeMap<i32, i64>) -> anyhow::Result<Self> {
        let config = client.consumer("log", "larum-log");
        let consumer: BaseConsumer<Logging> =
            config.create_with_context(Logging).context("the Kafka consumer was refused")?;
        let metadata = consumer
            .fetch_metadata(Some(topic), METADATA_TIMEOUT)
            .with_context(|| format!("cannot reach {} for topic {topic:?}", client.brokers()))?;
        let partitions = metadata.topics().first().map_or(&[][..], |t| t.partitions());
        if partitions.is_empty() {
            bail!("topic {topic:?} does not exist");
        }
        let mut list = TopicPartitionList::new();
        let mut next = BTreeMap::new();
        for partition in partitions.iter().map(rdkafka::metadata::MetadataPartition::id) {
            let (low, high) = consumer.fetch_watermarks(topic, partition, METADATA_TIMEOUT)?;
            let offset = from.get(&partition).copied().unwrap_or(0);
            if offset < low {
                tracing::warn!(
                    topic,
                    partition,
                    expected = offset,
                    low_watermark = low,
                    lost = low - offset,
                    "the log has forgotten records"
                );
            }
            if offset > high {
                bail!(
                    "topic {topic:?} ends at offset {high}, but {offset} was read before: it was deleted and made anew; use a new store with it"
                );
            }
            let offset = offset.max(low);
            next.insert(partition, offset);
            list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        }
        consumer.assign(&list)?;
        Ok(Self { consumer, topic: topic.into(), next })
    }

    /// The offset to be read next, by partition.
    #[must_use]
    pub fn next(&self) -> &BTreeMap<i32, i64> {
        &self.next
    }

    /// The offset after the newest record, by partition.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn ends(&self) -> anyhow::Result<BTreeMap<i32, i64>> {
        self.next
            .keys()
            .map(|&partition| {
                Ok((partition, self.consumer.fetch_watermarks(&self.topic, partition, METADATA_TIMEOUT)?.1))
            })
            .collect()
    }

    /// The next record, if one comes within `timeout`.
    ///
    /// # Errors
    /// When reading cannot go on; what passes by itself (a broker away) is waited for.
    pub fn poll(&mut self, timeout: Duration) -> anyhow::Result<Option<LogRecord>> {
        match self.consumer.poll(timeout) {
            None => Ok(None),
            Some(Ok(message)) => {
                self.next.insert(message.partition(), message.offset() + 1);
                Ok(Some(LogRecord {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
                    key: message.key().map(<[u8]>::to_vec),
                    payload: message.payload().map(<[u8]>::to_vec),
                }))
            }
            Some(Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed),
            ))) => bail!("cannot go on reading topic {:?}: {code}", self.topic),
            Some(Err(error)) => {
                tracing::warn!(topic = self.topic, %error, "reading waits for the broker");
                Ok(None)
            }
        }
    }
}
