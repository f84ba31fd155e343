//! The poll thread: it owns the consumer of the events topic, hands records to their partition's owner, and answers rebalances.

use super::client::{Client, log_line};
use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded, tick};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, OwnedHeaders};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Larger batches gained nothing; smaller ones cost a wake-up per few records.
const BATCH_RECORDS_MAX: usize = 512;
const IDLE_POLL: Duration = Duration::from_millis(50);
const BROKER_TIMEOUT: Duration = Duration::from_secs(20);
/// A hand-over that waits longer pauses the partitions and goes on polling, or the group would take this member for dead.
const PATIENCE: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// One record of a batch; its bytes are ranges of `Batch::bytes`.
#[derive(Debug)]
pub struct RecordMeta {
    pub partition: i32,
    pub offset: i64,
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
    fn push(&mut self, message: &BorrowedMessage<'_>) {
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
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key,
            payload,
            headers: message.headers().map(|headers| headers.detach()),
        });
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

struct Rebalances<H> {
    topic: String,
    handover: Arc<H>,
    /// The offset expected next, by assigned partition.
    next: Mutex<BTreeMap<i32, i64>>,
    failure: Mutex<Option<anyhow::Error>>,
    stop: Arc<AtomicBool>,
}

impl<H: Handover> ClientContext for Rebalances<H> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka consumer reports an error");
    }
}

impl<H: Handover> ConsumerContext for Rebalances<H> {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> =
            list.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect();
        let result = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, &partitions)
        } else {
            self.revoke(consumer)
        };
        if let Err(error) = result {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

impl<H: Handover> Rebalances<H> {
    fn next(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, i64>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> anyhow::Result<()> {
        let metadata = consumer.fetch_metadata(Some(&self.topic), BROKER_TIMEOUT)?;
        let count = metadata.topics().first().map_or(0, |t| t.partitions().len());
        let mut list = TopicPartitionList::new();
        let mut next = BTreeMap::new();
        for &partition in partitions {
            let offset = self.resolve(consumer, partition)?;
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
            next.insert(partition, offset);
        }
        self.handover.positioned();
        for (&partition, &offset) in &next {
            let partitions = u32::try_from(count).unwrap_or(u32::MAX).max(1);
            self.hand_over(partition, SourceEvent::Assigned { partition, partitions, offset }, || {})?;
            tracing::info!(topic = self.topic, partition, offset, "partition assigned");
        }
        *self.next() = next;
        consumer.assign(&list)?;
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>) -> anyhow::Result<()> {
        // The owners commit on their own: this callback must not wait for them. What they commit is fenced by the offset.
        let revoked = std::mem::take(&mut *self.next());
        for &partition in revoked.keys() {
            self.hand_over(partition, SourceEvent::Revoked { partition }, || {})?;
            tracing::info!(topic = self.topic, partition, "partition revoked");
        }
        consumer.unassign()?;
        Ok(())
    }

    /// The offset to read from, which is at least the low watermark: what lies below is gone, and counted.
    fn resolve(&self, consumer: &BaseConsumer<Self>, partition: i32) -> anyhow::Result<i64> {
        let position = self.handover.position(partition)?;
        let (low, high) = consumer.fetch_watermarks(&self.topic, partition, BROKER_TIMEOUT)?;
        let offset = match position {
            Position::Beginning => low,
            Position::End => high,
            Position::Offset(offset) => offset,
            Position::Time(time_ms) => {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(&self.topic, partition, Offset::Offset(time_ms))?;
                match consumer
                    .offsets_for_times(list, BROKER_TIMEOUT)?
                    .find_partition(&self.topic, partition)
                    .map(|e| e.offset())
                {
                    Some(Offset::Offset(offset)) => offset,
                    _ => high,
                }
            }
        };
        if offset > high {
            bail!(
                "topic {:?} partition {partition} ends at offset {high}, but {offset} was scored before: the topic was deleted and made anew; use a new store with it",
                self.topic
            );
        }
        if offset < low {
            self.handover.lost(partition, low - offset);
            tracing::error!(
                topic = self.topic,
                partition,
                expected = offset,
                low_watermark = low,
                "records were deleted before they were read"
            );
        }
        Ok(offset.max(low))
    }

    /// Puts an event into the owner's inbox; `meanwhile` runs while that is full.
    fn hand_over(&self, partition: i32, event: SourceEvent, mut meanwhile: impl FnMut()) -> anyhow::Result<()> {
        let inbox = &self.handover.inboxes()[self.handover.owner(partition)];
        let mut message = H::Message::from(event);
        loop {
            match inbox.send_timeout(message, IDLE_POLL) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => {
                    if self.stop.load(Ordering::Acquire) {
                        return Ok(()); // what was not handed over is read again by the next start
                    }
                    message = back;
                    meanwhile();
                }
                // What was not taken over before the end is read again by the next start.
                Err(SendTimeoutError::Disconnected(_)) if self.stop.load(Ordering::Acquire) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => bail!("the owner of partition {partition} has stopped"),
            }
        }
    }
}

/// The source of events.
pub struct Source<H: Handover> {
    consumer: BaseConsumer<Rebalances<H>>,
    stop: Arc<AtomicBool>,
}

impl<H: Handover> std::fmt::Debug for Source<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl<H: Handover> Source<H> {
    /// Joins the group.
    ///
    /// # Errors
    /// When librdkafka refuses an option.
    pub fn open(
        client: &Client,
        group: &str,
        topic: &str,
        handover: Arc<H>,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        let mut config = client.consumer("source", group);
        for (key, value) in [
            ("fetch.wait.max.ms", "50"),
            ("topic.metadata.refresh.interval.ms", "10000"),
            ("queued.max.messages.kbytes", "65536"),
        ] {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        let context = Rebalances {
            topic: topic.into(),
            handover,
            next: Mutex::default(),
            failure: Mutex::default(),
            stop: stop.clone(),
        };
        let consumer: BaseConsumer<_> =
            config.create_with_context(context).context("the Kafka consumer was refused")?;
        consumer.subscribe(&[topic])?;
        Ok(Self { consumer, stop })
    }

    /// Polls until told to stop; tells the group the last offsets once `committed` is closed, and leaves it.
    ///
    /// # Errors
    /// When reading cannot go on.
    pub fn run(self, committed: &Receiver<()>) -> anyhow::Result<()> {
        let result = self.poll_until_stopped();
        // Whoever stops us waits for the last commits with a deadline of its own; on a failure nobody has closed it yet.
        if result.is_ok() {
            committed.recv().ok();
            self.tell_group(self.consumer.context(), CommitMode::Sync);
        }
        // Closing waits for the broker; where none answers, the process must still end.
        let (done, closed) = bounded::<()>(1);
        let consumer = self.consumer;
        std::thread::spawn(move || {
            drop(consumer);
            drop(done);
        });
        if closed.recv_timeout(CLOSE_TIMEOUT) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            tracing::warn!(
                "the consumer did not leave its group in time; the group will notice by its session timeout"
            );
        }
        result
    }

    fn poll_until_stopped(&self) -> anyhow::Result<()> {
        let context = self.consumer.context().clone();
        let mut batches: Vec<Batch> = context.handover.inboxes().iter().map(|_| Batch::default()).collect();
        let group_commits = tick(Duration::from_secs(1));
        let mut waiting = false;
        while !self.stop.load(Ordering::Acquire) {
            match self.consumer.poll(if waiting { Duration::ZERO } else { IDLE_POLL }) {
                Some(Ok(message)) => {
                    context.next().insert(message.partition(), message.offset() + 1);
                    let owner = context.handover.owner(message.partition());
                    batches[owner].push(&message);
                    waiting = true;
                    if batches[owner].records.len() >= BATCH_RECORDS_MAX {
                        self.flush(&context, &mut batches[owner])?;
                    }
                }
                None => {
                    for batch in &mut batches {
                        self.flush(&context, batch)?;
                    }
                    waiting = false;
                }
                Some(Err(error)) => self.on_error(&context, &error)?,
            }
            if let Some(error) = context.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(error);
            }
            if group_commits.try_recv().is_ok() {
                self.tell_group(&context, CommitMode::Async);
            }
        }
        Ok(())
    }

    fn flush(&self, context: &Rebalances<H>, batch: &mut Batch) -> anyhow::Result<()> {
        let Some(first) = batch.records.first() else { return Ok(()) };
        let partition = first.partition;
        let mut waits = 0;
        let mut paused = None;
        let mut seek_failed = None;
        let records = std::mem::take(batch);
        context.hand_over(partition, SourceEvent::Records(records), || {
            waits += 1;
            if IDLE_POLL * waits < PATIENCE {
                return;
            }
            if paused.is_none() {
                tracing::warn!(
                    partition,
                    "scoring does not keep up (is the broker or the store away?); reading is paused"
                );
                paused = self.consumer.assignment().ok();
                if let Some(all) = &paused
                    && let Err(error) = self.consumer.pause(all)
                {
                    tracing::warn!(%error, "cannot pause");
                }
            }
            // Paused partitions deliver nothing; this poll only tells the group that we live. A rebalance waits its turn.
            if let Some(Ok(message)) = self.consumer.poll(Duration::ZERO) {
                let (partition, offset) = (message.partition(), message.offset());
                if let Err(error) =
                    self.consumer.seek(&context.topic, partition, Offset::Offset(offset), BROKER_TIMEOUT)
                {
                    seek_failed.get_or_insert(error);
                }
            }
        })?;
        if let Some(all) = paused {
            self.consumer.resume(&all)?;
        }
        seek_failed
            .map_or(Ok(()), |error| Err(error).context("a record that came while paused could not be read again"))
    }

    fn on_error(&self, context: &Rebalances<H>, error: &KafkaError) -> anyhow::Result<()> {
        let KafkaError::MessageConsumption(code) = error else {
            tracing::warn!(%error, "reading waits for the broker");
            return Ok(());
        };
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => self.skip_what_is_gone(context),
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::Fatal
            | RDKafkaErrorCode::UnstableOffsetCommit => {
                bail!("cannot go on reading topic {:?}: {code}", context.topic)
            }
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                bail!("topic {:?} does not exist (any more)", context.topic)
            }
            _ => {
                tracing::warn!(%error, "reading waits for the broker");
                Ok(())
            }
        }
    }

    /// The broker has deleted records that were still to be read: they are counted, and reading goes on after them.
    fn skip_what_is_gone(&self, context: &Rebalances<H>) -> anyhow::Result<()> {
        let positions = context.next().clone();
        for (partition, expected) in positions {
            let (low, _) = self.consumer.fetch_watermarks(&context.topic, partition, BROKER_TIMEOUT)?;
            if expected < low {
                context.handover.lost(partition, low - expected);
                tracing::error!(
                    topic = context.topic,
                    partition,
                    expected,
                    low_watermark = low,
                    "records were deleted before they were read"
                );
                self.consumer.seek(&context.topic, partition, Offset::Offset(low), BROKER_TIMEOUT)?;
                context.next().insert(partition, low);
            }
        }
        Ok(())
    }

    fn tell_group(&self, context: &Rebalances<H>, mode: CommitMode) {
        let assigned = context.next().clone();
        let mut list = TopicPartitionList::new();
        for (partition, offset) in context.handover.committed() {
            if assigned.contains_key(&partition)
                && let Err(error) = list.add_partition_offset(&context.topic, partition, Offset::Offset(offset))
            {
                tracing::warn!(%error, "cannot tell the group an offset");
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, mode)
        {
            tracing::debug!(%error, "the group was not told the offsets; only lag tools need them");
        }
    }
}
